"""What is unusual in a scan, region by region, against reference people; no labels are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.anatomy.places import places, strongest
from anatograph.embedding.regions import open_pair
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.explanation.map_files import RegionMap, file_stem, write_map
from anatograph.explanation.map_words import MapWords
from anatograph.explanation.reference import reference_people

UNUSUAL = 2.0
"""Deviation from which a region is called unusual: 2.3 % of the reference people's regions have it."""


@dataclass(frozen=True, eq=False)
class Deviation:
    """How unusual the regions of one subject are."""

    subject_id: str
    """Who."""
    values: NDArray[np.float64]
    """(N,) calibrated deviation in normal units, one-sided; NaN where the scan does not reach."""
    share: float
    """Share of the regions with a deviation above 2; 0.023 in the reference people on average."""
    p: float
    """Share of the reference people (and this one) with as many or more."""
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

    At each landmark the features h' of the reference people (everybody in the embeddings, or those with
    ``reference`` "COLUMN=VALUE" in the cohort) have a robust centre and a shrunk covariance; the Mahalanobis distance
    of a subject from them, calibrated on reference people who were left out in turn, is its deviation in normal
    units.  A subject who is in the reference (and the rest of its ``group``) is left out of it.

    Raises:
        UserError: files that do not belong together, too few reference people, or no subject that worked.
    """
    wanted = [subjects] if isinstance(subjects, str) else list(dict.fromkeys(subjects))
    settings = {"study": str(study), "embeddings": str(embeddings), "subjects": wanted,
                "cohort": None if cohort is None else str(cohort), "reference": reference, "group": group,
                "seed": seed}  # fmt: skip
    folder = Path(out)
    with RunAccount("deviation", settings, folder) as account:
        opened, regions = open_pair(study, embeddings)
        people, notes = reference_people(regions, cohort, reference, group, seed)
        for note in notes:
            account.note(note)
        where = places(opened.atlas)
        maps: list[Path] = []
        done: list[Deviation] = []
        for number, name in enumerate(wanted, start=1):
            try:
                subject = opened.subject(name)
                nodes = regions.unwhitened(name)
                calibrated, kept = people.without([name])
                values = calibrated.deviation(nodes)
                share, p = calibrated.burden_of(values)
                columns = chances(values)
                top = strongest(values, opened.atlas, 10)
                table = pd.DataFrame({"landmark": top, "place": [where[j] for j in top], "deviation": values[top],
                                      **{key: column[top] for key, column in columns.items()}})  # fmt: skip
                score = {"share_above_2": share, "expected": 0.0228, "p": p, "reference_people": int(kept.sum()),
                         "reference": reference or "everybody"}  # fmt: skip
                shown = RegionMap(name, np.maximum(values, 0), deviation_words(name, reference),
                                  {"deviation": values, **columns}, score, values)  # fmt: skip
                maps.append(
                    write_map(shown, subject, opened.atlas, folder, file_stem(name, "deviation"), None, account)
                )
                done.append(Deviation(name, values, share, p, table))
            except UserError as error:
                if len(wanted) == 1:
                    raise
                account.fail(name, "deviation", str(error))
                continue
            if progress:
                progress(name, number, len(wanted))
        if not maps:
            raise UserError(f"None of the subjects could be looked at; the first: {account.failures[0].reason}")
        account.result(subjects={d.subject_id: {"share_above_2": d.share, "p": d.p} for d in done})
    return Deviations(maps, done, account)


def deviation_words(subject_id: str, reference: str | None) -> MapWords:
    """The meaning of a deviation map."""
    group = f"people with {reference}" if reference else "the other people"
    ticks = {0.0: "0  usual here", 2.0: "2  beyond 98 % of\nthe reference", 3.0: "3  beyond 99.9 %", 4.5: "4.5",
             6.0: "6  far outside"}  # fmt: skip
    return MapWords(
        "deviation", f"{subject_id}: what is unusual for its place, against {group}",
        "deviation from the reference people at the same landmark, in normal units",
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
