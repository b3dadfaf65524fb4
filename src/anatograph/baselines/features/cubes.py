"""Whole lungs at a fixed size: a cube, and four 2D views, for networks with a fixed input size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Box, Mask

MARGIN_MM = 5.0
"""Margin around the lungs on every side."""
VIEWS = ("axial", "coronal", "sagittal, right lung", "sagittal, left lung")


def lung_box(mask: Mask, margin_mm: float = MARGIN_MM) -> Box:
    """The block of voxels (slices along z, y, x) around the lungs, with a margin where the scan extends that far."""
    x, y, z = (round(margin_mm / spacing) for spacing in mask.frame.spacing)
    box = mask.box((z, y, x))
    if box is None:
        raise ValueError("the lung mask is empty")
    return box


def resized(array: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array at another size, axis by axis; every new voxel is a weighted mean of the voxels it covers.

    The weights are a triangle as wide as a new voxel, at least as an old one: linear interpolation when it grows,
    without aliasing when it shrinks. The faces of the array stay where they are.
    """
    result = np.asarray(array, dtype=np.float32)
    for axis, new in enumerate(shape):
        if new != result.shape[axis]:
            mixed = np.tensordot(_triangles(result.shape[axis], new), result, axes=(1, axis))
            result = np.moveaxis(mixed, 0, axis)
    return np.ascontiguousarray(result)


def _triangles(old: int, new: int) -> NDArray[np.float32]:
    """(new, old) weights, rows summing to 1."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    distance = np.abs(np.arange(old)[None] - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(1.0 - distance, 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def lung_cube(hu: NDArray[np.int16], box: Box, size: int) -> NDArray[np.int16]:
    """(size, size, size) HU of the lungs' box, z, y, x, each axis scaled independently."""
    return np.rint(resized(hu[box], (size, size, size))).astype(np.int16)


def lung_views(hu: NDArray[np.int16], mask: Mask, box: Box, size: int) -> NDArray[np.int16]:
    """(4, size, size) HU of single slices: `VIEWS`, through the middle of both lungs and of each.

    Rows run from head to feet in the upright views (z turned), from front to back in the axial one.
    """
    middle = _centre(mask.lungs)
    sides = [mask.array == Mask.RIGHT, mask.array == Mask.LEFT]
    start, stop = box[2].start, box[2].stop
    # Where the sides are unlabelled, the patient's right is the low x of an LPS frame.
    across = [
        _centre(side)[2] if side.any() else round(start + share * (stop - 1 - start))
        for side, share in zip(sides, (0.25, 0.75), strict=True)
    ]
    planes = [hu[middle[0], box[1], box[2]], hu[box[0], middle[1], box[2]][::-1]]
    planes += [hu[box[0], box[1], x][::-1] for x in across]
    return np.stack([np.rint(resized(plane, (size, size))).astype(np.int16) for plane in planes])


def _centre(where: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Voxel (z, y, x) nearest to the centre of mass."""
    middle = []
    for axis in range(3):
        counts = where.sum(axis=tuple(k for k in range(3) if k != axis), dtype=np.float64)
        middle.append(round(float((counts * np.arange(len(counts))).sum() / counts.sum())))
    return middle[0], middle[1], middle[2]
