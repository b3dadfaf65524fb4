"""Smooth random fields on the coarse grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from anatograph.phantoms.raster.grid import COARSE_MM

Array = NDArray[np.float64]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma_mm: float) -> Array:
    """Unit-variance Gaussian noise on the coarse grid, smooth over ``sigma_mm``."""
    noise = gaussian_filter(rng.standard_normal(shape), sigma_mm / COARSE_MM, mode="wrap", truncate=3.0)
    return np.asarray(noise / noise.std())
