"""What is unusual in a scan, region by region, compared with reference subjects; no labels are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.anatomy.places import places, strongest
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.explanation.legend import MapLegend
from anatograph.explanation.map_files import RegionMap, file_stem
from anatograph.explanation.norms.saved import SavedReference, load_reference
from anatograph.explanation.norms.use import check_reference, reference_of_scan, saved_reference, vectors_of_scan
from anatograph.explanation.reference import ReferenceCohort, reference_cohort
from anatograph.explanation.run import ExplanationRun, explanation_run, listed

UNUSUAL = 2.0
"""Deviation from which a region is called unusual: 2.3 % of the regions of reference subjects exceed it."""


@dataclass(frozen=True, eq=False)
class Deviation:
    """How unusual the regions of one subject are."""

    subject_id: str
    """Whose scan."""
    values: NDArray[np.float64]
    """(N,) calibrated deviation in normal units, one-sided; NaN where the scan does not reach."""
    share: float
    """Share of the regions with a deviation above 2; 0.023 in the reference subjects on average."""
    p: float
    """Share of the reference subjects (and this one) with as many or more."""
    table: pd.DataFrame
    """The most deviating regions, the strongest first: landmark, place, deviation, p, q."""
    reference: str
    """Whose reference it was compared with, its size and make-up."""
    reference_size: int
    """How many reference subjects it was compared with."""


@dataclass(frozen=True, eq=False)
class Deviations:
    """What `deviation` wrote."""

    maps: list[Path]
    """The NIfTI files."""
    found: list[Deviation]
    """In the same order."""
    account: RunAccount
    """Settings, failures and figures."""


def deviation(
    study: str | Path,
    embeddings: str | Path | None = None,
    subjects: Sequence[str] | str = (),
    out: str | Path | None = None,
    cohort: str | Path | None = None,
    reference: str | Path | None = None,
    group: str | None = None,
    seed: int = 0,
    *,
    model: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    exclude: Sequence[str] = (),
) -> Deviations:
    """Maps and tables of what is unusual for its place in the scans of some subjects.

    At each landmark the features h' of the reference subjects have a robust centre and a shrunk covariance; the
    Mahalanobis distance of a subject from them, calibrated on held-out reference subjects, is its deviation in normal
    units.  The notes, the maps and their JSON say whose reference it is, its size and its make-up.

    Args:
        study: a study; or, without ``embeddings``, a single CT: a volume file or a folder with a DICOM series.
        embeddings: of the study.
        subjects: of the study; of a CT its name may be given.
        out: folder for the maps.
        cohort: table with the columns of ``reference`` and ``group``.
        reference: "COLUMN=VALUE" of the cohort table; a file that `anatograph.reference` wrote; or "shipped", the
            reference of the model that ships with the package.  By default all subjects in the embeddings, and for a
            single CT the reference of the model.  A subject that is itself among the subjects in the embeddings is left
            out of the reference, together with the rest of its ``group``.
        group: column whose equal values are one patient.
        seed: of the parts in which reference subjects are measured against each other.
        model: for a CT, the model that embeds it; the release that ships with the package if not given.
        progress: called with each subject that is done.
        exclude: subjects of the embeddings that are no reference.

    Raises:
        UserError: files that do not belong together, too few reference subjects, a reference of another model, or no
            subject that worked.
    """
    wanted = listed(subjects)
    if out is None:
        raise UserError("Give the folder for the maps: --out DIR.")
    given = {"cohort": None if cohort is None else str(cohort), "group": group, "seed": seed,
             "reference": None if reference is None else str(reference), "exclude": list(exclude)}  # fmt: skip
    if embeddings is None:
        if cohort is not None or group is not None:
            raise UserError("--cohort and --group are for a study and its embeddings, not for a single CT.")
        if exclude:
            raise UserError("--exclude is for a study and its embeddings, not for a single CT.")
        with vectors_of_scan(Path(study), wanted, model) as scan:
            saved = reference_of_scan(reference, scan.model)
            said = {"scan": str(study), "model": str(scan.model), "subjects": [scan.subject_id], **given}
            with explanation_run("deviation", out, scan.study, scan.vectors, **said) as run:
                run.account.settings |= {"study": None, "embeddings": None}
                run.note(scan.notes)
                return _deviations(run, [scan.subject_id], saved, progress)
    with explanation_run("deviation", out, study, embeddings, subjects=wanted, **given) as run:
        if not wanted:
            raise UserError("Name the scans of the study to look at: --subject ID.")
        compared: ReferenceCohort | SavedReference
        if (file := saved_reference(reference)) is not None:
            if exclude:
                raise UserError(f"--exclude cannot take scans out of {file}, which holds statistics only; make the "
                                "reference again with `anatograph reference --exclude`.")  # fmt: skip
            compared = load_reference(file)
        else:
            compared, notes = reference_cohort(run.regions, cohort, None if reference is None else str(reference),
                                               group, seed, exclude)  # fmt: skip
            run.note(notes)
        return _deviations(run, wanted, compared, progress)


def _deviations(
    run: ExplanationRun,
    wanted: list[str],
    compared: ReferenceCohort | SavedReference,
    progress: Callable[[str, int, int], None] | None,
) -> Deviations:
    """Measure and map the subjects."""
    regions, atlas = run.regions, run.study.atlas
    where = places(atlas)
    if isinstance(compared, SavedReference):
        check_reference(compared, regions)
        run.note([f"the reference is {compared}"])
    whom = str(compared)

    def one(name: str) -> tuple[Path, Deviation]:
        run.study.subject(name)
        nodes = regions.unwhitened(name)
        if isinstance(compared, SavedReference):
            calibrated, size = compared.calibrated, compared.subjects
        else:
            calibrated, kept = compared.without([name])
            size = int(kept.sum())
        values = calibrated.deviation(nodes)
        share, p = calibrated.burden_of(values)
        columns = chances(values)
        top = strongest(values, atlas, 10)
        table = pd.DataFrame({"landmark": top, "place": [where[j] for j in top], "deviation": values[top],
                              **{key: column[top] for key, column in columns.items()}})  # fmt: skip
        score = {"share_above_2": share, "expected": 0.0228, "p": p, "reference_subjects": size, "reference": whom}
        shown = RegionMap(name, np.maximum(values, 0), deviation_legend(name, whom),
                          {"deviation": values, **columns}, score, values)  # fmt: skip
        return run.write(shown, file_stem(name, "deviation")), Deviation(name, values, share, p, table, whom, size)

    pairs = run.each(wanted, one, progress)
    done = [found for _, found in pairs]
    run.account.result(
        subjects={d.subject_id: {"share_above_2": d.share, "p": d.p} for d in done}, reference=whom,
        reference_size=done[0].reference_size,
    )  # fmt: skip
    return Deviations([path for path, _ in pairs], done, run.account)


def deviation_legend(subject_id: str, whom: str) -> MapLegend:
    """The meaning of a deviation map; ``whom`` are the reference subjects."""
    ticks = {0.0: "0  usual here", 2.0: "2  beyond 98 % of\nthe reference", 3.0: "3  beyond 99.9 %", 4.5: "4.5",
             6.0: "6  far outside"}  # fmt: skip
    return MapLegend(
        "deviation", f"{subject_id}: unusual for its place, compared with {whom}",
        "deviation from the reference subjects at the same landmark, in normal units",
        "unusual for this place, in any direction", None, 0.0, (0.0, 6.0), ticks, intent_code=5,
    )  # fmt: skip


def chances(values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """One-sided p of deviations (N,), and q, the false discovery rate of Benjamini and Hochberg within the subject."""
    from scipy.stats import false_discovery_control, norm

    p = np.asarray(norm.sf(values), dtype=np.float64)
    q = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return {"p": p, "q": q}
