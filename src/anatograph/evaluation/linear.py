"""The probe itself: linear or logistic regression or proportional odds, its penalty chosen on the training subjects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.folds import Split, make_folds
from anatograph.evaluation.ordinal import ProportionalOdds, all_steps, step_probabilities

RIDGE_STRENGTHS = np.logspace(-5, 5, 41)
"""Penalty per subject on standardised features. The last one leaves little more than the mean of the target."""
LOGISTIC_STRENGTHS = np.logspace(2, -5, 15)
"""Penalty per subject, strongest first."""
INNER_FOLDS = 5
_PATIENCE = 3
_TALL = 16


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted probe, expressed for features as they are (the standardisation is folded in)."""

    weights: NDArray[np.float64]
    """(K, F): W of eq. 10. K is 1 for a regression, for two classes, and for steps of a score."""
    intercept: NDArray[np.float64]
    """(K,): β of eq. 10. For steps of a score (classes - 1,), one for being above each step but the last."""
    classes: int
    """Number of classes, 0 for a regression."""
    strength: float
    """The chosen penalty per subject."""
    target_mean: float
    """Mean of the target over the training subjects (regression)."""
    target_std: float
    """Standard deviation of the same."""
    ordered: bool = False
    """Whether it is of the steps of a score, more than two, by proportional odds."""

    def scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """W x + β, (n, K): the predicted value, the log-odds of the second class, or one logit a class.

        For steps of a score (n, classes - 1), the log-odds of being above each step but the last.
        """
        return np.asarray(features @ self.weights.T + self.intercept, dtype=np.float64)

    def probabilities(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, classes) probability of each class."""
        scores = self.scores(features)
        if self.ordered:
            return step_probabilities(scores)
        if scores.shape[1] == 1:
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) predicted value, or index of the most probable class."""
        if not self.classes:
            return self.scores(features)[:, 0]
        return np.asarray(self.probabilities(features).argmax(axis=1), dtype=np.float64)


def fit_probe(
    features: NDArray[np.float64],
    values: NDArray[np.float64],
    classes: int,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    metric: NDArray[np.float64] | None = None,
    ordered: bool = False,
) -> Probe:
    """Fit on n subjects: ridge regression (``classes`` 0) or logistic regression with an L2 penalty.

    ``ordered``: the classes are steps of a score, and one direction serves for all (`ProportionalOdds`).

    ``features`` (n, F), ``values`` (n,) numbers or class indices.  Features are standardised and the penalty is
    chosen by an inner cross-validation over these subjects alone, which does not split ``groups`` (n,): otherwise a
    patient's other scans make a weak penalty look good.  Where nothing can be held out, the strongest penalty is
    taken.  A class without a subject gets no probability.

    ``metric`` (F, F), symmetric, changes what is penalised: wᵀ metric⁻² w in place of the squared weights of
    standardised features, as strongly as the inner folds allow, that is the strongest penalty whose error is within
    one standard error of the least (Breiman et al. 1984).
    """
    inner = make_folds(values, classes > 0, groups, INNER_FOLDS, seed + 1)
    scaling = _each if metric is None else _whole
    given = features if metric is None else features @ metric
    if classes:
        probe = _fit_logistic(given, values.astype(np.int64), classes, inner, scaling, ordered)
    else:
        probe = _fit_ridge(given, values, inner, scaling)
    return probe if metric is None else replace(probe, weights=probe.weights @ metric)


Scaling = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Features (n, F) to what is taken from each (F,) and what each is divided by (F,)."""


def _each(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (F,); a feature that does not vary gets 1, so that it stays out."""
    mean, std = features.mean(axis=0), features.std(axis=0)
    # Features are float32: what rounding leaves of a constant is not variation, and must not be blown up to it.
    std = np.where(std > 1e-6 * np.abs(mean), std, 1.0)
    return mean, std


def _whole(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (F,), and one standard deviation for all features (F,), which leaves their proportions as they are."""
    std = float(np.sqrt(features.var(axis=0).mean()))
    return features.mean(axis=0), np.full(features.shape[1], std if std > 0 else 1.0)


def _choose(errors: NDArray[np.float64], counts: Sequence[int], cautious: bool) -> int:
    """Which strength, strongest first, from summed errors (folds, strengths) of folds of ``counts`` subjects.

    The least error, the strongest of equals; ``cautious``: the strongest within one standard error of it.
    """
    best = int(errors.sum(axis=0).argmin())
    if not cautious or len(errors) < 2:
        return best
    means = errors / np.asarray(counts, dtype=np.float64)[:, None]
    allowed = means[:, best].mean() + means[:, best].std(ddof=1) / np.sqrt(len(means))
    return int(np.flatnonzero(means.mean(axis=0) <= allowed)[0])


def _ridge_path(features: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients (strengths, F) on centred ``features`` and ``values`` for every strength, from one SVD.

    With many more rows than features, as when every region of every subject is one, from the F × F products: the same
    but for rounding far below the weakest penalty, and many times faster.
    """
    if len(features) > _TALL * features.shape[1]:
        squares, vectors = np.linalg.eigh(features.T @ features)
        penalty = RIDGE_STRENGTHS[:, None] * len(features)
        inverse = 1.0 / (np.maximum(squares, 0.0) + penalty)
        return np.asarray((inverse * (vectors.T @ (features.T @ values))) @ vectors.T, dtype=np.float64)
    left, singular, right = np.linalg.svd(features, full_matrices=False)
    penalty = RIDGE_STRENGTHS[:, None] * len(features)
    shrunk = singular / (singular**2 + penalty) * (left.T @ values)
    return np.asarray(shrunk @ right, dtype=np.float64)


def _fit_ridge(
    features: NDArray[np.float64], values: NDArray[np.float64], inner: list[Split], scaling: Scaling
) -> Probe:
    errors = np.zeros((len(inner), len(RIDGE_STRENGTHS)))
    for row, (train, test) in enumerate(inner):
        mean, std = scaling(features[train])
        middle = values[train].mean()
        path = _ridge_path((features[train] - mean) / std, values[train] - middle)
        predicted = (features[test] - mean) / std @ path.T + middle
        errors[row] = ((predicted - values[test, None]) ** 2).sum(axis=0)
    last = len(RIDGE_STRENGTHS) - 1
    best = last
    if inner:
        best = last - _choose(errors[:, ::-1], [len(test) for _, test in inner], scaling is _whole)
    mean, std = scaling(features)
    middle = float(values.mean())
    weights = _ridge_path((features - mean) / std, values - middle)[best] / std
    return Probe(
        weights[None],
        np.array([middle - weights @ mean]),
        0,
        float(RIDGE_STRENGTHS[best]),
        middle,
        float(values.std()),
    )


def _fit_logistic(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: int,
    inner: list[Split],
    scaling: Scaling,
    ordered: bool,
) -> Probe:
    ordered = ordered and classes > 2
    usable = [(train, test) for train, test in inner if len(np.unique(labels[train])) > 1]
    best = 0
    if usable:
        standardised = []
        for train, test in usable:
            mean, std = scaling(features[train])
            standardised.append(((features[train] - mean) / std, (features[test] - mean) / std))
        models = [_logistic(ordered) for _ in usable]
        losses: list[list[float]] = []
        for strength in LOGISTIC_STRENGTHS:
            losses.append([])
            for model, (train, test), (fit_on, predict) in zip(models, usable, standardised, strict=True):
                _fit_step(model, strength, fit_on, labels[train])
                losses[-1].append(_log_loss(model, predict, labels[test]))
            # Weaker penalties are slow to fit; once it only gets worse there is nothing to find.
            if len(losses) - 1 - int(np.argmin([sum(one) for one in losses])) >= _PATIENCE:
                break
        best = _choose(np.array(losses).T, [len(test) for _, test in usable], scaling is _whole)
    mean, std = scaling(features)
    model = _logistic(ordered)
    _fit_step(model, LOGISTIC_STRENGTHS[best], (features - mean) / std, labels)
    weights = np.asarray(model.coef_, dtype=np.float64) / std
    intercept = np.asarray(model.intercept_, dtype=np.float64) - weights @ mean
    if ordered:
        intercept = all_steps(intercept, np.asarray(model.classes_), classes)
    elif classes > 2:
        weights, intercept = _all_classes(weights, intercept, np.asarray(model.classes_), classes)
    return Probe(weights, intercept, classes, float(LOGISTIC_STRENGTHS[best]), 0.0, 1.0, ordered)


def _all_classes(
    weights: NDArray[np.float64], intercept: NDArray[np.float64], present: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One row a class, also for classes that no training subject has: these get no probability."""
    if len(present) == 2:  # sklearn gives the second one's log-odds
        weights = np.concatenate([-weights, weights]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    full = np.zeros((classes, weights.shape[1]))
    offset = np.full(classes, -1e3)
    full[present], offset[present] = weights, intercept
    return full, offset


def _logistic(ordered: bool) -> Any:
    if ordered:
        return ProportionalOdds()
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=3000, tol=1e-5, warm_start=True)


def _fit_step(model: Any, strength: float, features: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    from sklearn.exceptions import ConvergenceWarning

    model.set_params(C=1.0 / (strength * len(labels)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)


def _log_loss(model: Any, features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Summed over subjects whose class the model knows; the rest cost every strength the same."""
    column = {int(name): k for k, name in enumerate(model.classes_)}
    known = np.array([int(label) in column for label in labels], dtype=bool)
    if not known.any():
        return 0.0
    chance = model.predict_proba(features[known])
    of_truth = chance[np.arange(int(known.sum())), [column[int(label)] for label in labels[known]]]
    return float(-np.log(np.maximum(of_truth, 1e-12)).sum())
