"""The correlation within groups: does the prediction follow the truth within one subject's scans?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.scores import Predictions, Score
from anatograph.evaluation.targets import Target

METRIC = "r_within_group"


def within_group_correlation(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], groups: NDArray[np.int64]
) -> float:
    """Correlation of truth and prediction (n,) after removing each group's means: repeated-measures correlation.

    Bland and Altman 1995. NaN where no group has two members, or one of both does not vary within groups. Differences
    between groups, such as a patient's anatomy or scanner, neither help nor hurt.
    """
    _, place, count = np.unique(groups, return_inverse=True, return_counts=True)
    if not (count > 1).any():
        return float("nan")
    x, y = (values - (np.bincount(place, values) / count)[place] for values in (truth, predicted))
    spread = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / spread) if spread > 1e-12 else float("nan")


def within_group_score(target: Target, rounds: Sequence[Predictions], groups: NDArray[np.int64] | None) -> list[Score]:
    """``r_within_group`` of a regression over all out-of-fold predictions, mean over the rounds; empty without groups.

    ``groups`` (n,) are those of the target's subjects; none of the score's values belongs to a fold, since a group lies
    in one fold as a whole.
    """
    if groups is None or target.task != "regression":
        return []
    found = np.array([within_group_correlation(target.values, one.predicted, groups) for one in rounds])
    if not np.isfinite(found).any():
        return []
    mean = float(np.nanmean(found))
    std = float(np.nanstd(found, ddof=1)) if len(found) > 1 else float("nan")
    return [Score(METRIC, mean, std, len(found), (), mean)]
