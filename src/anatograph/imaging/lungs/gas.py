"""Gas of stomach and bowel, which lies beside the lung but is hardly bordered by it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, components, dilate

GAS_HU = -940
"""Pure gas is darker than this after light smoothing; so are bullae, which lung surrounds."""


def find_gas(grid: CoarseGrid, inside: Bool, airway: Bool, lung_hu: float) -> Bool:
    """Pockets of pure gas that are bordered by soft tissue rather than by lung, with 3 mm of wall, z, y, x.

    ``lung_hu`` is the typical density of this person's lung.
    """
    smooth = ndimage.gaussian_filter(grid.hu, [2.0 / s for s in grid.spacing], truncate=2.5)
    level = min(GAS_HU, lung_hu - 45)
    labels, sizes = components(inside & (smooth < level) & ~airway)
    result = np.zeros_like(inside)
    boxes = ndimage.find_objects(labels)
    margin = [int(np.ceil(7.0 / s)) + 1 for s in grid.spacing]
    for k, place in enumerate(boxes, start=1):
        if sizes[k] * grid.voxel_ml < 0.5:
            continue
        around = tuple(
            slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(place, margin, labels.shape, strict=True)
        )
        pocket = labels[around] == k
        shell = dilate(pocket, 6.0, grid.spacing) & ~dilate(pocket, 2.5, grid.spacing)
        hu = grid.hu[around][shell]
        if hu.size and float(np.mean((hu > -935) & (hu < -600))) < 0.3:
            result[around] |= dilate(pocket & (grid.hu[around] < -850), 3.0, grid.spacing) & (grid.hu[around] < -150)
    return result
