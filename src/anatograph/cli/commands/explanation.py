"""The commands that explain: explain, reference, deviation, similar and change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.choices import MapScale, ProbeKind, Task
from anatograph.cli.command import argument, option, optional_argument, required
from anatograph.cli.commands.options import Comparison, Excluding
from anatograph.cli.output import counter, finish
from anatograph.errors import counted


@dataclass(frozen=True, kw_only=True)
class Explain(Excluding):
    """Heatmaps of the evidence for a target, on the scan's own grid."""

    page = "explain.md"
    study: Path = argument("STUDY", "folder of the study")
    embeddings: Path = argument("EMBEDDINGS", "table that `embed` wrote for this study")
    cohort: Path = argument("COHORT", "table with the labels")
    target: str = required("column to explain", metavar="NAME")
    subjects: tuple[str, ...] = required("scans to explain", flag="--subject", metavar="ID")
    out: Path = required("folder for ID_TARGET.nii.gz and .png", metavar="DIR")
    group: str | None = option(
        None, "column that identifies the patient; the probe is fitted without their other scans", metavar="COLUMN"
    )
    task: Task | None = option(None, "kind of the target, where the guess is wrong")
    class_name: str | None = option(
        None, "class to explain", unset="the last of two, or the predicted one", flag="--class", metavar="CLASS"
    )
    every_class: bool = option(False, "also a map of each class, ID_TARGET_CLASS.nii.gz")
    scale: MapScale = option("relative", "relative to the training subjects, or eq. 10 as printed")
    probe: ProbeKind = option(
        "evaluate",
        "the probe that `evaluate` scored, or the one with the smoothest map among those of similar accuracy",
    )
    even_if_useless: bool = option(False, "draw maps of a probe that is not better than chance, too")
    saved_probe: Path | None = option(
        None, "explain this probe, which `evaluate --save-probe` wrote, in place of a new one", metavar="DIR"
    )
    log: bool = option(False, "take the logarithm of the target")
    folds: int = option(5, "as in `evaluate`")
    seed: int = option(0, "of the folds, as in `evaluate`")

    def execute(self) -> int:
        """Write the maps."""
        done = self.call(progress=counter)
        print(f"Explanations: {self.out} ({counted(len(done.maps), 'map')})")
        return finish(done.account)


@dataclass(frozen=True, kw_only=True)
class Deviation(Comparison):
    """What is unusual for its place compared with reference subjects, without labels.

    A single CT needs no study: it is compared with the reference of the model that ships with the package."""

    page = "explain.md"
    study: Path = argument("STUDY_OR_SCAN", "a study, or a single CT: a volume file or a DICOM folder")
    embeddings: Path | None = optional_argument("EMBEDDINGS", "of a study, the table that `embed` wrote")
    subjects: tuple[str, ...] = option((), "of a study, the scans to look at", flag="--subject", metavar="ID")
    reference: str | None = option(
        None, "a file that `reference` wrote, shipped (that of the package's model), or reference subjects",
        unset="all subjects; of a CT, that of the model", metavar="FILE|shipped|COLUMN=VALUE",
    )  # fmt: skip
    model: Path | None = option(
        None, "of a CT, the model that embeds it", unset="the model that ships", metavar="MODEL"
    )
    out: Path = required("folder for ID_deviation.nii.gz and .png", metavar="DIR")

    def execute(self) -> int:
        """Write the maps and print the most unusual regions."""
        done = self.call(progress=counter)
        print(f"Reference: {done.found[0].reference}")
        for found in done.found:
            print(f"{found.subject_id}: {100 * found.share:.1f} % of the regions are unusual (2.3 % in the reference); "
                  f"as many or more in {100 * found.p:.0f} % of the reference subjects")  # fmt: skip
            for _, row in found.table.head(5).iterrows():
                print(f"  {row['deviation']:5.1f}  {row['place']} (landmark {row['landmark']}, q {row['q']:.2g})")
        print(f"Deviations: {self.out} ({counted(len(done.maps), 'map')})")
        return finish(done.account)


@dataclass(frozen=True, kw_only=True)
class Reference(Excluding):
    """Write what is normal at each landmark, from healthy scans, for `deviation`."""

    page = "explain.md"
    study: Path = argument("STUDY", "folder of a study with at least 10 healthy scans, better 30 or more")
    out: Path = argument("OUT", "the file to write, OUT.safetensors; it holds statistics only")
    where: str | None = option(None, "subjects to use", unset="all", metavar="COLUMN=VALUE")
    model: Path | None = option(None, "model that embeds them", unset="the model that ships", metavar="MODEL")
    cohort: Path | None = option(
        None, "table with the columns of --where and --group", unset="the one the study was made from", metavar="COHORT"
    )
    group: str | None = option(
        None, "column that identifies the patient, where some have several scans", metavar="COLUMN"
    )
    of: str | None = option(None, "who they are, shown wherever the reference is used", metavar="TEXT")
    seed: int = option(0)

    def execute(self) -> int:
        """Write the file and say what it is of."""
        from anatograph.execution.progress import Progress

        with Progress("reference", 0, "scan") as bar:
            done = self.call(progress=bar.reached)
        print(f"Reference: {done.path} ({done.saved})")
        return finish(done.account)


@dataclass(frozen=True, kw_only=True)
class Similar(Excluding):
    """Find the subjects, and the regions, most similar to a subject's."""

    page = "explain.md"
    embeddings: Path = argument("EMBEDDINGS", "table that `embed` wrote")
    subject: str = required("scan to compare with", metavar="ID")
    k: int = option(5, "number of neighbours", flag="-k", metavar="N", minimum=1)
    study: Path | None = option(None, "study, for regions and pictures", metavar="STUDY")
    landmarks: tuple[int, ...] = option(
        (), "regions to find neighbours of", unset="the four most unusual", flag="--landmark", metavar="J"
    )
    out: Path = required("folder for ID_similar.csv and .png", metavar="DIR")
    cohort: Path | None = option(None, "table with the column of --group", metavar="COHORT")
    group: str | None = option(
        None, "column that identifies the patient; their other scans are excluded", metavar="COLUMN"
    )
    seed: int = option(0)

    def execute(self) -> int:
        """Write the tables and print the nearest subjects."""
        done = self.call()
        for _, row in done.subjects.iterrows():
            print(f"  {row['rank']}. {row['subject_id']}  distance {row['distance']:.2f}, nearer than "
                  f"{100 * row['closer_than']:.0f} % of all pairs")  # fmt: skip
        print(f"Similar: {self.out}")
        return finish(done.account)


@dataclass(frozen=True, kw_only=True)
class Change(Comparison):
    """What changed between two scans of one patient, region by region."""

    page = "explain.md"
    study: Path = argument("STUDY", "folder of the study")
    embeddings: Path = argument("EMBEDDINGS", "table that `embed` wrote for this study")
    before: str = required("the earlier scan", metavar="ID")
    after: str = required("the later scan, on whose grid the maps are", metavar="ID")
    out: Path = required("folder for BEFORE_AFTER_change.nii.gz", metavar="DIR")
    repeat_scans: str | None = option(
        None,
        "column whose equal values are scans of one patient on the same day, for the error of every region",
        metavar="COLUMN",
    )

    def execute(self) -> int:
        """Write the maps and print the regions that changed most."""
        done = self.call()
        for _, row in done.table.head(5).iterrows():
            beyond = {1.0: ", beyond repeat scans", 0.0: ", within repeat scans"}.get(row.get("beyond_repeat"), "")
            print(f"  {row['place']} (landmark {row['landmark']:.0f}): moved {row['shift']:.2f}, deviation "
                  f"{row['deviation_before']:.1f} -> {row['deviation_after']:.1f}{beyond}")  # fmt: skip
        if done.repeats is not None:
            share = done.account.results["share_beyond_repeat"]
            print(f"{100 * share:.0f} % of the regions changed by more than repeat scans of one day do; among repeat "
                  f"scans themselves {100 * done.repeats.share_beyond:.0f} %")  # fmt: skip
        print(f"Change: {self.out} ({counted(len(done.maps), 'map')})")
        return finish(done.account)
