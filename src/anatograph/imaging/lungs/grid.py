"""The coarse working grid of about 2 mm, on which the topology is decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.errors import UserError
from anatograph.imaging.volume import Volume, bounding_box

Bool = NDArray[np.bool_]
Triple = tuple[float, float, float]

TISSUE_HU = -500
"""Above this a voxel counts as body (or table) rather than air when the working box is found."""


@dataclass(frozen=True, eq=False)
class CoarseGrid:
    """The box of a scan that holds anything but air, averaged over blocks of voxels.

    The box is found in the image itself, so padding a scan with air or shifting it by whole voxels changes nothing:
    every block holds the same voxels as before.
    """

    hu: NDArray[np.float32]
    """Mean HU of each block, indexed z, y, x."""
    start: tuple[int, int, int]
    """First voxel of the box in the scan, z, y, x."""
    shape: tuple[int, int, int]
    """Voxels of the box along z, y, x."""
    factor: tuple[int, int, int]
    """Voxels of a block along z, y, x."""
    spacing: Triple
    """Distance between block centres along z, y, x in mm."""
    in_view: Bool
    """Which blocks (y, x) the scanner reconstructed; a disc in many scans, with nothing but padding around it."""

    @property
    def voxel_ml(self) -> float:
        """Volume of a block in millilitres."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The box as slices into the scan's array."""
        z, y, x = (slice(s, s + n) for s, n in zip(self.start, self.shape, strict=True))
        return z, y, x

    def interpolation(self, axis: int) -> NDArray[np.float32]:
        """(voxels, blocks) matrix that interpolates linearly from block centres to voxel centres along an axis."""
        n, f, blocks = self.shape[axis], self.factor[axis], self.hu.shape[axis]
        position = np.clip((np.arange(n) + 0.5) / f - 0.5, 0, blocks - 1)
        lower = np.minimum(np.floor(position).astype(int), max(blocks - 2, 0))
        weight = (position - lower).astype(np.float32)
        matrix = np.zeros((n, blocks), dtype=np.float32)
        matrix[np.arange(n), lower] += 1 - weight
        matrix[np.arange(n), np.minimum(lower + 1, blocks - 1)] += weight
        return matrix

    def voxels(self, box: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
        """The voxels (counted from the grid's own box) that a box of blocks covers."""
        z, y, x = (slice(b.start * f, min(n, b.stop * f)) for b, f, n in zip(box, self.factor, self.shape, strict=True))
        return z, y, x

    def upsampled(
        self, box: tuple[slice, slice, slice], *fields: NDArray[np.float32]
    ) -> Iterator[list[NDArray[np.float32]]]:
        """Every field (z, y, x on a box of blocks) interpolated onto its voxels, one slice (y, x) after the other."""
        voxels = self.voxels(box)
        mz, my, mx = (self.interpolation(axis)[voxels[axis], box[axis]] for axis in range(3))
        wide = [np.matmul(my, field) for field in fields]
        for row in mz:
            used = np.flatnonzero(row)
            yield [np.asarray(sum(row[k] * field[k] for k in used) @ mx.T, dtype=np.float32) for field in wide]


def coarse_grid(volume: Volume, target_mm: float = 2.2) -> CoarseGrid:
    """Average the part of a scan that holds a body over blocks of about ``target_mm``.

    Raises `UserError` where the scan holds no body at all.
    """
    array = volume.array
    dense = np.zeros(array.shape[0], dtype=bool)
    plane = np.zeros(array.shape[1:], dtype=bool)
    for z, image in enumerate(array):
        tissue = image > TISSUE_HU
        dense[z] = tissue.any()
        plane |= tissue
    bounds = [np.flatnonzero(line) for line in (dense, plane.any(axis=1), plane.any(axis=0))]
    if any(len(line) < 2 for line in bounds):
        raise UserError(f"{volume.source or 'The scan'} holds nothing but air; give a chest CT in Hounsfield units.")
    start = tuple(int(line[0]) for line in bounds)
    shape = tuple(int(line[-1] - line[0] + 1) for line in bounds)
    spacing_zyx = volume.spacing[::-1]
    factor = tuple(max(1, int(target_mm / s + 0.25)) for s in spacing_zyx)
    box = array[tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))]
    hu = _block_mean(box, factor)
    blocks_yx = (factor[1], factor[2])
    in_view = _block_mean(_field_of_view(box)[None].astype(np.int16), (1, *blocks_yx))[0] > 0.5
    spacing = tuple(float(s * f) for s, f in zip(spacing_zyx, factor, strict=True))
    return CoarseGrid(hu, _three(start), _three(shape), _three(factor), (spacing[0], spacing[1], spacing[2]), in_view)


def _three(values: tuple[int, ...]) -> tuple[int, int, int]:
    return values[0], values[1], values[2]


def _block_mean(array: NDArray[np.int16], factor: tuple[int, ...]) -> NDArray[np.float32]:
    """Mean over blocks, the last ones possibly smaller, one slab of slices at a time."""
    fz, fy, fx = factor
    nz, ny, nx = array.shape
    rows, columns = np.arange(0, ny, fy), np.arange(0, nx, fx)
    count_y, count_x = np.diff(np.append(rows, ny)), np.diff(np.append(columns, nx))
    result = np.empty((-(-nz // fz), len(rows), len(columns)), dtype=np.float32)
    for k in range(result.shape[0]):
        slab = array[k * fz : (k + 1) * fz]
        total = slab.sum(axis=0, dtype=np.int32)
        total = np.add.reduceat(np.add.reduceat(total, rows, axis=0), columns, axis=1)
        result[k] = total / (len(slab) * np.outer(count_y, count_x))
    return result


def _field_of_view(box: NDArray[np.int16]) -> Bool:
    """Pixels (y, x) that hold more than padding in some slice, as a convex region (the field of view)."""
    highest = box.max(axis=0)
    seen = ndimage.binary_opening(highest > -1010, iterations=1)
    if not seen.any():
        return np.ones(seen.shape, dtype=bool)
    # Row by row and column by column between the first and last pixel seen: convex enough for a disc, and cheap.
    across = np.maximum.accumulate(seen, axis=1) & np.maximum.accumulate(seen[:, ::-1], axis=1)[:, ::-1]
    down = np.maximum.accumulate(across, axis=0) & np.maximum.accumulate(across[::-1], axis=0)[::-1]
    return np.asarray(down)


def depth_mm(mask: Bool, spacing: Triple) -> NDArray[np.float32]:
    """Distance in mm of every place of a mask from its outside, 0 elsewhere; the array's edge is not outside."""
    image = sitk.GetImageFromArray((~mask).astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    signed = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.asarray(np.maximum(sitk.GetArrayViewFromImage(signed), 0), dtype=np.float32)


def dilate(mask: Bool, mm: float, spacing: Triple) -> Bool:
    """All places within ``mm`` (at most 16) of a mask: exact distances between centres, to 0.02 mm²."""
    box = bounding_box(mask, tuple(int(mm / s) + 1 for s in spacing))
    result = np.zeros_like(mask)
    if box is None:
        return result
    unit, far = 0.02, 16000
    squared = np.where(mask[box], np.int16(0), np.int16(far))
    for axis, step in enumerate(spacing):
        nearest = np.moveaxis(squared, axis, 0)
        before = nearest.copy()
        for k in range(1, int(mm / step) + 1):
            cost = np.int16(round((k * step) ** 2 / unit))
            if k < len(before):
                np.minimum(nearest[k:], before[:-k] + cost, out=nearest[k:])
                np.minimum(nearest[:-k], before[k:] + cost, out=nearest[:-k])
    result[box] = squared <= round(mm**2 / unit)
    return result


def erode(mask: Bool, mm: float, spacing: Triple) -> Bool:
    """All places of a mask farther than ``mm`` from its outside; the edge of the array does not count as outside."""
    box = bounding_box(mask, (1, 1, 1))
    result = np.zeros_like(mask)
    if box is not None:
        result[box] = ~dilate(~mask[box], mm, spacing)
    return result


def close(mask: Bool, mm: float, spacing: Triple) -> Bool:
    """The mask with every gap filled that a ball of radius ``mm`` cannot enter."""
    return erode(dilate(mask, mm, spacing), mm, spacing) | mask


def fill_holes(image: Bool) -> Bool:
    """A slice (y, x) with its holes filled: everything that background from the edge does not reach."""
    labels, _ = ndimage.label(np.pad(~image, 1, constant_values=True))
    return np.asarray(labels[1:-1, 1:-1] != labels[0, 0])


def components(mask: Bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels 1… of the face-connected components of a mask, and the size of each (index 0: the background)."""
    labels = np.zeros(mask.shape, dtype=np.int32)
    count = int(ndimage.label(mask, output=labels))
    return labels, np.bincount(labels.ravel(), minlength=count + 1).astype(np.int64)
