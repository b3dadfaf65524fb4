"""How sure a complete separation is: bootstrap samples of it are all alike, so they give no interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.targets import Target

_Z = 1.959964


def lowest_auc(few: int, many: int) -> float:
    """Lower end of the 95 % interval of an AUC of 1 with ``few`` and ``many`` subjects of the two classes.

    Newcombe's method 5 (Stat Med 2006; 25:559): the smallest θ with (1 - θ)² ≤ z² V(θ), where
    V(θ) = θ (1 - θ) / (m n) · (1 + (N - 1) ((1 - θ) / (2 - θ) + θ / (1 + θ))) and N = (m + n) / 2.
    """
    from scipy.optimize import brentq

    if min(few, many) < 1:
        return float("nan")
    half = (few + many) / 2 - 1

    def beyond(theta: float) -> float:
        spread = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return float((1 - theta) - _Z**2 * theta * spread / (few * many))  # both sides over 1 - θ

    return float(brentq(beyond, 0.0, 1.0))


def lowest_figure(target: Target, groups: NDArray[np.int64] | None, chance: float) -> float:
    """Lower end of the interval of a figure that is 1, the AUC's rescaled so that its ½ is this one's ``chance``.

    The two sizes are those of the smallest class (of survival: with the event; of numbers and grades: half) and of the
    rest, in groups where there are any.
    """
    units = np.arange(len(target.values)) if groups is None else groups
    whole = len(np.unique(units))
    if target.task == "classification":
        few = min(len(np.unique(units[target.values == value])) for value in np.unique(target.values))
    elif target.task == "survival":
        few = len(np.unique(units[target.values > 0]))
    else:
        few = whole // 2
    few = min(max(few, 1), whole - 1)
    return chance + (1 - chance) * (2 * lowest_auc(few, whole - few) - 1)
