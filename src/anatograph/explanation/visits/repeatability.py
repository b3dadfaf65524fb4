"""How much two scans of an unchanged patient differ: the yardstick of a change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError, no_column
from anatograph.study.cohort import read_cohort

Array = NDArray[np.float64]
LEAST_PAIRS = 5
"""Fewest pairs of repeat scans that can be a yardstick."""
FEW_PAIRS = 20
"""Pairs below which their number is pointed out."""
_Z = 1.959964
_LIMIT = 95.0


@dataclass(frozen=True, eq=False)
class Repeatability:
    """Differences within pairs of repeat scans."""

    pairs: int
    """Number of pairs."""
    error: Array
    """(N,) standard deviation s_w of the deviation of one region between scans of an unchanged patient."""
    detectable: Array
    """(N,) smallest detectable change of the deviation of two scans, 1.96 √2 s_w."""
    shift: Array
    """(N,) median shift of a region between repeat scans."""
    shift_limit: Array
    """(N,) shift that 95 % of repeat scans stay below."""
    share_beyond: float
    """Share of the regions of repeat scans themselves that exceed ``detectable`` or ``shift_limit``."""
    vector_distance: float
    """Median distance of the vectors of repeat scans, over that of two different patients."""
    vector_icc: float
    """Median intraclass correlation ICC(1,1) of the vector's features: 1 is no difference between repeat scans."""

    def table(self, where: Sequence[str]) -> pd.DataFrame:
        """One row a landmark; ``where`` (N,) are their places in words."""
        return pd.DataFrame(
            {
                "landmark": np.arange(len(where)),
                "place": list(where),
                "pairs": self.pairs,
                "deviation_error": self.error,
                "smallest_detectable_change": self.detectable,
                "shift_median": self.shift,
                "shift_limit": self.shift_limit,
            }
        )

    def summary(self) -> dict[str, float | int]:
        """For the account and the maps' scores."""
        return {
            "repeat_pairs": self.pairs,
            "repeat_share_beyond": self.share_beyond,
            "repeat_vector_distance": self.vector_distance,
            "repeat_vector_icc": self.vector_icc,
            "median_smallest_detectable_change": float(np.nanmedian(self.detectable)),
        }


def repeat_pairs(cohort: str | Path | None, column: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of rows of ``names`` that are repeat scans: neighbours with the same value of a column of the cohort.

    Scans without a value have no repeat.

    Raises:
        UserError: no cohort, no such column, or fewer than `LEAST_PAIRS` pairs.
    """
    if cohort is None:
        raise UserError("Give the cohort table too: --repeat-scans is a column of it.")
    table = read_cohort(cohort).table
    if column not in table.columns:
        raise no_column(column, table.columns, "--repeat-scans")
    place = {name: row for row, name in enumerate(names)}
    held = table[table[column].notna() & table["subject_id"].isin(names)]
    found = [
        (place[a], place[b])
        for _, members in held.groupby(held[column].astype(str), sort=True)["subject_id"]
        for a, b in pairwise(members)
    ]
    if len(found) < LEAST_PAIRS:
        raise UserError(
            f"--repeat-scans: '{column}' has {len(found)} pairs of scans with the same value among the reference "
            f"subjects; a yardstick needs at least {LEAST_PAIRS}. Give a column whose equal values are scans of one "
            "patient on the same day."
        )
    return found


def measure_repeats(
    pairs: Sequence[tuple[int, int]], deviations: Array, shifts: Array, vectors: Array
) -> Repeatability:
    """Test-retest figures from n reference scans.

    ``deviations`` (n, N), each measured by a model without the scan; ``shifts`` (pairs, N); ``vectors`` (n, F).
    Regions that fewer than `LEAST_PAIRS` pairs have are NaN.  The limit of the shift is its root mean square at the
    landmark times the 95th percentile, over all landmarks and pairs, of the shift over that root mean square.
    """
    import warnings

    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    apart = deviations[second] - deviations[first]
    known = np.isfinite(apart).sum(axis=0) >= LEAST_PAIRS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # landmarks that no pair has
        error = np.where(known, np.sqrt(np.nanmean(apart**2, axis=0) / 2), np.nan)
        middle = np.where(known, np.nanmedian(shifts, axis=0), np.nan)
        root = np.where(known, np.sqrt(np.nanmean(shifts**2, axis=0)), np.nan)
        factor = np.nanpercentile(shifts / np.where(root > 0, root, np.nan), _LIMIT)
    detectable, limit = _Z * np.sqrt(2) * error, root * factor
    both = np.isfinite(apart) & np.isfinite(shifts) & known
    beyond = (np.abs(apart) > detectable) | (shifts > limit)
    spread = vectors.std(axis=0)
    z = vectors / np.where(spread > 0, spread, 1.0)
    repeat = np.linalg.norm(z[second] - z[first], axis=1)
    random = np.random.default_rng(0)
    one, other = random.integers(len(z), size=(2, 2000))
    mates = {(min(a, b), max(a, b)) for a, b in pairs}
    different = np.array([a != b and (min(a, b), max(a, b)) not in mates for a, b in zip(one, other, strict=True)])
    usual = float(np.median(np.linalg.norm(z[one[different]] - z[other[different]], axis=1)))
    return Repeatability(
        len(pairs),
        error,
        detectable,
        middle,
        limit,
        float(beyond[both].mean()) if both.any() else float("nan"),
        float(np.median(repeat)) / usual if usual > 0 else float("nan"),
        _icc(vectors[first], vectors[second]),
    )


def _icc(first: Array, second: Array) -> float:
    """Median over features of ICC(1,1) = (MSB - MSW) / (MSB + MSW) of pairs (p, F) (Shrout and Fleiss 1979)."""
    mean = (first + second) / 2
    between = 2 * mean.var(axis=0, ddof=1)
    within = ((first - second) ** 2).mean(axis=0) / 2
    whole = between + within
    return float(np.median((between - within)[whole > 0] / whole[whole > 0])) if (whole > 0).any() else float("nan")
