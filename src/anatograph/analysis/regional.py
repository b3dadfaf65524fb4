"""How regions of one person differ from each other, and a probe that does not build on such differences."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anatograph.analysis.region_store import Regions

MOST = 200
"""People whose regions are looked at, evenly chosen: they tell 128 × 128 numbers well enough."""
FLOOR = 1e-3
"""What is added to every variance, as a share of their mean."""


def regional_metric(regions: Regions, subject_ids: Sequence[str]) -> NDArray[np.float64]:
    """Σ^-1/2 (F, F), Σ being the covariance of regions within people, about their landmark's mean and the person's.

    A probe of subjects' features has as many weights as there are people or more, and uses whatever tells people
    apart. Directions in which the regions of one lung scatter cost it nothing, since they average out over the lung; a
    map of its M_j = W h'_j is then mostly that scatter. With this metric (see `fit_probe`) such directions are dear: of
    all weights that predict about as well, those with the calmest map are taken.
    """
    step = max(1, -(-len(subject_ids) // MOST))
    nodes = np.array([regions.of(name) for name in subject_ids[::step]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a landmark that nobody has
        nodes -= np.nanmean(nodes, axis=0)
        nodes -= np.nanmean(nodes, axis=1, keepdims=True)
    rows = nodes[np.isfinite(nodes).all(axis=2)].astype(np.float64)
    values, vectors = np.linalg.eigh(rows.T @ rows / max(len(rows), 1))
    values = np.maximum(values, 0.0)
    root = np.sqrt(values + FLOOR * (values.mean() or 1.0))
    return np.asarray((vectors / root) @ vectors.T, dtype=np.float64)
