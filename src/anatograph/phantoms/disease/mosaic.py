"""Lobules and lobes that are darker than their surroundings: findings that exist by comparison alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from anatograph.phantoms.disease.places import Places

Array = NDArray[np.float64]
LOBULE_MM = 24.0
"""Distance between the middles of the clusters of secondary lobules that trap air together."""


def lobule_level(places: Places, preference: Array, share: float, rng: np.random.Generator) -> Array:
    """Signed mm inside lobules that fill ``share`` of the lungs, (z, y, x) on the coarse grid.

    Whole lobules (cells about ``LOBULE_MM`` wide, with sharp and angular borders) are chosen by ``preference``, a
    log-density on the coarse grid, until the share is reached.
    """
    x, y, z = places.points
    inside = places.inside
    points = np.stack([x[inside], y[inside], z[inside]], axis=1)
    count = max(int(len(points) * 4.5**3 / LOBULE_MM**3), 4)
    seeds = points[rng.choice(len(points), size=min(count, len(points)), replace=False)]
    order = rng.gumbel(size=len(seeds))
    nearest = cKDTree(seeds)
    cell = nearest.query(points)[1]
    size = np.bincount(cell, minlength=len(seeds))
    score = np.bincount(cell, preference[inside], len(seeds)) / np.maximum(size, 1) + order
    ranked = np.argsort(-score)
    filled = np.cumsum(size[ranked])
    chosen = ranked[: max(int(np.searchsorted(filled, share * len(points))) + 1, 1)]
    mine = np.zeros(len(seeds), dtype=bool)
    mine[chosen] = True
    level = np.full(inside.shape, -30.0)
    if mine.all():
        return np.where(inside, 30.0, level)
    near = places.depth > -8.0
    around = np.stack([x[near], y[near], z[near]], axis=1)
    level[near] = (cKDTree(seeds[~mine]).query(around)[0] - cKDTree(seeds[mine]).query(around)[0]) / 2.0
    return level


def lobe_level(places: Places, lobe: int) -> Array:
    """About the signed mm inside a lobe (of `LOBES`), -30..30, (z, y, x) on the coarse grid."""
    from scipy.ndimage import distance_transform_edt

    inside = places.lobes == lobe
    level = distance_transform_edt(inside) - distance_transform_edt(~inside)
    return np.asarray(np.clip(4.5 * (level - 0.5 * np.sign(level)), -30.0, 30.0))
