"""A scan or its labels on another grid, by cubic B-splines as in the paper, or linearly."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.content import AIR
from anatograph.imaging.spline import MARGIN, Interpolation, coefficients, plane_weights, to_int16, weights
from anatograph.imaging.volume import Frame, Volume, vector

_BLOCK_BYTES = 48 * 2**20
"""Size of the float32 block that is worked on at a time."""


def axis_aligned(volume: Volume, interpolation: Interpolation = "bspline") -> Volume:
    """The scan itself if its axes run along L, P and S, else resampled onto such a grid with the same spacing."""
    if volume.frame.is_axis_aligned:
        return volume
    result = _onto_grid(volume, _bounding_frame(volume.frame, volume.spacing), interpolation)
    note = "the scan's axes are oblique; it was resampled onto a grid along the patient's axes"
    return replace(result, notes=(*volume.notes, note))


def resample_labels(array: NDArray[np.uint8], frame: Frame, target: Frame) -> NDArray[np.uint8]:
    """Labels (z, y, x) on ``frame`` brought to ``target``, each voxel taking the nearest label; 0 outside."""
    if frame.is_axis_aligned and target.is_axis_aligned:
        nearest = [np.rint(axis).astype(np.intp) for axis in _axis_indices(frame, target)]
        inside = [(axis >= 0) & (axis < n) for axis, n in zip(nearest, frame.shape, strict=True)]
        result = np.zeros(target.shape, dtype=np.uint8)
        result[np.ix_(*inside)] = array[np.ix_(*(axis[ok] for axis, ok in zip(nearest, inside, strict=True)))]
        return result
    matrix, offset = _index_map(frame, target)
    result = np.empty(target.shape, dtype=np.uint8)
    ndimage.affine_transform(array, matrix, offset, output=result, order=0, mode="grid-constant", cval=0)
    return result


def _axis_indices(frame: Frame, target: Frame) -> list[NDArray[np.float64]]:
    """For z, y, x: fractional indices into ``frame`` of the voxels of ``target``; both axis-aligned."""
    result: list[NDArray[np.float64]] = []
    for axis in (2, 1, 0):
        points = target.origin[axis] + np.arange(target.shape[2 - axis]) * target.spacing[axis]
        result.append(np.asarray((points - frame.origin[axis]) / frame.spacing[axis], dtype=np.float64))
    return result


def _index_map(frame: Frame, target: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix (3, 3) and offset (3,) from z, y, x indices of ``target`` to those of ``frame``."""
    inverse = np.linalg.inv(frame.index_to_lps_matrix)
    matrix = inverse @ target.index_to_lps_matrix
    offset = inverse @ (np.asarray(target.origin) - np.asarray(frame.origin))
    return matrix[::-1, ::-1], offset[::-1]


def _bounding_frame(frame: Frame, spacing: tuple[float, ...]) -> Frame:
    """The axis-aligned grid of ``spacing`` centred in the box about the voxels of ``frame``, faces included."""
    size = np.asarray(frame.shape[::-1], dtype=np.float64)
    corners = np.stack(np.meshgrid(*(np.array([-0.5, n - 0.5]) for n in size), indexing="ij"), -1).reshape(-1, 3)
    points = frame.to_lps(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    steps = np.asarray(spacing)
    count = np.maximum(1, np.floor((high - low) / steps + 1e-4).astype(int))
    origin = (low + high) / 2 - (count - 1) / 2 * steps
    return Frame((int(count[2]), int(count[1]), int(count[0])), vector(steps), vector(origin))


def _onto_grid(volume: Volume, target: Frame, interpolation: Interpolation) -> Volume:
    """Any grid to any grid, a few slices at a time."""
    matrix, offset = _index_map(volume.frame, target)
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        if np.abs(matrix[axis, others]).max() < 1e-9 and np.abs(matrix[others, axis]).max() < 1e-9:
            return _resample_about(axis, volume, target, interpolation)
    shape = np.asarray(volume.frame.shape)
    array = np.full(target.shape, AIR, dtype=np.int16)
    plane = [np.arange(n, dtype=np.float64) for n in target.shape[1:]]
    order: Literal[1, 3] = 3 if interpolation == "bspline" else 1
    beyond: Literal["mirror", "nearest"] = "mirror" if interpolation == "bspline" else "nearest"
    step = 8
    for start in range(0, target.shape[0], step):
        z = np.arange(start, min(start + step, target.shape[0]), dtype=np.float64)
        points = np.stack(np.meshgrid(z, *plane, indexing="ij")).reshape(3, -1)
        index = matrix @ points + offset[:, None]
        inside = ((index >= -0.5) & (index <= shape[:, None] - 0.5)).all(axis=0)
        if not inside.any():
            continue
        index = index[:, inside]
        low = np.maximum(np.floor(index.min(axis=1)).astype(int) - MARGIN, 0)
        high = np.minimum(np.ceil(index.max(axis=1)).astype(int) + 1 + MARGIN, shape)
        z_, y_, x_ = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        block = coefficients(volume.array[z_, y_, x_], interpolation)
        values = ndimage.map_coordinates(
            block, np.asarray(index - low[:, None]), order=order, mode=beyond, prefilter=False
        )
        slab = array[start : start + len(z)].reshape(-1)
        slab[inside] = to_int16(values)
    return replace(volume, array=array, frame=target)


def _resample_about(axis: int, volume: Volume, target: Frame, interpolation: Interpolation) -> Volume:
    """A grid turned or sheared about one of its axes (a tilted gantry): the other two are sampled by one sparse matrix.

    The same sums as for any grid, arranged so that they run along the axis.
    """
    matrix, offset = _index_map(volume.frame, target)
    p, q = (other for other in range(3) if other != axis)
    n, size = volume.frame.shape, target.shape
    places = np.stack(np.meshgrid(np.arange(size[p]), np.arange(size[q]), indexing="ij")).reshape(2, -1)
    index = [matrix[k, p] * places[0] + matrix[k, q] * places[1] + offset[k] for k in (p, q)]
    inside = np.flatnonzero(
        (index[0] >= -0.5) & (index[0] <= n[p] - 0.5) & (index[1] >= -0.5) & (index[1] <= n[q] - 0.5)
    )
    plane = plane_weights(index[0][inside], index[1][inside], n[p], n[q], interpolation)
    along = matrix[axis, axis] * np.arange(size[axis]) + offset[axis]
    within = np.flatnonzero((along >= -0.5) & (along <= n[axis] - 0.5))
    array = np.full(target.shape, AIR, dtype=np.int16)
    rows = np.moveaxis(array, axis, -1)  # a view: what is written here is in `array`
    source = np.moveaxis(volume.array, axis, -1)
    step = max(16, _BLOCK_BYTES // (4 * n[p] * n[q]) - 2 * MARGIN)
    for start in range(0, len(within), step):
        columns = within[start : start + step]
        ends = along[columns[[0, -1]]]
        low = int(max(0, np.floor(ends.min()) - MARGIN))
        high = int(min(n[axis], np.floor(ends.max()) + 2 + MARGIN))
        block = coefficients(np.ascontiguousarray(source[:, :, low:high]), interpolation).reshape(n[p] * n[q], -1)
        last = weights(along[columns] - low, high - low, interpolation)
        values = (plane @ block) @ last.T
        slab = np.full((size[p] * size[q], len(columns)), AIR, dtype=np.int16)
        slab[inside] = to_int16(values)
        rows[:, :, columns[0] : columns[-1] + 1] = slab.reshape(size[p], size[q], -1)
    return replace(volume, array=array, frame=target)
