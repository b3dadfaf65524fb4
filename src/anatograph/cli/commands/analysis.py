"""The commands that score embeddings, and predict by them: evaluate, audit, predict and benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from anatograph.choices import BenchmarkPreset, Device, Question, Task
from anatograph.cli.command import Command, argument, option, required
from anatograph.cli.commands.options import Scoring, Selecting
from anatograph.cli.output import DONE, finish, say
from anatograph.errors import UserError, counted

_COHORT_STUDY = "covariates, sites, visits and sample size"
_FURTHER = {
    "survival": "Survival, over all held-out subjects at once",
    "adjusted": "What the embedding adds to the covariates",
    "harmonisation": "Without and with harmonisation, on the same folds",
    "learning_curve": "By number of training subjects",
}
_BREATHS = "inspiration and expiration"
_MODELS = "models and weights of the rows (default: pretrained on the study)"


@dataclass(frozen=True, kw_only=True)
class Evaluate(Scoring):
    """Cross-validated linear, logistic or Cox probe for each target.

    A target EVENT:TIME, such as death:years, is the time to an event: 1 in the first column where it was observed.
    """

    page = "evaluation.md"
    embeddings: Path = argument("EMBEDDINGS", "table that `embed` wrote")
    cohort: Path = argument("COHORT", "table with the labels")
    out: Path | None = option(None, "folder for results.csv and predictions.parquet", metavar="DIR")
    save_probe: Path | None = option(None, "folder for probes fitted on all subjects, for `predict`", metavar="DIR")
    permutations: int = option(0, "repeat N times with permuted targets, for the level of chance", metavar="N")
    adjust: tuple[str, ...] = option(
        (), "covariates: what the embedding adds to them", metavar="COLUMN", group=_COHORT_STUDY
    )
    harmonise: str | None = option(
        None,
        "remove the effects of a column such as the site from the features (ComBat), within the training folds",
        metavar="COLUMN",
        group=_COHORT_STUDY,
    )
    keep: tuple[str, ...] = option(
        (), "columns whose effects --harmonise leaves in", metavar="COLUMN", group=_COHORT_STUDY
    )
    learning_curve: bool = option(False, "also score with fewer training subjects", group=_COHORT_STUDY)
    visit_time: str | None = option(
        None, "time of each visit, for --task NAME=slope", metavar="COLUMN", group=_COHORT_STUDY
    )
    join: Path | None = option(
        None,
        "further table by subject_id, such as that of densitometry, whose columns can be named too",
        metavar="TABLE",
        group=_COHORT_STUDY,
    )
    task: tuple[str, ...] = option(
        (),
        "NAME=regression, =classification, =ordinal (a grade) or =slope (its rate over visits); a single TASK applies "
        "to all",
        metavar="NAME=TASK",
        passed=False,
    )
    seed: int = option(0, "of the folds")

    def execute(self) -> int:
        """Score and print the table of results."""
        found = self.call(task=_tasks(self.task, self.targets, get_args(Question)), progress=say)
        for note in found.notes:
            say(f"note: {note}")
        print("One figure per target, held out, with its 95 % interval:")
        print(found.headlines.round(3).to_string(index=False))
        print("\nAll figures, mean and standard deviation over the folds:")
        print(found.results.round(3).to_string(index=False))
        if found.permutations is not None:
            print(found.permutations.round(3).to_string(index=False))
        for name, title in _FURTHER.items():
            if name in found.tables:
                print(f"\n{title}:\n{found.tables[name].round(3).to_string(index=False)}")
        print(f"Evaluation: {self.out}" if self.out else "Nothing was written; give --out DIR to keep the results.")
        return DONE


@dataclass(frozen=True, kw_only=True)
class Audit(Selecting):
    """What else the embedding encodes: age, sex, site, kernel, slice thickness, dose, breath."""

    page = "evaluation.md"
    embeddings: Path = argument("EMBEDDINGS", "table that `embed` wrote")
    cohort: Path = argument("COHORT", "table with age, sex, site and the like")
    out: Path = required("folder for audit.csv and audit.png", metavar="DIR")
    columns: tuple[str, ...] = option(
        (), "columns to audit", unset="those with a known name", flag="--column", metavar="NAME"
    )
    targets: tuple[str, ...] = option(
        (), "targets that may share their direction with them", flag="--target", metavar="NAME"
    )
    folds: int = option(5)
    group: str | None = option(None, "column whose equal values stay in one fold", metavar="COLUMN")
    seed: int = option(0, "of the folds")

    def execute(self) -> int:
        """Audit and print the tables."""
        found = self.call(progress=say)
        print(found.table.round(3).to_string(index=False))
        if len(found.shared):
            print("\nTargets and what they share with it:")
            print(found.shared.round(3).to_string(index=False))
        print(f"Audit: {self.out}")
        return finish(found.account)


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Predict targets of new subjects by saved probes, with intervals."""

    page = "evaluation.md"
    probe: Path = argument("PROBE", "folder that `evaluate --save-probe` wrote")
    source: Path = argument("SCAN_OR_EMBEDDINGS", "a table of embeddings, or one CT with --model")
    out: Path = argument("OUT", "a .csv or .parquet file")
    model: Path | None = option(None, "for a CT, the model folder of the probe's cohort", metavar="MODEL")

    def execute(self) -> int:
        """Predict and print the table."""
        found = self.call(say=say)
        print(found.table.round(3).to_string(index=False, max_rows=20))
        return finish(found.account)


@dataclass(frozen=True, kw_only=True)
class Benchmark(Scoring):
    """Every method of the paper's tables on the same folds."""

    page = "benchmark.md"
    study: Path = argument("STUDY", "folder of the study")
    cohort: Path = argument("COHORT", "table with the labels")
    out: Path = required("folder of results; run again, it continues", metavar="DIR")
    methods: tuple[str, ...] | None = option(None, "rows, such as anatograph moco", unset="all", metavar="METHOD")
    covariates: tuple[str, ...] | None = option(
        None, "columns of the baseline without a scan", unset="age, sex and site, where present", metavar="COLUMN"
    )
    preset: BenchmarkPreset = option("default", "network sizes of the original papers, or small ones for two cores")
    region_truth: bool = option(False, "also score region by region, where there are disease masks")
    seed: int = option(0, "of folds and methods")
    device: Device = option("auto")
    model: Path | None = option(
        None,
        "for anatograph and the rows made of it: RUN/model, or the name of a release",
        metavar="MODEL",
        group=_MODELS,
        passed=False,
    )
    model_without_ce: Path | None = option(
        None, "a model without location codes", metavar="MODEL", group=_MODELS, passed=False
    )
    model_without_graph: Path | None = option(
        None, "if other than that of --model", metavar="MODEL", group=_MODELS, passed=False
    )
    pretrained_on: str | None = option(
        None, "cohort that the given models were trained on, for the table", metavar="NAME", group=_MODELS
    )
    weights: tuple[str, ...] = option(
        (), "published weights: medicalnet=FILE, models-genesis=FILE", metavar="METHOD=FILE", group=_MODELS,
        passed=False,
    )  # fmt: skip
    embeddings: tuple[str, ...] = option(
        (), "vectors of another tool, a table with subject_id and numeric columns, as a row of that name",
        metavar="NAME=FILE", group=_MODELS, passed=False,
    )  # fmt: skip
    region_embeddings: tuple[str, ...] = option(
        (), "its region features: subject_id, landmark and numeric columns, or a .regions.zarr",
        metavar="NAME=FILE", group=_MODELS, passed=False,
    )  # fmt: skip
    pretrain_preset: str | None = option(
        None, "preset of `pretrain` for rows that are pretrained on the study", unset="the benchmark's",
        metavar="PRESET", group=_MODELS, passed=False,
    )  # fmt: skip
    pretrain_settings: tuple[str, ...] = option(
        (), "further settings of that pretraining", flag="--set", metavar="KEY=VALUE", group=_MODELS, passed=False
    )
    allow_random: bool = option(
        False, "use random weights for a row whose weights are not given", group=_MODELS, passed=False
    )

    def execute(self) -> int:
        """Score all rows and print the table."""
        from anatograph import MethodOptions

        models = {
            "anatograph": self.model, "without-ce": self.model_without_ce, "without-graph": self.model_without_graph,
        }  # fmt: skip
        given = {slug: path for slug, path in models.items() if path is not None}
        done = self.call(
            methods=_words(self.methods),
            covariates=_words(self.covariates),
            task=_tasks(self.task, self.targets, get_args(Task)),
            options=MethodOptions(
                given,
                _files("--weights", self.weights, "medicalnet=resnet_50_23dataset.pth"),
                self.allow_random,
                embeddings=_files("--embeddings", self.embeddings),
                region_embeddings=_files("--region-embeddings", self.region_embeddings),
                pretrain_preset=self.pretrain_preset,
                pretrain_settings=self.pretrain_settings,
            ),
            say=say,
        )
        print(done.table)
        print(f"Benchmark: {self.out} (table.md, results.csv, comparisons.csv, predictions.parquet)")
        return finish(done.account)


@dataclass(frozen=True, kw_only=True)
class Densitometry(Command):
    """Quantitative CT of a study: volume, mass and density by lung, side, third, lobe and landmark."""

    page = "densitometry.md"
    study: Path = argument("STUDY", "folder of the study")
    out: Path = argument("OUT.parquet", "table to write; OUT.landmarks.parquet is written beside it")
    lobes: Path | None = option(None, "folder of lobe masks, SUBJECT_ID.nii.gz", metavar="FOLDER")
    workers: int = option(1, "scans measured at once", metavar="N", minimum=1)
    pair_by: str | None = option(
        None,
        "column whose equal values are the two breaths of a patient: adds parametric response mapping",
        metavar="COLUMN",
        group=_BREATHS,
    )
    breath: str | None = option(
        None,
        "column that begins with insp or exp (default: the larger lungs are the inspiration)",
        metavar="COLUMN",
        group=_BREATHS,
    )
    cohort: Path | None = option(None, "table with these columns", metavar="COHORT", group=_BREATHS)

    def execute(self) -> int:
        """Measure and name the tables."""
        from anatograph.execution.progress import Progress

        with Progress("densitometry", 0, "scan") as bar:
            done = self.call(progress=bar.reached)
        print(f"Densitometry: {done.path} ({counted(len(done.table), 'subject')}, {done.table.shape[1] - 1} measures)")
        if done.pairs is not None:
            print(f"Response of inspiration and expiration: {counted(len(done.pairs), 'pair')}")
        return finish(done.account)


def _tasks(texts: Sequence[str], targets: Sequence[str], kinds: Sequence[str]) -> Any:
    """``NAME=TASK`` texts as a mapping; one bare TASK as itself."""
    if len(texts) == 1 and texts[0] in kinds:
        return texts[0]
    pairs = dict(text.rpartition("=")[::2] for text in texts)
    wrong = [text for text in texts if text.rpartition("=")[0] not in targets or text.rpartition("=")[2] not in kinds]
    if wrong:
        choices = ", ".join(f"TARGET={kind}" for kind in kinds[:-1])
        raise UserError(f"--task {wrong[0]} must be {choices} or TARGET={kinds[-1]}.")
    return pairs or None


def _files(flag: str, texts: Sequence[str], example: str = "ct-fm=vectors.parquet") -> dict[str, Path]:
    """``NAME=FILE`` texts as a mapping; ``example`` of one for the message."""
    wrong = [text for text in texts if not all(text.partition("=")[::2])]
    if wrong:
        raise UserError(f"{flag} {wrong[0]} must be NAME=FILE, such as {example}.")
    names = [text.partition("=")[0] for text in texts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{flag} names {twice[0]} more than once; give each file a name of its own.")
    return {name: Path(file) for name, _, file in (text.partition("=") for text in texts)}


def _words(texts: Sequence[str] | None) -> list[str] | None:
    """Words given as ``a b`` or as ``a,b``; None where the option is absent."""
    return None if texts is None else [word for text in texts for word in text.split(",") if word]
