"""How regions of one person scatter, and the matrix that makes this scatter more alike in all directions."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-3
"""What is added to every variance, as a share of their mean."""

MOST = 200
"""People whose regions are looked at: they tell 128 × 128 numbers well enough."""


def whitening(nodes: NDArray[np.floating], share: float = 1.0) -> NDArray[np.float64]:
    """Σ^(-share/2) (F, F), Σ the covariance of regions within people, about their landmark's mean and the person's.

    ``nodes`` (S, N, F), NaN where a person lacks a landmark. A subject is the mean over its regions, so two people
    differ by what most of their regions share, and whatever else tells one region from the next (vessels, noise, where
    exactly a patch was cut) is chance to it. In coordinates that make this scatter round, a direction stands out by how
    far people lie apart in it against how far the regions of one lung do, and the penalty of a linear probe falls on
    the others. A ``share`` below 1 goes part of the way: whole whitening makes those directions large, too, in which
    there is hardly more than noise, and some hundred people cannot tell a probe which these are.
    """
    rows = np.asarray(nodes, dtype=np.float32).copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a landmark that nobody has
        rows -= np.nanmean(rows, axis=0)
        rows -= np.nanmean(rows, axis=1, keepdims=True)
    there = rows[np.isfinite(rows).all(axis=2)].astype(np.float64)
    values, vectors = np.linalg.eigh(there.T @ there / max(len(there), 1))
    values = np.maximum(values, 0.0)
    root = (values + FLOOR * (values.mean() or 1.0)) ** (share / 2)
    return np.asarray((vectors / root) @ vectors.T, dtype=np.float64)
