"""Do two probes look in the same direction?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.probes.cox import martingale_residuals
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target

Array = NDArray[np.float64]
_CHANCE = 1e-6


def correlation(first: Array, second: Array) -> float:
    """First canonical correlation of columns (n, K) and (n, M): |r| for single columns; NaN for a constant one.

    The largest correlation of any weighted sum of the one with any of the other; 0 to 1.
    """
    bases = []
    for columns in (first, second):
        off = columns - columns.mean(axis=0)
        left, singular, _ = np.linalg.svd(off, full_matrices=False)
        bases.append(left[:, singular > 1e-9 * max(float(singular[0]), 1e-12) * len(off)])
    if not bases[0].shape[1] or not bases[1].shape[1]:
        return float("nan")
    return float(min(1.0, np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)[0]))


def answer_columns(target: Target, done: Predictions) -> Array:
    """(n, K) out-of-fold answers of a probe as directions: values, log-hazards, or log-odds against the first class."""
    if done.probabilities is None:
        return done.predicted[:, None]
    logs = np.log(np.clip(done.probabilities, _CHANCE, None))
    return np.asarray(logs[:, 1:] - logs[:, :1], dtype=np.float64)


def label_columns(target: Target) -> Array:
    """(n, K) the labels themselves: numbers, indicators of all classes but the first, martingale residuals."""
    if target.times is not None:
        return martingale_residuals(target.times, target.values)[:, None]
    if len(target.classes) > 1 and target.task == "classification":
        return np.asarray(target.values[:, None] == np.arange(1, len(target.classes)), dtype=np.float64)
    return target.values[:, None]


class WithoutNuisance:
    """A `Preparation` that removes the linear effect of a nuisance from every feature, fitted on training rows."""

    def __init__(self, rows: NDArray[np.int64], columns: Array) -> None:
        self.place = {int(row): k for k, row in enumerate(rows)}
        self.columns = columns

    def __call__(self, features: Array, rows: NDArray[np.int64], train: NDArray[np.int64]) -> Array:
        """Features (n, F) of the table's ``rows``, all of which the nuisance is known for."""
        own = self.columns[[self.place[int(row)] for row in rows]]
        design = np.column_stack([np.ones(len(own)), own])
        effect = np.linalg.lstsq(design[train], features[train], rcond=None)[0]
        return np.asarray(features - (own - own[train].mean(axis=0)) @ effect[1:], dtype=np.float64)
