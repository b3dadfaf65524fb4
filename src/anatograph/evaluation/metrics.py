"""Figures of merit of predictions for any set of subjects: a fold, all, or a bootstrap sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.survival.concordance import harrell, uno
from anatograph.evaluation.targets import Target

LOWER_IS_BETTER = frozenset({"mae"})
"""All other figures are the better the higher."""


def figures(
    target: Target,
    truth: NDArray[np.float64],
    predicted: NDArray[np.float64],
    chance: NDArray[np.float64] | None,
    majority: NDArray[np.float64],
    times: NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """All figures that ``target`` knows, NaN where one is not defined for these n subjects.

    ``truth``, ``predicted`` and ``majority`` (n,) are values or class indices, ``chance`` (n, classes) probabilities.
    Regression: ``r2``, ``mae``.  Classes: ``accuracy``, ``balanced_accuracy``, ``auc``; steps of a score also
    ``accuracy_within_one`` and ``kappa_quadratic``; and ``accuracy_majority``.  Survival, with ``times`` (n,):
    ``c_harrell`` and ``c_uno``.
    """
    if times is not None:
        return {"c_harrell": harrell(times, truth, predicted), "c_uno": uno(times, truth, predicted)}
    if target.task == "regression":
        return {"r2": r_squared(truth, predicted), "mae": float(np.abs(truth - predicted).mean())}
    found = {
        "accuracy": float((truth == predicted).mean()),
        "balanced_accuracy": balanced_accuracy(truth, predicted),
    }
    if chance is not None:
        found["auc"] = area_under_curve(truth, chance)
    if target.ordered:
        found["accuracy_within_one"] = float((np.abs(truth - predicted) <= 1).mean())
        found["kappa_quadratic"] = quadratic_kappa(truth, predicted)
    found["accuracy_majority"] = float((truth == majority).mean())
    return found


def r_squared(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """1 - squared error / variance of these subjects; NaN where all have one value."""
    spread = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")


def balanced_accuracy(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Mean recall over the classes that these subjects have."""
    return float(np.mean([(predicted[truth == k] == k).mean() for k in np.unique(truth)]))


def quadratic_kappa(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Cohen's kappa with quadratic weights: 1 - squared error / squared error of an independent rater alike.

    The usual matrices of counts reduce to means and variances.  NaN where both hold one and the same value.
    """
    apart = truth.var() + predicted.var() + (truth.mean() - predicted.mean()) ** 2
    return float(1 - ((truth - predicted) ** 2).mean() / apart) if apart > 0 else float("nan")


def area_under_curve(truth: NDArray[np.float64], chance: NDArray[np.float64]) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes that some here have and some lack.

    For two classes simply the area.  From ranks (Mann and Whitney), ties counting half.
    """
    from scipy.stats import rankdata

    found = []
    for k in [1] if chance.shape[1] == 2 else range(chance.shape[1]):
        is_class = truth == k
        positive = int(is_class.sum())
        negative = len(truth) - positive
        if positive and negative:
            ranks = rankdata(chance[:, k])
            found.append((ranks[is_class].sum() - positive * (positive + 1) / 2) / (positive * negative))
    return float(np.mean(found)) if found else float("nan")
