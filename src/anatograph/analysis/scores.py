"""Figures of merit of cross-validated predictions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.analysis.targets import Target

BOOTSTRAPS = 1000


@dataclass(frozen=True, eq=False)
class Predictions:
    """Every person predicted once, by a probe fitted without them."""

    fold: NDArray[np.int64]
    """(n,) which fold they were held out in."""
    predicted: NDArray[np.float64]
    """(n,) predicted value or class index."""
    probabilities: NDArray[np.float64] | None
    """(n, classes), None for a regression."""
    majority: NDArray[np.float64]
    """(n,) what one would say without looking: the most frequent class, or the mean, of the people fitted on."""


@dataclass(frozen=True)
class Score:
    """One figure of merit over the folds."""

    metric: str
    """Its name."""
    mean: float
    """Mean over the folds."""
    std: float
    """Standard deviation over the folds (n - 1); for ``r2_pooled`` over bootstrap samples of the people."""
    folds: int
    """Folds in which it is defined."""


def score(
    target: Target,
    predictions: Predictions,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
) -> list[Score]:
    """All figures for a target.

    Regression: ``r2`` (1 - squared error / variance, within each fold), ``mae``, and ``r2_pooled``, over all people
    at once, each predicted out of fold: with few people in a fold it is the one to trust.  Classification:
    ``accuracy``, ``balanced_accuracy`` (mean recall of the classes in the fold), ``auc`` (one class against the
    rest, mean over the classes), ``accuracy_majority`` (always the most frequent class of the others), and for
    steps of a score ``accuracy_within_one``.
    """
    names = sorted(set(predictions.fold.tolist()))
    parts = [np.flatnonzero(predictions.fold == k) for k in names]
    truth, predicted = target.values, predictions.predicted
    if target.task == "regression":
        rows = {
            "r2": [_r2(truth[p], predicted[p]) for p in parts],
            "mae": [float(np.abs(truth[p] - predicted[p]).mean()) for p in parts],
        }
        return [
            *(_over_folds(name, values) for name, values in rows.items()),
            _pooled(truth, predicted, groups, seed, bootstraps),
        ]
    chance = predictions.probabilities
    rows = {
        "accuracy": [float((truth[p] == predicted[p]).mean()) for p in parts],
        "balanced_accuracy": [_balanced(truth[p], predicted[p]) for p in parts],
    }
    if chance is not None:
        rows["auc"] = [_auc(truth[p], chance[p]) for p in parts]
    if target.ordered:
        rows["accuracy_within_one"] = [float((np.abs(truth[p] - predicted[p]) <= 1).mean()) for p in parts]
    rows["accuracy_majority"] = [float((truth[p] == predictions.majority[p]).mean()) for p in parts]
    return [_over_folds(name, values) for name, values in rows.items()]


def _over_folds(name: str, values: list[float]) -> Score:
    defined = np.array([v for v in values if np.isfinite(v)])
    mean = float(defined.mean()) if len(defined) else float("nan")
    return Score(name, mean, float(defined.std(ddof=1)) if len(defined) > 1 else float("nan"), len(defined))


def _r2(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    spread = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")


def _pooled(
    truth: NDArray[np.float64],
    predicted: NDArray[np.float64],
    groups: NDArray[np.int64] | None,
    seed: int,
    bootstraps: int,
) -> Score:
    who = np.arange(len(truth)) if groups is None else groups
    names = np.unique(who)
    rows = [np.flatnonzero(who == name) for name in names]
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(bootstraps):
        picked = np.concatenate([rows[i] for i in random.integers(0, len(rows), len(rows))])
        value = _r2(truth[picked], predicted[picked])
        if np.isfinite(value):
            drawn.append(value)
    spread = float(np.std(drawn, ddof=1)) if len(drawn) > 1 else float("nan")
    return Score("r2_pooled", _r2(truth, predicted), spread, 1)


def _balanced(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    return float(np.mean([(predicted[truth == k] == k).mean() for k in np.unique(truth)]))


def _auc(truth: NDArray[np.float64], chance: NDArray[np.float64]) -> float:
    """Mean over the classes that the fold holds with and without; for two classes simply the AUC."""
    from sklearn.metrics import roc_auc_score

    columns = [1] if chance.shape[1] == 2 else range(chance.shape[1])
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in columns:
            is_class = truth == k
            if is_class.any() and not is_class.all():
                found.append(float(roc_auc_score(is_class, chance[:, k])))
    return float(np.mean(found)) if found else float("nan")
