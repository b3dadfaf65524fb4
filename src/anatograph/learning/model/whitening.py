"""Whitening of embeddings by the within-subject covariance of regions."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from anatograph.learning.model.config import ModelConfig

FLOOR = 1e-3
"""Added to every eigenvalue, as a fraction of their mean."""

MOST = 200
"""Largest number of subjects used: their regions estimate a 128 x 128 covariance well enough."""


def whitening(nodes: NDArray[np.floating], exponent: float = 1.0) -> NDArray[np.float64]:
    """Σ^(-exponent/2) (F, F), Σ the covariance of regions about their landmark's mean and their subject's mean.

    ``nodes`` (S, N, F), NaN where a subject lacks a landmark. A subject is the mean over its regions, so subjects
    differ by what most of their regions have in common; other differences between regions (vessels, noise, the exact
    position of a patch) are nuisance. After whitening, the size of a direction is the ratio of its scatter between
    subjects to its scatter within them, and the penalty of a linear probe falls on directions where this ratio is
    small. With an ``exponent`` below 1 whitening is partial: full whitening also amplifies directions that hold little
    more than noise, which a probe cannot recognise from a few hundred subjects.
    """
    rows = np.asarray(nodes, dtype=np.float32).copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a landmark that no subject has
        rows -= np.nanmean(rows, axis=0)
        rows -= np.nanmean(rows, axis=1, keepdims=True)
    known = rows[np.isfinite(rows).all(axis=2)].astype(np.float64)
    values, vectors = np.linalg.eigh(known.T @ known / max(len(known), 1))
    values = np.maximum(values, 0.0)
    root = (values + FLOOR * (values.mean() or 1.0)) ** (exponent / 2)
    return np.asarray((vectors / root) @ vectors.T, dtype=np.float64)


def whitening_by_parts(nodes: NDArray[np.floating], config: ModelConfig) -> NDArray[np.float64]:
    """The matrix (F, F) for nodes (S, N, F): a block for the features of the contrasts, and one for those joined to
    them, each as `whitening` has it. Fewer features than the model's are those of the contrasts."""
    size = config.contrast_size
    matrix = np.zeros((nodes.shape[-1],) * 2)
    for part in (slice(0, size), slice(size, len(matrix))):
        if part.stop > part.start:
            matrix[part, part] = whitening(nodes[..., part], config.whiten)
    return matrix
