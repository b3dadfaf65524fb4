"""One model of covariates, unpenalised, and features, with an L2 penalty: regression, classes or survival."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.folds import Split, make_folds
from anatograph.evaluation.probes.cox import COX_STRENGTHS, PartialLikelihood, fit_cox, martingale_residuals
from anatograph.evaluation.probes.linear import LOGISTIC_STRENGTHS
from anatograph.evaluation.probes.ridge import INNER_FOLDS, RIDGE_STRENGTHS, Scaling, choose_scales, ridge_path
from anatograph.learning.model.pooling import ONE_PART, Parts

Array = NDArray[np.float64]
_FREE = 1e-6  # relative penalty of covariates: keeps levels that separate the classes finite, and changes nothing else
_PATIENCE = 3


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is predicted, for n subjects."""

    values: Array
    """(n,) numbers, class indices, or 1 where the event was observed."""
    classes: int = 0
    """Number of classes, 0 for numbers and survival."""
    times: Array | None = None
    """(n,) follow-up times of survival."""

    def of(self, rows: NDArray[np.int64]) -> Outcome:
        """The outcome of some subjects."""
        return Outcome(self.values[rows], self.classes, None if self.times is None else self.times[rows])

    def folds(self, groups: NDArray[np.int64] | None, folds: int, seed: int) -> list[Split]:
        """Divide the subjects, with classes or events in proportion."""
        return make_folds(self.values, self.classes > 0 or self.times is not None, groups, folds, seed)


def predict_joint(
    features: Array,
    design: Array,
    outcome: Outcome,
    train: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    parts: Parts = ONE_PART,
) -> Array:
    """(n,) values or log-hazards, or (n, classes) probabilities, of all n subjects by a model fitted on ``train``.

    ``features`` (n, F) are penalised, with the strength that predicts inner folds of ``train`` best; ``design`` (n, D)
    are covariates, which are not.  With F = 0 it is the model of the covariates alone.  ``parts`` as in `fit_probe`,
    their scales being chosen after the covariates' effects are removed.
    """
    fit = _cox if outcome.times is not None else _logistic if outcome.classes else _linear
    if not features.shape[1]:
        return fit(features, design, train, outcome, 1.0)
    strengths = _strengths(outcome)
    own = outcome.of(train)
    inner = own.folds(None if groups is None else groups[train], INNER_FOLDS, seed + 1)
    inner = [(a, b) for a, b in inner if _fittable(own.of(a))]
    scaling = Scaling(parts, True)
    if parts != ONE_PART:
        scaling = Scaling(
            parts, True, choose_scales(features[train], _remainder(design[train], own), 0, inner, scaling)
        )
    best = 0
    if inner:
        prepared = [_standardised(features[train], a, scaling) for a, _ in inner]
        losses: list[float] = []
        for strength in strengths:
            losses.append(0.0)
            for x, (a, b) in zip(prepared, inner, strict=True):
                losses[-1] += _loss(own, fit(x, design[train], a, own, float(strength)), a, b)
            if len(losses) - 1 - int(np.argmin(losses)) >= _PATIENCE and not _closed_form(outcome):
                break
        best = int(np.argmin(losses))
    return fit(_standardised(features, train, scaling), design, train, outcome, float(strengths[best]))


def _closed_form(outcome: Outcome) -> bool:
    return outcome.times is None and not outcome.classes


def _strengths(outcome: Outcome) -> Array:
    if outcome.times is not None:
        return COX_STRENGTHS
    return LOGISTIC_STRENGTHS if outcome.classes else RIDGE_STRENGTHS[::-1]


def _fittable(outcome: Outcome) -> bool:
    if outcome.times is not None:
        return bool(outcome.values.any())
    return not outcome.classes or len(np.unique(outcome.values)) > 1


def _standardised(features: Array, train: NDArray[np.int64], scaling: Scaling) -> Array:
    mean, std = scaling.of(features[train])
    return np.asarray((features - mean) / std, dtype=np.float64)


def _remainder(design: Array, outcome: Outcome) -> Array:
    """(n,) what the covariates leave of the outcome, as a number."""
    values = outcome.values if outcome.times is None else martingale_residuals(outcome.times, outcome.values)
    whole = np.column_stack([np.ones(len(values)), design])
    return np.asarray(values - whole @ np.linalg.lstsq(whole, values, rcond=None)[0], dtype=np.float64)


def _linear(x: Array, d: Array, train: NDArray[np.int64], outcome: Outcome, strength: float) -> Array:
    """Frisch, Waugh and Lovell: ridge regression of what the covariates leave, then least squares for them."""
    whole = np.column_stack([np.ones(len(d)), d])
    y = outcome.values[train]
    if not x.shape[1]:
        return np.asarray(whole @ np.linalg.lstsq(whole[train], y, rcond=None)[0], dtype=np.float64)
    both = np.column_stack([y, x[train]])
    explained = np.linalg.lstsq(whole[train], both, rcond=None)[0]
    left = both - whole[train] @ explained
    weights = ridge_path(left[:, 1:], left[:, 0], np.array([strength]))[0]
    return np.asarray(x @ weights + whole @ (explained[:, 0] - explained[:, 1:] @ weights), dtype=np.float64)


def _logistic(x: Array, d: Array, train: NDArray[np.int64], outcome: Outcome, strength: float) -> Array:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scaled = np.concatenate([x, d / np.sqrt(_FREE / max(strength, _FREE))], axis=1)
    model = LogisticRegression(C=1 / (strength * len(train)), solver="newton-cholesky", max_iter=200)
    chance = np.zeros((len(x), outcome.classes))
    labels = outcome.values[train].astype(np.int64)
    if not scaled.shape[1]:
        return np.tile(np.bincount(labels, minlength=outcome.classes) / len(labels), (len(x), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled[train], labels)
    chance[:, model.classes_] = model.predict_proba(scaled)
    return chance


def _cox(x: Array, d: Array, train: NDArray[np.int64], outcome: Outcome, strength: float) -> Array:
    assert outcome.times is not None
    whole = np.concatenate([x, d], axis=1)
    if not whole.shape[1]:
        return np.zeros(len(x))
    penalty = np.concatenate([np.full(x.shape[1], strength), np.full(d.shape[1], _FREE)])
    beta = fit_cox(whole[train], outcome.times[train], outcome.values[train], penalty)
    eta = whole @ beta
    return np.asarray(eta - eta[train].mean(), dtype=np.float64)


def _loss(outcome: Outcome, predicted: Array, train: NDArray[np.int64], test: NDArray[np.int64]) -> float:
    if outcome.times is not None:
        whole = PartialLikelihood(outcome.times, outcome.values).log_likelihood(predicted)
        rest = PartialLikelihood(outcome.times[train], outcome.values[train]).log_likelihood(predicted[train])
        return rest - whole
    if outcome.classes:
        chance = predicted[test, outcome.values[test].astype(np.int64)]
        return float(-np.log(np.maximum(chance, 1e-12)).sum())
    return float(((predicted[test] - outcome.values[test]) ** 2).sum())
