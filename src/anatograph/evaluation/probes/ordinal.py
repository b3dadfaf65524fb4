"""Logistic regression for the steps of a score: proportional odds (McCullagh 1980), one direction for all steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class ProportionalOdds:
    """P(y > k) = sigmoid(w · x + β_k), β descending, with an L2 penalty on w.

    Least of Σ -log P(y_i) + |w|² / (2 C), as scikit-learn's `LogisticRegression` has it for two classes; the interface
    is that class's, as far as it goes.
    """

    classes_: NDArray[np.int64]
    """(K,) the steps that training subjects have, ascending."""
    coef_: Floats
    """(1, F) w."""
    intercept_: Floats
    """(K - 1,) β_k: the log-odds of being above each step but the last, where w · x is 0."""

    def __init__(self, C: float = 1.0) -> None:
        self.C = C
        self._begin: Floats | None = None

    def set_params(self, C: float) -> ProportionalOdds:
        """Another penalty; the next fit begins where the last one ended."""
        self.C = C
        return self

    def fit(self, features: Floats, labels: NDArray[np.int64]) -> ProportionalOdds:
        """Fit on features (n, F) and steps (n,), of which there are at least two different ones."""
        from scipy.optimize import minimize

        self.classes_, codes = np.unique(labels, return_inverse=True)
        counts = np.bincount(codes).astype(np.float64)
        width = features.shape[1]
        begin = self._begin
        if begin is None or len(begin) != width + len(counts) - 1:
            below = np.cumsum(counts)[:-1] / counts.sum()
            begin = np.concatenate([np.zeros(width), _to_gaps(np.log(below / (1 - below)))])
        found: Any = minimize(
            _loss, begin, args=(features, codes, counts, 1 / self.C), jac=True, method="L-BFGS-B",
            options={"maxiter": 3000, "maxfun": 6000, "ftol": 1e-13, "gtol": 1e-6},
        )  # fmt: skip
        self._begin = np.asarray(found.x, dtype=np.float64)
        self.coef_ = self._begin[None, :width]
        self.intercept_ = -_thresholds(self._begin[width:])
        return self

    def predict_proba(self, features: Floats) -> Floats:
        """(n, K) probability of each step."""
        return step_probabilities(features @ self.coef_.T + self.intercept_)


def step_probabilities(above: Floats) -> Floats:
    """(n, K) probability of each step from log-odds (n, K - 1) of being above each but the last."""
    from scipy.special import expit

    chance = expit(above)
    edge = np.ones((len(chance), 1))
    return np.asarray(-np.diff(np.concatenate([edge, chance, 0 * edge], axis=1), axis=1), dtype=np.float64)


def all_steps(intercept: Floats, present: NDArray[np.int64], steps: int) -> Floats:
    """(steps - 1,) β for every step from those of the ``present`` ones: steps without a subject get no probability."""
    bounded = np.concatenate([[1e3], intercept, [-1e3]])
    return np.asarray(bounded[np.searchsorted(present, np.arange(steps - 1), side="right")], dtype=np.float64)


def _to_gaps(thresholds: Floats) -> Floats:
    """The first threshold and the logarithms of the gaps to the next ones, which may take any value."""
    return np.concatenate([thresholds[:1], np.log(np.maximum(np.diff(thresholds), 1e-6))])


def _thresholds(gaps: Floats) -> Floats:
    return np.asarray(np.cumsum(np.concatenate([gaps[:1], np.exp(gaps[1:])])), dtype=np.float64)


def _loss(
    at: Floats, features: Floats, codes: NDArray[np.int64], counts: Floats, penalty: float
) -> tuple[float, Floats]:
    """Penalised negative log-likelihood and its gradient, at w and `_to_gaps` of the thresholds θ = -β.

    σ(u) - σ(l) = σ(u) σ(-l) (1 - exp(l - u)), whose last factor depends on the step alone, so nothing is lost where
    both are near 0 or 1.
    """
    from scipy.special import expit, log_expit

    width = features.shape[1]
    weights, thresholds = at[:width], _thresholds(at[width:])
    bounds = np.concatenate([[-np.inf], thresholds, [np.inf]])
    score = features @ weights
    upper, lower = bounds[codes + 1] - score, bounds[codes] - score
    gaps = np.maximum(np.diff(thresholds), 1e-300)
    inner = counts[1:-1]
    loss = -log_expit(upper).sum() - log_expit(-lower).sum() - (inner * np.log(-np.expm1(-gaps))).sum()
    from_upper, from_lower = expit(-upper), expit(lower)
    of_weights = features.T @ (from_upper - from_lower) + penalty * weights
    of_steps = np.bincount(codes, from_lower, len(counts))[1:] - np.bincount(codes, from_upper, len(counts))[:-1]
    of_thresholds = np.asarray(of_steps, dtype=np.float64)
    of_gap = -inner * _over_expm1(gaps)
    of_thresholds[1:] += of_gap
    of_thresholds[:-1] -= of_gap
    later = np.cumsum(of_thresholds[::-1])[::-1]
    of_gaps = np.concatenate([later[:1], later[1:] * np.exp(at[width + 1 :])])
    return float(loss + penalty / 2 * weights @ weights), np.concatenate([of_weights, of_gaps])


def _over_expm1(gaps: Floats) -> Floats:
    """1 / (exp(gap) - 1) without overflow."""
    return np.asarray(np.exp(-gaps) / -np.expm1(-gaps), dtype=np.float64)
