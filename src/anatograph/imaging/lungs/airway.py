"""Trachea and main bronchi, found from above and grown until they would spill into the lung."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, Triple, components, dilate

LUMEN_HU = (-930, -900, -850, -780, -700, -600)
"""Levels below which the lumen of the trachea may stand out as a separate disc in a slice, tried in turn."""
AREA_MM2 = (40.0, 900.0)
"""Cross sections a trachea can have."""
WALL_MM = 2.0
"""The wall that belongs to the airway, not to the lung."""
MIDDLE_MM = 90.0
"""No large airway outside the lungs is farther than this from the middle of the body."""
MAX_ML = 110.0
"""A tree of trachea, main and lobar bronchi is never larger; more than this is a spill into the lung."""


def find_airway(grid: CoarseGrid, inside: Bool, middle_x: float) -> Bool:
    """Trachea and main bronchi with their wall, z, y, x; empty where no trachea is found.

    ``middle_x`` is the block column of the body's middle plane. The trachea is the longest chain of roundish discs of
    air near it; from there the lumen is grown at ever higher levels and the last one is kept that did not spill.
    """
    result = np.zeros_like(inside)
    reach = int(MIDDLE_MM / grid.spacing[2])
    columns = slice(max(0, int(middle_x) - reach), int(middle_x) + reach + 1)
    hu, near = grid.hu[:, :, columns], inside[:, :, columns]
    trachea = np.zeros_like(near)
    best = 0.0
    for level in LUMEN_HU:
        chain, score = _chain(grid.spacing, near & (hu < level), middle_x - columns.start)
        if score > 1.15 * best:
            trachea, best = chain, score
    if best > 0:
        result[:, :, columns] = dilate(_grow(grid, hu, near, trachea), WALL_MM, grid.spacing)
    return result


def _chain(spacing: Triple, air: Bool, middle_x: float) -> tuple[Bool, float]:
    """The longest chain of overlapping discs in successive slices, and its score (mm, times roundness)."""
    sz, sy, sx = spacing
    labels = np.zeros(air.shape, dtype=np.int32)
    length: list[float] = [0.0]
    before: list[int] = [0]
    offset = 0
    previous = np.zeros(air.shape[1:], dtype=np.int32)
    for z in range(len(air) - 1, -1, -1):
        here, _count = ndimage.label(air[z])
        current = np.zeros_like(previous)
        for k, place in enumerate(ndimage.find_objects(here), start=1):
            part = here[place] == k
            area = float(part.sum()) * sy * sx
            height, width = part.shape[0] * sy, part.shape[1] * sx
            round_enough = area > 0.45 * height * width and max(height, width) < 2.6 * min(height, width) + sy
            centre = (place[1].start + place[1].stop - 1) / 2
            if not (AREA_MM2[0] <= area <= AREA_MM2[1] and round_enough and abs(centre - middle_x) * sx < 45):
                continue
            offset += 1
            above = previous[place][part]
            above = above[above > 0]
            parent = int(np.bincount(above).argmax()) if above.size else 0
            shape = min(height, width) / max(height, width)
            length.append(length[parent] + sz * (0.5 + 0.5 * shape))
            before.append(parent)
            current[place][part] = offset
        labels[z] = current
        previous = current
    if offset == 0:
        return np.zeros_like(air), 0.0
    node = int(np.argmax(length))
    score = length[node]
    if score < max(20.0, 2 * sz):
        return np.zeros_like(air), 0.0
    keep = []
    while node:
        keep.append(node)
        node = before[node]
    return np.asarray(np.isin(labels, keep)), score


def _grow(grid: CoarseGrid, hu: NDArray[np.float32], inside: Bool, trachea: Bool) -> Bool:
    """The lumen grown from the trachea, by the highest level at which it stays a tree of large airways."""
    start_ml = float(trachea.sum()) * grid.voxel_ml
    limit = min(MAX_ML, 2.2 * start_ml + 25)
    result = trachea
    typical = float(np.median(hu[trachea]))
    for level in range(-970, -840, 10):
        if level < typical:
            continue
        labels, sizes = components((inside & (hu < level)) | trachea)
        hit = np.unique(labels[trachea])
        hit = hit[hit > 0]
        if float(sizes[hit].sum()) * grid.voxel_ml > limit:
            break
        result = np.isin(labels, hit)
    return result
