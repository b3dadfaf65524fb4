"""Extraction of a subject's patches around its landmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.imaging.spline import Interpolation, SplineSampler
from anatograph.imaging.volume import Volume

PATCH_SPACING = 1.0
"""Voxel size of a patch in mm, as in the paper."""


def cut_patches(
    volume: Volume, landmarks: ArrayLike, patch_size: int = 32, interpolation: Interpolation = "bspline"
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Patches of 1 mm voxels around landmarks, in HU before any window.

    A patch is sampled around the exact landmark, not the nearest voxel, so it moves with the scan: voxel i of
    each axis lies at centre + (i - (patch_size - 1) / 2) mm.

    Args:
        volume: a scan whose axes run along L, P and S (see `anatograph.imaging.resample.axis_aligned`).
        landmarks: (N, 3) patch centres in LPS mm.
        patch_size: P, edge of a patch in voxels of 1 mm.
        interpolation: ``bspline`` (the paper's) or ``linear``.

    Returns:
        Patches (N, P, P, P) int16 HU, z, y, x, with air (-1024) outside the scan; and (N,) bool, False where a whole
        patch lies outside the scan.
    """
    centres = np.asarray(landmarks, dtype=np.float64)
    if centres.ndim != 2 or centres.shape[1] != 3:
        raise ValueError(f"landmarks must be (N, 3), not {centres.shape}")
    patches = np.full((len(centres), *(patch_size,) * 3), -1024, dtype=np.int16)
    reach = (patch_size - 1) / 2 * PATCH_SPACING
    present = _inside(volume, centres, reach)
    if present.any():
        some = centres[present]
        sampler = SplineSampler(volume, (some.min(axis=0) - reach, some.max(axis=0) + reach), interpolation)
        for row in np.flatnonzero(present):
            patches[row] = sampler.grid(centres[row], patch_size, PATCH_SPACING)
    return patches, present


def _inside(volume: Volume, centres: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """(N,) whether any voxel of a patch may lie within the scan, its outer voxel faces included."""
    last = np.asarray(volume.frame.shape[::-1]) - 0.5
    low = volume.frame.to_index(centres - reach)
    high = volume.frame.to_index(centres + reach)
    return np.asarray(((high >= -0.5) & (low <= last)).all(axis=1))
