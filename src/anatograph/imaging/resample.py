"""Sampling a CT between its voxels: on a new grid, and in patches about exact landmark centres.

Interpolation is by cubic B-splines, as in the paper, or linear. A cubic B-spline through the voxels is
Σ c_k β³(x - k), with coefficients c from a recursive filter along each axis; it is separable, so on a grid parallel
to the image's axes it costs three small matrix products. A point within half a voxel of the outermost voxel centres
belongs to the image (as in ITK); every other point is air.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, sparse

from anatograph.imaging.checks import AIR
from anatograph.imaging.orientation import vector
from anatograph.imaging.volume import Frame, Volume

Interpolation = Literal["bspline", "linear"]

_MARGIN = 14
"""Voxels read beyond what is sampled: the filter's reach, 0.27 a voxel, is 1e-8 there."""
_BLOCK_BYTES = 48 * 2**20
"""Size of the float32 working block of `resample_isotropic`."""


def coefficients(array: NDArray[np.int16], interpolation: Interpolation) -> NDArray[np.float32]:
    """Spline coefficients (z, y, x) of a block of HU; for linear interpolation the HU themselves."""
    block = array.astype(np.float32)
    if interpolation == "bspline":
        for axis in range(3):
            if block.shape[axis] > 1:
                ndimage.spline_filter1d(block, 3, axis=axis, output=block, mode="mirror")
    return block


def weights(index: NDArray[np.float64], n: int, interpolation: Interpolation) -> NDArray[np.float32]:
    """(len(index), n) matrix taking the n coefficients along an axis to the values at fractional voxel indices.

    Indices beyond the ends see the image as ITK does: mirrored about its outermost voxels for splines, their value
    repeated for linear interpolation.
    """
    first, values = _taps(index, interpolation)
    matrix = np.zeros((len(index), n), dtype=np.float32)
    rows = np.arange(len(index))
    for k in range(values.shape[1]):
        np.add.at(matrix, (rows, _within(first + k, n, interpolation)), values[:, k])
    return matrix


def _taps(index: NDArray[np.float64], interpolation: Interpolation) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """First coefficient that each index needs, and the weights (len, 4 or 2) of it and those that follow."""
    whole = np.floor(index)
    t = index - whole
    if interpolation == "linear":
        return whole.astype(np.intp), np.stack([1 - t, t], axis=1)
    values = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    return whole.astype(np.intp) - 1, values


def _within(index: NDArray[np.intp], n: int, interpolation: Interpolation) -> NDArray[np.intp]:
    """Indices brought into [0, n): mirrored about the outermost voxels for splines, moved to them for linear."""
    if n == 1 or interpolation == "linear":
        return np.clip(index, 0, n - 1)
    folded = np.abs(index) % (2 * (n - 1))
    return np.asarray(np.minimum(folded, 2 * (n - 1) - folded))


def to_int16(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round to HU, not below -1024; changes ``values``."""
    np.rint(values, out=values)
    np.clip(values, AIR, 32767, out=values)
    return values.astype(np.int16)


def resample_isotropic(volume: Volume, spacing: float = 1.0, interpolation: Interpolation = "bspline") -> Volume:
    """The scan on a grid of ``spacing`` mm along L, P and S.

    The new grid lies centred in the old one and nowhere reaches beyond its outer voxel faces (for an oblique scan:
    beyond the box about it). Works in blocks: beside the scan and the result it holds about 150 MB. ``stored`` stays
    that of the file.
    """
    if not volume.frame.is_axis_aligned:
        return _resample_oblique(volume, _bounding_frame(volume.frame, (spacing,) * 3), interpolation)
    target = _bounding_frame(volume.frame, (spacing,) * 3)
    index = _axis_indices(volume.frame, target)
    nz, ny, nx = volume.frame.shape
    z, y, x = index
    across = [sparse.csr_array(weights(axis, n, interpolation)) for axis, n in ((z, nz), (x, nx))]
    array = np.empty(target.shape, dtype=np.int16)
    rows = max(8, _BLOCK_BYTES // (4 * nz * nx) - 2 * _MARGIN)
    step = max(1, int(rows * volume.spacing[1] / spacing))
    for start in range(0, len(y), step):
        wanted = y[start : start + step]
        low = max(0, int(wanted[0]) - _MARGIN)
        high = min(ny, int(wanted[-1]) + 2 + _MARGIN)
        block = coefficients(volume.array[:, low:high], interpolation)
        in_plane = weights(wanted - low, high - low, interpolation)
        first = np.empty((nz, len(wanted), len(x)), dtype=np.float32)
        for k in range(nz):
            first[k] = (across[1] @ (in_plane @ block[k]).T).T
        del block
        last = across[0] @ first.reshape(nz, -1)
        del first
        array[:, start : start + step] = to_int16(last).reshape(len(z), len(wanted), len(x))
    return replace(volume, array=array, frame=target)


def axis_aligned(volume: Volume, interpolation: Interpolation = "bspline") -> Volume:
    """The scan itself if its axes run along L, P and S, else resampled onto such a grid with the same spacing."""
    if volume.frame.is_axis_aligned:
        return volume
    result = _resample_oblique(volume, _bounding_frame(volume.frame, volume.spacing), interpolation)
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


class SplineSampler:
    """Patches of a scan about any point, on a grid parallel to its axes, with the filter applied once.

    Sampling is at the exact centre asked for and not at the nearest voxel, so a patch moves with its scan.
    """

    def __init__(
        self,
        volume: Volume,
        region_lps: tuple[ArrayLike, ArrayLike] | None = None,
        interpolation: Interpolation = "bspline",
    ) -> None:
        """Prepare to sample ``volume``, whose frame must be axis-aligned (see `axis_aligned`).

        ``region_lps``: lowest and highest LPS mm (3,) of the points that will be sampled; only the part of the scan
        about it is filtered and kept. A patch that reaches beyond it is right all the same, but slower.
        """
        if not volume.frame.is_axis_aligned:
            raise ValueError("the sampler needs a volume whose axes run along L, P and S; call axis_aligned first")
        self.volume = volume
        self.interpolation: Interpolation = interpolation
        if region_lps is None:
            low, high = np.zeros(3, dtype=np.intp), np.asarray(volume.frame.shape)
        else:
            ends = volume.frame.to_index(np.stack([np.asarray(end, dtype=np.float64) for end in region_lps]))
            low, high = self._needed(ends[0, ::-1], ends[1, ::-1])
        self._low, self._high = low, high
        self._block = self._filtered(low, high)

    def _needed(
        self, first: NDArray[np.float64], last: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Range of coefficients (z, y, x) for samples between two fractional indices; never empty."""
        shape = np.asarray(self.volume.frame.shape)
        low = np.clip(np.floor(first).astype(np.intp) - 1, 0, shape - 1)
        high = np.clip(np.floor(last).astype(np.intp) + 3, low + 1, shape)
        # A short axis is kept whole: mirroring at its ends then needs no special care.
        low = np.where(low < 4, 0, low)
        high = np.where(high > shape - 4, shape, high)
        # Within half a voxel of an end the weights reach back over coefficients mirrored at it.
        low, high = np.minimum(low, np.maximum(shape - 4, 0)), np.maximum(high, np.minimum(4, shape))
        return low, high

    def _filtered(self, low: NDArray[np.intp], high: NDArray[np.intp]) -> NDArray[np.float32]:
        shape = np.asarray(self.volume.frame.shape)
        margin = _MARGIN if self.interpolation == "bspline" else 0
        outer_low, outer_high = np.maximum(low - margin, 0), np.minimum(high + margin, shape)
        outer = tuple(slice(int(a), int(b)) for a, b in zip(outer_low, outer_high, strict=True))
        inner = tuple(slice(int(a - o), int(b - o)) for a, b, o in zip(low, high, outer_low, strict=True))
        return coefficients(self.volume.array[outer], self.interpolation)[inner]

    def grid(self, centre_lps: ArrayLike, size: int, spacing: float = 1.0) -> NDArray[np.int16]:
        """HU (size, size, size), z, y, x, of a cube of points ``spacing`` mm apart.

        Voxel i of each axis lies at ``centre_lps`` (LPS mm) + (i - (size - 1) / 2) · ``spacing``. Points outside the
        scan are -1024.
        """
        frame = self.volume.frame
        offset = (np.arange(size) - (size - 1) / 2) * spacing
        centre = frame.to_index(np.asarray(centre_lps, dtype=np.float64))
        index = [centre[axis] + offset / frame.spacing[axis] for axis in (2, 1, 0)]
        inside = [(axis >= -0.5) & (axis <= n - 0.5) for axis, n in zip(index, frame.shape, strict=True)]
        patch = np.full((size, size, size), AIR, dtype=np.int16)
        if not all(ok.any() for ok in inside):
            return patch
        index = [axis[ok] for axis, ok in zip(index, inside, strict=True)]
        low, high = self._needed(np.array([axis[0] for axis in index]), np.array([axis[-1] for axis in index]))
        if (low >= self._low).all() and (high <= self._high).all():
            z, y, x = (slice(int(a), int(b)) for a, b in zip(low - self._low, high - self._low, strict=True))
            block = self._block[z, y, x]
        else:
            block = self._filtered(low, high)
        wz, wy, wx = (
            self._weights(axis, int(a), int(b), n) for axis, a, b, n in zip(index, low, high, frame.shape, strict=True)
        )
        values = wz @ (wy @ (block @ wx.T)).reshape(len(block), -1)
        patch[np.ix_(*inside)] = to_int16(values).reshape(len(wz), len(wy), len(wx))
        return patch

    def _weights(self, index: NDArray[np.float64], low: int, high: int, n: int) -> NDArray[np.float32]:
        """`weights` for the coefficients [low, high) of an axis of n voxels; they hold all that is needed."""
        first, values = _taps(index, self.interpolation)
        matrix = np.zeros((len(index), high - low), dtype=np.float32)
        rows = np.arange(len(index))
        for k in range(values.shape[1]):
            np.add.at(matrix, (rows, _within(first + k, n, self.interpolation) - low), values[:, k])
        return matrix


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


def _resample_oblique(volume: Volume, target: Frame, interpolation: Interpolation) -> Volume:
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
        low = np.maximum(np.floor(index.min(axis=1)).astype(int) - _MARGIN, 0)
        high = np.minimum(np.ceil(index.max(axis=1)).astype(int) + 1 + _MARGIN, shape)
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
    plane = _plane_weights(index[0][inside], index[1][inside], n[p], n[q], interpolation)
    along = matrix[axis, axis] * np.arange(size[axis]) + offset[axis]
    within = np.flatnonzero((along >= -0.5) & (along <= n[axis] - 0.5))
    array = np.full(target.shape, AIR, dtype=np.int16)
    rows = np.moveaxis(array, axis, -1)  # a view: what is written here is in `array`
    source = np.moveaxis(volume.array, axis, -1)
    step = max(16, _BLOCK_BYTES // (4 * n[p] * n[q]) - 2 * _MARGIN)
    for start in range(0, len(within), step):
        columns = within[start : start + step]
        ends = along[columns[[0, -1]]]
        low = int(max(0, np.floor(ends.min()) - _MARGIN))
        high = int(min(n[axis], np.floor(ends.max()) + 2 + _MARGIN))
        block = coefficients(np.ascontiguousarray(source[:, :, low:high]), interpolation).reshape(n[p] * n[q], -1)
        last = weights(along[columns] - low, high - low, interpolation)
        values = (plane @ block) @ last.T
        slab = np.full((size[p] * size[q], len(columns)), AIR, dtype=np.int16)
        slab[inside] = to_int16(values)
        rows[:, :, columns[0] : columns[-1] + 1] = slab.reshape(size[p], size[q], -1)
    return replace(volume, array=array, frame=target)


def _plane_weights(
    first: NDArray[np.float64], second: NDArray[np.float64], n_first: int, n_second: int, interpolation: Interpolation
) -> sparse.csr_array:
    """(len, n_first · n_second) matrix taking coefficients of a plane to its values at pairs of fractional indices."""
    (low_a, taps_a), (low_b, taps_b) = _taps(first, interpolation), _taps(second, interpolation)
    reach = np.arange(taps_a.shape[1])
    a = _within(low_a[:, None] + reach, n_first, interpolation)
    b = _within(low_b[:, None] + reach, n_second, interpolation)
    columns = (a[:, :, None] * n_second + b[:, None, :]).reshape(-1)
    values = (taps_a[:, :, None] * taps_b[:, None, :]).astype(np.float32).reshape(-1)
    starts = np.arange(len(first) + 1) * len(reach) ** 2
    return sparse.csr_array((values, columns, starts), shape=(len(first), n_first * n_second))
