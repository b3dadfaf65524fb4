"""Which part of the air in the chest is the right lung and which the left."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, Triple, components, depth_mm, dilate
from anatograph.imaging.volume import Mask, bounding_box

LUNG_ML = 60.0
"""A piece of aerated lung smaller than this does not make a lung of its own."""
PIECE_ML = 1.5
"""Pieces cut off by disease (an apex above a consolidation) are kept down to this size."""


def choose_lungs(grid: CoarseGrid, air: Bool, middle_x: float, level: float) -> NDArray[np.uint8]:
    """Aerated lung by side, z, y, x: 1 right, 2 left, 0 neither; all zero where nothing looks like a lung.

    ``air`` is the air inside the body without airway and gas, ``middle_x`` the block column of the body's middle,
    ``level`` the HU between pure gas and lung.
    Pieces are kept by size, density and place; one that reaches far into both sides is cut where it is narrowest.
    """
    labels, sizes = components(air)
    sided = np.zeros(air.shape, dtype=np.uint8)
    if len(sizes) < 2:
        return sided
    index = np.arange(1, len(sizes))
    mean = np.asarray(ndimage.mean(grid.hu, labels, index))
    ml = sizes[1:] * grid.voxel_ml
    plausible = (mean > level - 15) & (mean < -450)
    large = index[(ml > LUNG_ML) & plausible]
    if large.size == 0 or float(ml[large - 1].max()) < 2 * LUNG_ML:
        return sided
    largest = float(ml[large - 1].max())
    columns = np.arange(air.shape[2])
    for k in large:
        part = labels == k
        profile = part.sum(axis=(0, 1))
        left = float(profile[columns > middle_x].sum()) / float(profile.sum())
        if min(left, 1 - left) > 0.12 and ml[k - 1] > 0.5 * largest:
            sided[part] = split_sides(part, middle_x, grid.spacing)[part]
        else:
            sided[part] = Mask.LEFT if left > 0.5 else Mask.RIGHT
    small = index[(ml > PIECE_ML) & (ml <= LUNG_ML) & plausible]
    _add_pieces(grid, labels, small, sided, middle_x, level)
    return sided


def _add_pieces(
    grid: CoarseGrid,
    labels: NDArray[np.int32],
    pieces: NDArray[np.int64],
    sided: NDArray[np.uint8],
    middle_x: float,
    level: float,
) -> None:
    """Give the small pieces that are lung to a side: aerated like lung, off the middle, not below the diaphragm."""
    box = bounding_box(sided > 0, tuple(int(15.0 / s) for s in grid.spacing))
    if box is None:
        return
    rows = np.flatnonzero((sided > 0).any(axis=(1, 2)))
    above = rows[0] + 0.3 * (rows[-1] - rows[0])
    near = dilate(sided > 0, 6.0, grid.spacing)
    places = ndimage.find_objects(labels)
    for k in pieces:
        place = places[k - 1]
        part = labels[place] == k
        hu = grid.hu[place][part]
        z, y, x = (float(np.mean(c)) + s.start for c, s in zip(np.nonzero(part), place, strict=True))
        within = all(s.start <= c < s.stop for s, c in zip(box, (z, y, x), strict=True))
        central = abs(x - middle_x) * grid.spacing[2] < 25.0
        if not within or central or float((hu < level - 25).mean()) > 0.12:
            continue
        if z > above or bool(near[place][part].any()):
            sided[place][part] = Mask.LEFT if x > middle_x else Mask.RIGHT


def split_sides(part: Bool, middle_x: float, spacing: Triple) -> NDArray[np.uint8]:
    """A piece of both lungs cut into right (1) and left (2), z, y, x.

    Eroded more and more until it falls into one large part on each side; each place then goes to the part that a
    flood over the depth inside the lung reaches first, so that the cut runs where the bridge is thinnest. What never
    falls apart is one lung that extends across the middle, unless it lies about evenly on both sides.
    """
    depth = depth_mm(part, spacing)
    columns = np.arange(part.shape[2])
    total = float(part.sum())
    for step in range(1, 16):
        labels, sizes = components(depth > step * 1.5)
        order = np.argsort(sizes[1:])[::-1][:2] + 1 if len(sizes) > 2 else np.empty(0, dtype=np.int64)
        if order.size < 2 or sizes[order[1]] < 0.06 * total:
            continue
        centre = [float(np.average(columns, weights=(labels == k).sum(axis=(0, 1)))) for k in order]
        if (centre[0] - middle_x) * (centre[1] - middle_x) > 0 and abs(centre[0] - centre[1]) < 40 / spacing[2]:
            continue
        right, left = (order[0], order[1]) if centre[0] < centre[1] else (order[1], order[0])
        markers = np.zeros(part.shape, dtype=np.uint8)
        markers[labels == right] = Mask.RIGHT
        markers[labels == left] = Mask.LEFT
        return flood(part, markers, depth)
    side = np.where(columns > middle_x, Mask.LEFT, Mask.RIGHT).astype(np.uint8)
    left = float(part[:, :, columns > middle_x].sum()) / total
    if min(left, 1 - left) < 0.3:
        side[:] = Mask.LEFT if left > 0.5 else Mask.RIGHT
    return side * part.astype(np.uint8)


def flood(part: Bool, markers: NDArray[np.uint8], depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Spread markers over a mask, deep places first (a watershed on the depth in mm)."""
    outside = int(markers.max()) + 1
    seeds = markers.copy()
    seeds[~part] = outside
    image = sitk.GetImageFromArray(np.where(part, -depth, np.float32(1)).astype(np.float32))
    flooded = sitk.MorphologicalWatershedFromMarkers(
        image, sitk.GetImageFromArray(seeds), markWatershedLine=False, fullyConnected=False
    )
    result = sitk.GetArrayFromImage(flooded).astype(np.uint8)
    result[~part | (result == outside)] = 0
    return np.asarray(result)
