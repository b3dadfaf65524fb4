"""Which part of the air in the chest is the right lung and which the left."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, Triple, components, distance_mm
from anatograph.imaging.volume import Mask

SMALLEST_ML = 60.0
"""A piece of aerated lung smaller than this does not make a lung of its own."""


def choose_lungs(grid: CoarseGrid, air: Bool, middle_x: float) -> NDArray[np.uint8]:
    """Aerated lung by side, z, y, x: 1 right, 2 left, 0 neither; all zero where nothing looks like a lung.

    ``air`` is the air inside the body without airway and gas, ``middle_x`` the block column of the body's middle.
    Pieces are kept by size and texture; a piece that reaches far into both sides is cut where it is narrowest.
    """
    labels, sizes = components(air)
    sided = np.zeros(air.shape, dtype=np.uint8)
    if len(sizes) < 2:
        return sided
    index = np.arange(1, len(sizes))
    mean = np.asarray(ndimage.mean(grid.hu, labels, index))
    ml = sizes[1:] * grid.voxel_ml
    plausible = (mean > -965) & (mean < -450)
    large = index[(ml > max(SMALLEST_ML, 0.02 * float(ml.max()))) & plausible]
    if large.size == 0:
        return sided
    largest = float(ml[large - 1].max())
    if largest < 2 * SMALLEST_ML:
        return sided
    columns = np.arange(air.shape[2])
    for k in large:
        part = labels == k
        profile = part.sum(axis=(0, 1))
        left_fraction = float(profile[columns > middle_x].sum()) / float(profile.sum())
        if min(left_fraction, 1 - left_fraction) > 0.12 and ml[k - 1] > 0.5 * largest:
            sided[part] = split_sides(part, middle_x, grid.spacing)[part]
        else:
            sided[part] = Mask.LEFT if left_fraction > 0.5 else Mask.RIGHT
    return sided


def split_sides(part: Bool, middle_x: float, spacing: Triple) -> NDArray[np.uint8]:
    """A piece of both lungs cut into right (1) and left (2), z, y, x.

    Eroded more and more until it falls into one large part on each side; each place then goes to the part that a
    flood over the depth inside the lung reaches first, so that the cut runs where the bridge is thinnest.
    """
    depth = distance_mm(~part, spacing)
    columns = np.arange(part.shape[2])
    total = float(part.sum())
    result = np.where(columns > middle_x, Mask.LEFT, Mask.RIGHT).astype(np.uint8) * part.astype(np.uint8)
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
    return result


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
