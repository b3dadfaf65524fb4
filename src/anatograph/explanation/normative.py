"""What is usual at each landmark: a normative model of the region features of reference subjects, and deviations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError, counted

LEAST_SUBJECTS = 10
"""Fewest reference subjects that can say what is usual."""
_MOST_COMPONENTS = 24
_VARIANCE = 0.98
_TRIMMED = 0.1
_ROUNDS = 2
_PARTS = 10
_SAMPLE = 60_000
_TAIL = (0.90, 0.995)
"""Between these quantiles of the reference the line is drawn along which the calibration is extended beyond them."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Normative:
    """Centres, whitening and covariances that describe the reference subjects, landmark by landmark."""

    centre: Array
    """(N, F) median of h'_j; NaN where no subject has the landmark."""
    basis: Array
    """(F, q) from h'_j minus its centre to q numbers whose covariance over all landmarks is the identity."""
    mean: Array
    """(N, q) mean at each landmark in these numbers, the outer tenth left out."""
    precision: Array
    """(N, q, q) inverse of the covariance at each landmark, shrunk (Ledoit and Wolf) towards the pooled one."""

    def reduced(self, nodes: NDArray[np.float32]) -> Array:
        """Features (..., N, F) as (..., N, q), NaN where they are."""
        return np.asarray((nodes - self.centre) @ self.basis, dtype=np.float64)

    def distance(self, nodes: NDArray[np.float32]) -> Array:
        """Squared Mahalanobis distance (..., N) from the reference at the same landmark."""
        off = self.reduced(nodes) - self.mean
        return np.asarray(np.einsum("...nq,nqr,...nr->...n", off, self.precision, off), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A normative model and the calibration of its distances."""

    model: Normative
    """The model that measures."""
    usual: Array
    """(N,) median cube root of the distance at each landmark, each subject measured by a model without it."""
    quantiles: Array
    """(k,) ascending: distances above ``usual`` of the reference subjects, all landmarks together …"""
    normal: Array
    """(k,) … and the quantiles of the normal distribution that belong to them."""
    slope: float
    """Normal units to one unit of distance, beyond the last quantile."""
    burden: Array
    """(n,) ascending: share of the landmarks with deviation above 2, of each reference subject by a model without
    it."""

    def deviation(self, nodes: NDArray[np.float32]) -> Array:
        """Features (N, F) to deviations (N,) in normal units: 2 or more in 2.3 % of the regions of reference subjects.

        One-sided: far from the usual in any direction is high; below 0 is nearer to it than most.
        """
        return self.calibrate(np.cbrt(self.model.distance(nodes)) - self.usual)

    def calibrate(self, above: Array) -> Array:
        """Distances above the usual (cube roots) as normal deviations."""
        inside = np.interp(above, self.quantiles, self.normal)
        beyond = self.normal[-1] + self.slope * (above - self.quantiles[-1])
        result = np.where(above > self.quantiles[-1], beyond, inside)
        return np.asarray(np.where(np.isfinite(above), result, np.nan), dtype=np.float64)

    def burden_of(self, deviation: Array) -> tuple[float, float]:
        """Share of a subject's landmarks above 2, and the share of reference subjects with as many or more."""
        share = _share_above(deviation[None])[0]
        more = int((self.burden >= share - 1e-12).sum())
        return float(share), float((1 + more) / (1 + len(self.burden)))


def fit_normative(reference: NDArray[np.float32]) -> Normative:
    """The normative model of subjects (n, N, F), NaN where a landmark is absent.

    Centre: the median at each landmark. Directions: PCA of what is left, all landmarks together, up to 98 % of the
    variance and 24 components, after the outer tenth was left out twice; whitened. Then at each landmark the mean and
    the covariance of its subjects without their outer tenth (found in two rounds), the covariance shrunk towards the
    pooled one. A sick minority of the reference therefore has little effect.

    Raises:
        UserError: fewer than 10 subjects.
    """
    _check_number(reference)
    return _fitted(reference)


def _check_number(reference: NDArray[np.float32]) -> None:
    if len(reference) < LEAST_SUBJECTS:
        raise UserError(
            f"{counted(len(reference), 'reference subject')} {'is' if len(reference) == 1 else 'are'} too few to say "
            f"what is usual; give at least {LEAST_SUBJECTS}."
        )


def _fitted(reference: NDArray[np.float32]) -> Normative:
    """`fit_normative` of any number of subjects."""
    centre = _median(reference)
    basis = _whitening(reference, centre)
    reduced = np.asarray((reference - centre) @ basis, dtype=np.float64)
    count, landmarks, size = reduced.shape
    mean = np.zeros((landmarks, size))
    precision = np.tile(np.eye(size), (landmarks, 1, 1))
    for j in range(landmarks):
        here = reduced[np.isfinite(reduced[:, j, 0]), j]
        if len(here) < max(3, count // 4):
            mean[j] = np.nan  # too few have it to call anything there unusual
            continue
        off = (here**2).sum(axis=1)
        for _ in range(_ROUNDS):
            mean[j], precision[j] = _shrunk(here[off <= np.quantile(off, 1 - _TRIMMED)])
            off = np.einsum("pq,qr,pr->p", here - mean[j], precision[j], here - mean[j])
    return Normative(centre, basis, mean, precision)


def cross_measure(reference: NDArray[np.float32], groups: NDArray[np.int64] | None = None, seed: int = 0) -> Array:
    """(n, N) cube root of the squared distance of reference subjects (n, N, F), each by a model without it.

    A tenth of the subjects at a time is measured by a model of the rest; ``groups`` (n,) are not split.

    Raises:
        UserError: fewer than 10 subjects, or a single group.
    """
    _check_number(reference)
    root = np.full(reference.shape[:2], np.nan)
    for test in _parts(len(reference), groups, seed):
        rest = np.setdiff1d(np.arange(len(reference)), test)
        root[test] = np.cbrt(_fitted(reference[rest]).distance(reference[test]))
    return root


def calibrate(model: Normative, root: Array) -> Calibrated:
    """Calibrate the distances of a model, from those that `cross_measure` found (n, N).

    The cube roots, nearly normal after Wilson and Hilferty, minus their median at the landmark, are matched with the
    normal distribution quantile by quantile, all landmarks together; beyond the 99.5th percentile the line through
    the last tenth is extended.

    Raises:
        UserError: hardly any region is present.
    """
    from scipy.stats import norm

    usual = _median(root)
    above = root - usual
    pooled = np.sort(above[np.isfinite(above)])
    if len(pooled) < 100:
        raise UserError(
            "Too few regions of the reference subjects lie in their scans to say what is usual; add subjects."
        )
    last = min(_TAIL[1], 1 - 5 / len(pooled))
    probabilities = np.concatenate([np.linspace(0.001, 0.9, 200), 1 - np.geomspace(0.1, 1 - last, 60)[1:]])
    quantiles, first = np.unique(np.quantile(pooled, probabilities), return_index=True)
    normal = norm.ppf(probabilities[first])
    start = min(int(np.searchsorted(probabilities[first], _TAIL[0])), len(quantiles) - 2)
    slope = float((normal[-1] - normal[start]) / max(quantiles[-1] - quantiles[start], 1e-9))
    found = Calibrated(model, usual, quantiles, normal, slope, np.zeros(0))
    return replace(found, burden=np.sort(_share_above(found.calibrate(above))))


def _whitening(reference: NDArray[np.float32], centre: Array) -> Array:
    """(F, q) whitening of what is left of the centres, the outer tenth of the regions left out."""
    rows = (reference - centre).reshape(-1, reference.shape[2])
    rows = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
    if len(rows) > _SAMPLE:
        rows = rows[np.random.default_rng(0).choice(len(rows), _SAMPLE, replace=False)]
    kept = rows
    for attempt in range(_ROUNDS + 1):
        covariance = kept.T @ kept / len(kept)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1], vectors[:, ::-1]
        if values[0] <= 0:
            raise UserError("The features of the reference subjects are all the same; embed them with a trained model.")
        size = int(np.searchsorted(np.cumsum(values) / values.sum(), _VARIANCE) + 1)
        size = max(1, min(size, _MOST_COMPONENTS, len(reference) // 3, int((values > 1e-9 * values[0]).sum())))
        basis = vectors[:, :size] / np.sqrt(values[:size])
        if attempt < _ROUNDS:
            off = ((rows @ basis) ** 2).sum(axis=1)
            kept = rows[off <= np.quantile(off, 1 - _TRIMMED)]
    return np.asarray(basis, dtype=np.float64)


def _shrunk(rows: Array) -> tuple[Array, Array]:
    """Mean, and inverse of the shrunk covariance, of rows (m, q)."""
    from sklearn.covariance import ledoit_wolf

    mean = rows.mean(axis=0)
    if rows.shape[1] == 1:
        return mean, np.array([[1 / max(float(rows.var()), 1e-9)]])
    covariance, _ = ledoit_wolf(rows - mean, assume_centered=True)
    return mean, np.asarray(np.linalg.inv(covariance + 1e-9 * np.eye(len(covariance))), dtype=np.float64)


def _parts(count: int, groups: NDArray[np.int64] | None, seed: int) -> list[NDArray[np.int64]]:
    """Rows in up to ten shuffled parts that split no group."""
    from anatograph.evaluation.folds import make_folds

    parts = [test for _, test in make_folds(np.zeros(count), False, groups, _PARTS, seed)]
    if len(parts) < 2:
        raise UserError(
            "The reference subjects are all of one group, so none can be measured by the rest; leave --group out."
        )
    return parts


def _share_above(deviation: Array) -> Array:
    """(n, N) deviations to (n,) shares above 2 of the landmarks that are present."""
    known = np.isfinite(deviation)
    return np.asarray(((deviation > 2) & known).sum(axis=1) / np.maximum(known.sum(axis=1), 1), dtype=np.float64)


def _median(values: NDArray[np.float32] | Array) -> Array:
    """Median over the first axis without NaN; NaN where there is nothing."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=0), dtype=np.float64)
