"""A probe that is not linear: ridge regression in the space of a Gaussian kernel, its strength by inner folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.folds import make_folds
from anatograph.evaluation.probes.ridge import INNER_FOLDS, RIDGE_STRENGTHS, ridge_path

Array = NDArray[np.float64]
_LEAST = 1e-10


def kernel_ridge(
    train: Array, outcome: Array, test: Array, groups: NDArray[np.int64] | None = None, seed: int = 0
) -> Array:
    """(m, K) predictions for ``test`` (m, F) of kernel ridge regression of ``outcome`` (n, K) on ``train`` (n, F).

    Standardised features, kernel exp(-|x - y|² / median |x - y|²); the strength has the least squared error in inner
    folds, which do not split ``groups`` (n,).
    """
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 1e-6 * np.abs(mean), std, 1.0)
    a, b = (train - mean) / std, (test - mean) / std
    squared = _squared(a, a)
    width = float(np.median(squared[np.triu_indices(len(a), 1)])) or 1.0
    values, vectors = np.linalg.eigh(np.exp(-squared / width))
    large = values > _LEAST * values[-1]
    basis = vectors[:, large] / np.sqrt(values[large])
    inside, outside = np.exp(-squared / width) @ basis, np.exp(-_squared(b, a) / width) @ basis
    errors = np.zeros(len(RIDGE_STRENGTHS))
    for fit_on, check in make_folds(np.zeros(len(a)), False, groups, INNER_FOLDS, seed + 1):
        for column in range(outcome.shape[1]):
            predicted = _path(inside[fit_on], outcome[fit_on, column], inside[check], RIDGE_STRENGTHS)
            errors += ((predicted - outcome[check, column, None]) ** 2).sum(axis=0)
    best = RIDGE_STRENGTHS[[len(errors) - 1 - int(errors[::-1].argmin())]]
    found = [_path(inside, outcome[:, column], outside, best)[:, 0] for column in range(outcome.shape[1])]
    return np.stack(found, axis=1)


def _path(train: Array, values: Array, test: Array, strengths: Array) -> Array:
    """(m, strengths) predictions of ridge regression on centred columns."""
    mean, middle = train.mean(axis=0), values.mean()
    path = ridge_path(train - mean, values - middle, strengths)
    return np.asarray((test - mean) @ path.T + middle, dtype=np.float64)


def _squared(a: Array, b: Array) -> Array:
    return np.asarray(
        np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T, 0.0), dtype=np.float64
    )
