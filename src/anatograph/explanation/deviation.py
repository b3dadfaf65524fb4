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
from anatograph.execution.account import RunAccount
from anatograph.explanation.legend import MapLegend
from anatograph.explanation.map_files import RegionMap, file_stem
from anatograph.explanation.reference import reference_cohort
from anatograph.explanation.run import explanation_run, listed

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
    embeddings: str | Path,
    subjects: Sequence[str] | str,
    out: str | Path,
    cohort: str | Path | None = None,
    reference: str | None = None,
    group: str | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Deviations:
    """Maps and tables of what is unusual for its place in the scans of some subjects.

    At each landmark the features h' of the reference subjects (all in the embeddings, or those with ``reference``
    "COLUMN=VALUE" in the cohort) have a robust centre and a shrunk covariance; the Mahalanobis distance of a subject
    from them, calibrated on held-out reference subjects, is its deviation in normal units.  A subject that is itself
    in the reference is left out of it, together with the rest of its ``group``.

    Raises:
        UserError: files that do not belong together, too few reference subjects, or no subject that worked.
    """
    wanted = listed(subjects)
    settings = {"subjects": wanted, "cohort": None if cohort is None else str(cohort), "reference": reference,
                "group": group, "seed": seed}  # fmt: skip
    with explanation_run("deviation", out, study, embeddings, **settings) as run:
        regions, atlas = run.regions, run.study.atlas
        compared, notes = reference_cohort(regions, cohort, reference, group, seed)
        run.note(notes)
        where = places(atlas)

        def one(name: str) -> tuple[Path, Deviation]:
            run.study.subject(name)
            nodes = regions.unwhitened(name)
            calibrated, kept = compared.without([name])
            values = calibrated.deviation(nodes)
            share, p = calibrated.burden_of(values)
            columns = chances(values)
            top = strongest(values, atlas, 10)
            table = pd.DataFrame({"landmark": top, "place": [where[j] for j in top], "deviation": values[top],
                                  **{key: column[top] for key, column in columns.items()}})  # fmt: skip
            score = {"share_above_2": share, "expected": 0.0228, "p": p, "reference_subjects": int(kept.sum()),
                     "reference": reference or "all subjects"}  # fmt: skip
            shown = RegionMap(name, np.maximum(values, 0), deviation_legend(name, reference),
                              {"deviation": values, **columns}, score, values)  # fmt: skip
            return run.write(shown, file_stem(name, "deviation")), Deviation(name, values, share, p, table)

        pairs = run.each(wanted, one, progress)
        done = [found for _, found in pairs]
        run.account.result(subjects={d.subject_id: {"share_above_2": d.share, "p": d.p} for d in done})
    return Deviations([path for path, _ in pairs], done, run.account)


def deviation_legend(subject_id: str, reference: str | None) -> MapLegend:
    """The meaning of a deviation map."""
    group = f"subjects with {reference}" if reference else "the other subjects"
    ticks = {0.0: "0  usual here", 2.0: "2  beyond 98 % of\nthe reference", 3.0: "3  beyond 99.9 %", 4.5: "4.5",
             6.0: "6  far outside"}  # fmt: skip
    return MapLegend(
        "deviation", f"{subject_id}: unusual for its place, compared with {group}",
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
