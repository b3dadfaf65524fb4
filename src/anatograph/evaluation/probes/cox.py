"""Cox regression with an L2 penalty, its strength chosen on the training subjects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.folds import make_folds
from anatograph.evaluation.probes.ridge import INNER_FOLDS, Scaling, choose_scales
from anatograph.learning.model.pooling import ONE_PART, Parts

Array = NDArray[np.float64]
COX_STRENGTHS = np.logspace(2, -4, 13)
"""Penalty per event on standardised features, strongest first."""
_PATIENCE, _STEPS, _HALVINGS, _TOLERANCE = 3, 50, 30, 1e-8
_LARGEST = 500.0  # exp overflows beyond 700


@dataclass(frozen=True, eq=False)
class CoxProbe:
    """A fitted proportional-hazards model, for features as they are (the standardisation is folded in)."""

    weights: Array
    """(F,): log-hazard per unit of each feature."""
    intercept: float
    """Makes the mean log-hazard of the training subjects 0."""
    strength: float
    """The chosen penalty per event."""
    times: Array
    """(k,) event times of the training subjects, ascending."""
    hazard: Array
    """(k,) cumulative baseline hazard at these times, for a log-hazard of 0."""

    def log_hazard(self, features: Array) -> Array:
        """(n,) log of the hazard relative to the average training subject's."""
        return np.asarray(features @ self.weights + self.intercept, dtype=np.float64)

    def risk(self, features: Array, time: float) -> Array:
        """(n,) probability of the event by ``time``: 1 - exp(-H0(time) exp(log-hazard))."""
        place = int(np.searchsorted(self.times, time, side="right"))
        baseline = self.hazard[place - 1] if place else 0.0
        return np.asarray(1 - np.exp(-baseline * np.exp(np.minimum(self.log_hazard(features), _LARGEST))))


class PartialLikelihood:
    """Efron's partial likelihood of n subjects, for any log-hazards.

    With w = exp(η), R(t) the sum of w over those at risk at t, T(t) that over the d events at t, and D = R - l/d T for
    the l-th of them (l from 0): log L = Σ over events (η - log D).
    """

    def __init__(self, times: Array, events: Array) -> None:
        self.events = events > 0
        unique, self.place = np.unique(times, return_inverse=True)
        self.count = len(unique)
        of_event = self.place[self.events]
        self.order = np.sort(of_event)
        ties = np.bincount(of_event, minlength=self.count)
        rank = np.arange(len(self.order)) - np.searchsorted(self.order, self.order)
        self.share = rank / ties[self.order]

    def log_likelihood(self, eta: Array) -> float:
        """Log L for log-hazards ``eta`` (n,)."""
        shift = float(eta.max())
        return float(eta[self.events].sum() - np.log(self._denominators(np.exp(eta - shift))).sum()) - shift * len(
            self.order
        )

    def weights(self, eta: Array) -> tuple[Array, Array, Array]:
        """W (n,), D (events,), and each subject's summed share of the hazard A (n,), for ``eta`` less its maximum."""
        w = np.exp(eta - eta.max())
        d = self._denominators(w)
        steps = np.bincount(self.order, 1 / d, minlength=self.count)
        tied = np.bincount(self.order, self.share / d, minlength=self.count)
        share = np.cumsum(steps)[self.place] - np.where(self.events, tied[self.place], 0.0)
        return w, d, share

    def risk_means(self, features: Array, w: Array, d: Array) -> Array:
        """(events, F) weighted mean of ``features`` (n, F) over those at risk at each event."""
        weighted = w[:, None] * features
        at_risk = np.zeros((self.count, features.shape[1]))
        tied = np.zeros_like(at_risk)
        np.add.at(at_risk, self.place, weighted)
        np.add.at(tied, self.place[self.events], weighted[self.events])
        at_risk = np.cumsum(at_risk[::-1], axis=0)[::-1]
        return np.asarray((at_risk[self.order] - self.share[:, None] * tied[self.order]) / d[:, None])

    def _denominators(self, w: Array) -> Array:
        at_risk = np.cumsum(np.bincount(self.place, w, minlength=self.count)[::-1])[::-1]
        tied = np.bincount(self.place[self.events], w[self.events], minlength=self.count)
        return np.asarray(np.maximum(at_risk[self.order] - self.share * tied[self.order], 1e-300), dtype=np.float64)


def fit_cox(features: Array, times: Array, events: Array, strength: float | Array, start: Array | None = None) -> Array:
    """(F,) coefficients that maximise log L / events - Σ strength/2 · β², by Newton's method with step halving.

    ``features`` (n, F) are standardised, ``times`` and ``events`` (n,); ``strength`` is one penalty for all features or
    one for each (F,); ``start`` (F,) are coefficients to begin with.
    """
    if features.shape[1] > len(features) and np.ndim(strength) == 0:
        # One penalty for all does not depend on a rotation: solve in the rows' own space, which has fewer dimensions.
        left, singular, right = np.linalg.svd(features, full_matrices=False)
        inside = None if start is None else right @ start
        return np.asarray(fit_cox(left * singular, times, events, strength, inside) @ right, dtype=np.float64)
    likelihood = PartialLikelihood(times, events)
    count = max(len(likelihood.order), 1)
    beta = np.zeros(features.shape[1]) if start is None else start.copy()
    penalty = np.broadcast_to(np.asarray(strength, dtype=np.float64), beta.shape)

    def objective(candidate: Array) -> float:
        return likelihood.log_likelihood(features @ candidate) / count - float((penalty * candidate**2).sum()) / 2

    value = objective(beta)
    for _ in range(_STEPS):
        w, d, share = likelihood.weights(features @ beta)
        gradient = features.T @ (likelihood.events - w * share) / count - penalty * beta
        means = likelihood.risk_means(features, w, d)
        hessian = ((features.T * (w * share)) @ features - means.T @ means) / count
        hessian[np.diag_indices_from(hessian)] += penalty
        if penalty.all():
            step = np.linalg.solve(hessian, gradient)
        else:  # features that depend on each other have no single solution without a penalty
            step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        size = 1.0
        for _ in range(_HALVINGS):
            found = objective(beta + size * step)
            if found >= value - 1e-12:
                break
            size /= 2
        beta = beta + size * step
        gain, value = found - value, found
        if gain < _TOLERANCE:
            break
    return np.asarray(beta, dtype=np.float64)


def fit_cox_probe(
    features: Array,
    times: Array,
    events: Array,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    parts: Parts = ONE_PART,
) -> CoxProbe:
    """Cox regression of n subjects with the penalty that predicts the inner folds' events best.

    ``features`` (n, F), ``times`` and ``events`` (n,); inner folds do not split ``groups`` (n,).  The strength has the
    highest cross-validated partial likelihood, Σ over folds of log L(all, β without the fold) - log L(the rest, the
    same β) (Verweij and van Houwelingen 1993); the strongest of equals.  ``parts`` as in `fit_probe`: their scales are
    chosen by ridge regression of the martingale residuals of a model without features.
    """
    inner = make_folds(events, True, groups, INNER_FOLDS, seed + 1) if events.any() and not events.all() else []
    inner = inner or make_folds(events, False, groups, INNER_FOLDS, seed + 1)
    scaling = Scaling(parts, True)
    if parts != ONE_PART:
        residuals = martingale_residuals(times, events)
        scaling = Scaling(parts, True, choose_scales(features, residuals, 0, inner, scaling))
    best = _choose_strength(features, times, events, [train for train, _ in inner], scaling)
    mean, std = scaling.of(features)
    beta = fit_cox((features - mean) / std, times, events, float(COX_STRENGTHS[best]))
    weights = beta / std
    intercept = -float(weights @ mean)
    when, hazard = baseline_hazard(times, events, features @ weights + intercept)
    return CoxProbe(weights, intercept, float(COX_STRENGTHS[best]), when, hazard)


def _choose_strength(
    features: Array, times: Array, events: Array, parts: list[NDArray[np.int64]], scaling: Scaling
) -> int:
    usable = [train for train in parts if events[train].any()]
    if not usable:
        return 0
    whole = PartialLikelihood(times, events)
    prepared = []
    for train in usable:
        mean, std = scaling.of(features[train])
        prepared.append((features - mean) / std)
    likelihoods = [PartialLikelihood(times[train], events[train]) for train in usable]
    betas: list[Array | None] = [None] * len(usable)
    totals: list[float] = []
    for strength in COX_STRENGTHS:
        total = 0.0
        for k, (train, given) in enumerate(zip(usable, prepared, strict=True)):
            beta = fit_cox(given[train], times[train], events[train], float(strength), betas[k])
            betas[k] = beta
            eta = given @ beta
            total += whole.log_likelihood(eta) - likelihoods[k].log_likelihood(eta[train])
        totals.append(total)
        if len(totals) - 1 - int(np.argmax(totals)) >= _PATIENCE:  # weaker penalties are slow, and only get worse
            break
    return int(np.argmax(totals))


def baseline_hazard(times: Array, events: Array, eta: Array) -> tuple[Array, Array]:
    """Event times (k,) and the cumulative hazard (k,) of a subject with log-hazard 0 (Breslow's, ties by Efron)."""
    likelihood = PartialLikelihood(times, events)
    _, d, _ = likelihood.weights(eta)
    steps = np.bincount(likelihood.order, np.exp(-eta.max()) / d, minlength=likelihood.count)
    chosen = np.unique(likelihood.order)
    return np.unique(times)[chosen], np.cumsum(steps[chosen])


def martingale_residuals(times: Array, events: Array) -> Array:
    """(n,) events minus the cumulative hazard of all subjects alike at each one's time."""
    when, hazard = baseline_hazard(times, events, np.zeros(len(times)))
    place = np.searchsorted(when, times, side="right")
    return np.asarray(events - np.concatenate([[0.0], hazard])[place], dtype=np.float64)
