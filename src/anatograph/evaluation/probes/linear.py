"""The probe itself: linear or logistic regression or proportional odds, its penalty chosen on the training subjects."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.evaluation.folds import Split, make_folds
from anatograph.evaluation.probes.ordinal import ProportionalOdds, all_steps, step_probabilities
from anatograph.evaluation.probes.ridge import (
    INNER_FOLDS,
    RIDGE_STRENGTHS,
    Scaling,
    choose_scales,
    plan_errors,
    plans_of,
    ridge_path,
)
from anatograph.learning.model.pooling import ONE_PART, Parts

LOGISTIC_STRENGTHS = np.logspace(2, -5, 15)
"""Penalty per subject, strongest first."""
_PATIENCE = 3
_AVERAGED = 0.1
"""Ridge regressions whose squared error in the inner folds is larger by this share have a weight smaller by 1 / e."""
_LEAST_WEIGHT = 0.02


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
    scales: tuple[float, ...] = (1.0,)
    """Chosen scale of each block of the features (`Parts.widths`), 0 where it is not used."""

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
    parts: Parts = ONE_PART,
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

    ``parts``: the features are this many parts of one length, the first of which says nothing of place
    (`anatograph.learning.model.pooling`). How many of the others are used, and how large they are against the first,
    is chosen by the inner folds too, by the squared error of ridge regression (of the classes' indicators); the first
    part alone is among the choices, so that what has no place is not predicted worse for them. As the choice itself
    is uncertain with few subjects, a regression is the mean of the ridge regressions of all choices, weighted by
    exp(-(error / least error - 1) / 0.1); it is linear in the features like each of them.

    Raises:
        UserError: features that cannot be divided into the parts.
    """
    if features.shape[1] % parts.count:
        raise UserError(
            f"{features.shape[1]} features are not {parts.count} parts of one length; embed the study again."
        )
    several = parts.count > 1 or parts.learnt > 0
    inner = make_folds(values, classes > 0, groups, INNER_FOLDS, seed + 1)
    given = features if metric is None else _by_part(features, metric)
    scaling = Scaling(parts, metric is None)
    if several and not classes and metric is None and inner:
        return _average_ridge(features, values, inner, scaling)
    if several:
        scaling = replace(scaling, scales=choose_scales(given, values, classes, inner, scaling))
    if classes:
        probe = _fit_logistic(given, values.astype(np.int64), classes, inner, scaling, ordered)
    else:
        probe = _fit_ridge(given, values, inner, scaling)
    weights = probe.weights if metric is None else _by_part(probe.weights, metric)
    return replace(probe, weights=weights, scales=scaling.scales or (1.0,))


def _by_part(features: NDArray[np.float64], metric: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features (n, parts · F) times a matrix (F, F), part by part."""
    size = len(metric)
    return np.asarray((features.reshape(len(features), -1, size) @ metric).reshape(features.shape), dtype=np.float64)


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


def _average_ridge(
    features: NDArray[np.float64], values: NDArray[np.float64], inner: list[Split], scaling: Scaling
) -> Probe:
    """The weighted mean of the ridge regressions of all scales of the parts, each at its best penalty."""
    plans = np.array(plans_of(scaling.parts))
    errors = plan_errors(features, values, 0, inner, scaling)
    best, least = errors.argmin(axis=1), errors.min(axis=1)
    share = np.exp(-(least / max(float(least.min()), np.finfo(float).tiny) - 1.0) / _AVERAGED)
    share = np.where(share >= _LEAST_WEIGHT, share, 0.0)  # of the least error it is 1
    share /= share.sum()
    middle, mean = float(values.mean()), features.mean(axis=0)
    weights = np.zeros(features.shape[1])
    for row in np.flatnonzero(share):
        _, std = replace(scaling, scales=tuple(plans[row])).of(features)
        path = ridge_path((features - mean) / std, values - middle, RIDGE_STRENGTHS[best[row], None])
        weights += share[row] * path[0] / std
    return Probe(
        weights[None],
        np.array([middle - weights @ mean]),
        0,
        float(np.exp(share @ np.log(RIDGE_STRENGTHS[best]))),
        middle,
        float(values.std()),
        scales=tuple(float(scale) for scale in share @ plans),
    )


def _fit_ridge(
    features: NDArray[np.float64], values: NDArray[np.float64], inner: list[Split], scaling: Scaling
) -> Probe:
    errors = np.zeros((len(inner), len(RIDGE_STRENGTHS)))
    for row, (train, test) in enumerate(inner):
        mean, std = scaling.of(features[train])
        middle = values[train].mean()
        path = ridge_path((features[train] - mean) / std, values[train] - middle)
        predicted = (features[test] - mean) / std @ path.T + middle
        errors[row] = ((predicted - values[test, None]) ** 2).sum(axis=0)
    last = len(RIDGE_STRENGTHS) - 1
    best = last
    if inner:
        best = last - _choose(errors[:, ::-1], [len(test) for _, test in inner], not scaling.each)
    mean, std = scaling.of(features)
    middle = float(values.mean())
    weights = ridge_path((features - mean) / std, values - middle)[best] / std
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
            mean, std = scaling.of(features[train])
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
        best = _choose(np.array(losses).T, [len(test) for _, test in usable], not scaling.each)
    mean, std = scaling.of(features)
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
