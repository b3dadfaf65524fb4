"""A value for each landmark, spread over its patch on the voxels of the scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Frame, bounding_box

NO_VALUE = 0.0
"""Outside the lungs, and where no patch reaches."""


def paint(
    values: NDArray[np.float64],
    landmarks: NDArray[np.float64],
    patch_size: float,
    lungs: NDArray[np.bool_],
    frame: Frame,
) -> NDArray[np.float32]:
    """Values (N,), NaN for none, of patches of ``patch_size`` mm about ``landmarks`` (N, 3) LPS mm, as (z, y, x).

    ``frame`` runs along L, P and S, and ``lungs`` (z, y, x) lies on it.  Where patches overlap, each counts by how
    near its middle the voxel is (a raised cosine along each axis), so that there are no seams.  Outside the lungs
    and where no patch reaches the result is 0.
    """
    result = np.full(frame.shape, NO_VALUE, dtype=np.float32)
    box = bounding_box(lungs)
    if box is None:
        return result
    inside = lungs[box]
    total = np.zeros(inside.shape, dtype=np.float32)
    weight = np.zeros(inside.shape, dtype=np.float32)
    # Coordinates of the voxels of the box along z, y, x.
    axes = [
        frame.origin[2 - axis] + frame.spacing[2 - axis] * np.arange(part.start, part.stop)
        for axis, part in enumerate(box)
    ]
    for value, centre in zip(values, landmarks, strict=True):
        if not np.isfinite(value):
            continue
        parts, windows = [], []
        for axis, coordinates in enumerate(axes):
            distance = np.abs(coordinates - centre[2 - axis])
            near = np.flatnonzero(distance <= patch_size / 2)
            if not len(near):
                break
            parts.append(slice(int(near[0]), int(near[-1]) + 1))
            # A little weight at the very edge, so that a voxel that only this patch reaches has a value.
            windows.append((1e-3 + np.cos(np.pi * distance[parts[-1]] / patch_size) ** 2).astype(np.float32))
        else:
            block = windows[0][:, None, None] * windows[1][:, None] * windows[2]
            where = tuple(parts)
            weight[where] += block
            total[where] += np.float32(value) * block
    reached = inside & (weight > 0)
    part = result[box]
    part[reached] = total[reached] / weight[reached]
    return result
