"""Standard measures of lung density, as reported in radiology."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1, 5, 10, 15, 25, 50, 75, 90, 95, 99)
FIGURES = ("LAA-950", "LAA-910", *(f"Perc{p}" for p in PERCENTILES), "mean", "sd", "volume")
"""Names of the measures: shares of lung voxels below -950 and -910 HU, percentiles, mean and standard deviation of HU
(Perc15 among them), lung volume in litres."""


def density_figures(hu: NDArray[np.int16], voxel_volume: float) -> NDArray[np.float64]:
    """`FIGURES` of the voxels of a lung.

    Args:
        hu: (n,) HU as they come from the scanner, not clipped to any window.
        voxel_volume: in mm³.

    Raises:
        ValueError: no voxels.
    """
    if not len(hu):
        raise ValueError("density of a lung without voxels")
    shares = [float(np.mean(hu < limit)) for limit in (-950, -910)]
    levels = np.percentile(hu, PERCENTILES)
    moments = [float(hu.mean(dtype=np.float64)), float(hu.std(dtype=np.float64)), len(hu) * voxel_volume / 1e6]
    return np.array([*shares, *levels, *moments])
