"""Dense disease at the rim of a lung: consolidation and tumour that a threshold leaves outside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, close, components, dilate
from anatograph.imaging.volume import Mask, bounding_box

CLOSING_MM = 6.0
"""Vessels, small nodules and the branching of the hilum narrower than twice this are taken in."""

POCKET_MM = 3.0
"""Half the width of the narrowest gap at the chest wall taken for disease; the lung is wavy along the ribs."""
OUTWARD = 0.6
"""Cosine between a pocket's opening and the way out of the chest, above which it opens to the ribs."""
BONE_HU = 250
"""Blocks above this are bone or metal."""


def filled_lung(grid: CoarseGrid, lung: Bool) -> Bool:
    """One lung with its vessels and holes filled, z, y, x."""
    filled = close(lung, CLOSING_MM, grid.spacing)
    labels, _sizes = components(~filled)
    border = np.zeros_like(lung)
    for axis in range(3):
        np.moveaxis(border, axis, 0)[[0, -1]] = True
    reached = np.zeros(int(labels.max()) + 1, dtype=bool)
    reached[labels[border]] = True
    return np.asarray(filled | ~reached[labels])


def costal_pockets(grid: CoarseGrid, lung: Bool, side: int, middle_x: float, middle_y: float) -> Bool:
    """Dense disease at the chest wall beside one lung, z, y, x.

    The costal surface of a lung bulges outwards, so what the convex hull of a slice of lung adds on the side of the
    ribs is dense lung: in axial slices all around, in sagittal ones behind, in coronal ones at the patient's outer
    side. Towards heart, spine and diaphragm the lung is hollow by nature: a pocket that opens that way (not away from
    the middle ``middle_x``, ``middle_y`` of the chest, in blocks) is left alone.
    """
    result = np.zeros_like(lung)
    spacing = np.asarray(grid.spacing)
    middle = np.array([0.0, middle_y, middle_x]) * spacing
    outer = -1.0 if side == Mask.RIGHT else 1.0
    outwards = {0: None, 1: np.array([0.0, outer]), 2: np.array([0.0, 1.0])}
    for axis, outward in outwards.items():
        kept = [a for a in range(3) if a != axis]
        slices, added, hu = np.moveaxis(lung, axis, 0), np.moveaxis(result, axis, 0), np.moveaxis(grid.hu, axis, 0)
        for k in np.flatnonzero(slices.any(axis=(1, 2))):
            box = bounding_box(slices[k : k + 1])
            if box is not None:
                place = box[1:]
                origin = np.array([place[0].start, place[1].start])
                image, density = slices[k][place], hu[k][place]
                added[k][place] |= _pockets(image, density, origin, spacing[kept], middle[kept], outward)
    return _above_lung(grid, lung, result)


def _above_lung(grid: CoarseGrid, lung: Bool, pockets: Bool) -> Bool:
    """Pockets that have lung below them; what has none lies under the diaphragm (liver, spleen, colon)."""
    labels, sizes = components(pockets)
    if len(sizes) < 2:
        return pockets
    wide = dilate(lung, 4.0, (1e6, *grid.spacing[1:]))
    reached = np.maximum.accumulate(wide, axis=0)
    supported = np.bincount(labels[reached], minlength=len(sizes)) > 0.5 * sizes
    supported[0] = False
    return np.asarray(supported[labels])


def _pockets(
    image: Bool,
    hu: NDArray[np.float32],
    origin: NDArray[np.int64],
    scale: NDArray[np.float64],
    centre: NDArray[np.float64],
    outward: NDArray[np.float64] | None,
) -> Bool:
    """Costal pockets of one slice; ``origin`` is its first block, ``scale`` mm a block, ``centre`` in mm.

    They open along ``outward``, or away from the centre where that is None.
    """
    empty = np.zeros_like(image)
    rim = image & ~ndimage.binary_erosion(image)
    try:
        faces = ConvexHull((np.argwhere(rim) + origin) * scale).equations
    except (QhullError, ValueError):
        return empty
    grid_mm = (np.moveaxis(np.indices(image.shape), 0, -1) + origin) * scale
    depth = -(grid_mm @ faces[:, :2].T + faces[:, 2])
    nearest = depth.argmin(axis=-1)
    inner = np.take_along_axis(depth, nearest[..., None], axis=-1)[..., 0]
    away = grid_mm - centre if outward is None else np.broadcast_to(outward, grid_mm.shape)
    cosine = (faces[nearest][..., :2] * away).sum(axis=-1) / np.maximum(np.linalg.norm(away, axis=-1), 1e-6)
    radius = max(1, round(POCKET_MM / float(scale.mean())))
    gaps = ndimage.binary_opening(np.pad((inner > -1e-6) & ~image, radius), iterations=radius)
    labels, count = ndimage.label(gaps[radius:-radius, radius:-radius])
    mouth = inner < 1.5 * float(scale.max())
    for k in range(1, count + 1):
        part = labels == k
        opening = cosine[part & mouth]
        if opening.size == 0 or float((opening > OUTWARD).mean()) < 0.9:
            continue
        bone, fat = float((hu[part] > BONE_HU).mean()), float(((hu[part] > -140) & (hu[part] < -50)).mean())
        if part.sum() < 0.35 * image.sum() and bone < 0.08 and fat < 0.3:
            empty |= part
    return empty
