"""Fissures and lobes of the lungs in thorax coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOBES = ("right upper", "right middle", "right lower", "left upper", "left lower")


def oblique(x: Array, y: Array, z: Array) -> Array:
    """Distance (mm) above the oblique fissures; positive in upper and middle lobe."""
    left = (x > 0).astype(np.float64)
    slope = 1.08 - 0.06 * left
    across = (np.abs(x) - 75.0) / 50.0
    height = -22.0 + 6.0 * left + slope * (y - 12.0) - 9.0 * across * across - 0.0022 * (y - 12.0) ** 2
    return np.asarray((z - height) / np.sqrt(1.0 + slope * slope))


def horizontal(x: Array, y: Array, z: Array) -> Array:
    """Distance (mm) above the horizontal fissure of the right lung."""
    across = (x + 85.0) / 50.0
    return np.asarray(z - (-8.0 - 0.08 * y - 6.0 * across * across))


def lobe_index(x: Array, y: Array, z: Array) -> NDArray[np.int64]:
    """Which of `LOBES` a place in the lungs belongs to."""
    upper = oblique(x, y, z) > 0
    right = np.where(upper, np.where(horizontal(x, y, z) > 0, 0, 1), 2)
    return np.asarray(np.where(x < 4.0, right, np.where(upper, 3, 4)), dtype=np.int64)


def fissure_distance(x: Array, y: Array, z: Array) -> Array:
    """Distance (mm) to the nearest fissure, 0 on it."""
    main = oblique(x, y, z)
    second = np.where((x < 4.0) & (main > 0), np.abs(horizontal(x, y, z)), 1e3)
    return np.asarray(np.minimum(np.abs(main), second))
