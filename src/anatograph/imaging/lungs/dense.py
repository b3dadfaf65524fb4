"""Dense disease at the rim of a lung: consolidation and tumour that a threshold leaves outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, close, components

CLOSING_MM = 6.0
"""Vessels, small nodules and the branching of the hilum narrower than twice this are taken in."""


def filled_lung(grid: CoarseGrid, lung: Bool) -> Bool:
    """One lung with its vessels and holes filled, z, y, x."""
    filled = close(lung, CLOSING_MM, grid.spacing)
    labels, sizes = components(~filled)
    border = np.zeros_like(lung)
    for axis in range(3):
        np.moveaxis(border, axis, 0)[[0, -1]] = True
    open_parts = np.unique(labels[border])
    closed = ~np.isin(labels, open_parts)
    return np.asarray(filled | closed)


def hull(points_yx: NDArray[np.intp]) -> NDArray[np.float64]:
    """Corners (n, 2) of the convex hull of (m, 2) points, in order; empty where they span no area."""
    try:
        found = ConvexHull(points_yx.astype(np.float64))
    except (QhullError, ValueError):
        return np.empty((0, 2))
    return np.asarray(points_yx[found.vertices], dtype=np.float64)
