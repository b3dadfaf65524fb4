"""Cubic B-splines through the voxels of a scan, and patches sampled about exact landmark centres.

A cubic B-spline through the voxels is Σ c_k β³(x - k), with coefficients c from a recursive filter along each axis; it
is separable, so on a grid parallel to the image's axes it costs three small matrix products. A point within half a
voxel of the outermost voxel centres belongs to the image (as in ITK); every other point is air.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, sparse

from anatograph.imaging.content import AIR
from anatograph.imaging.volume import Volume

Interpolation = Literal["bspline", "linear"]

MARGIN = 14
"""Voxels read beyond what is sampled: the filter's reach, 0.27 per voxel, is 1e-8 there."""


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
    """Indices mapped into [0, n): mirrored about the outermost voxels for splines, clipped for linear."""
    if n == 1 or interpolation == "linear":
        return np.clip(index, 0, n - 1)
    folded = np.abs(index) % (2 * (n - 1))
    return np.asarray(np.minimum(folded, 2 * (n - 1) - folded))


def to_int16(values: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round to HU, not below -1024; changes ``values``."""
    np.rint(values, out=values)
    np.clip(values, AIR, 32767, out=values)
    return values.astype(np.int16)


def plane_weights(
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


class SplineSampler:
    """Patches of a scan about any point, on a grid parallel to its axes, with the filter applied once.

    Sampling is at the exact centre given and not at the nearest voxel, so a patch moves with its scan.
    """

    def __init__(
        self,
        volume: Volume,
        region_lps: tuple[ArrayLike, ArrayLike] | None = None,
        interpolation: Interpolation = "bspline",
    ) -> None:
        """Prepare to sample ``volume``, whose frame must be axis-aligned (see `axis_aligned`).

        ``region_lps``: lowest and highest LPS mm (3,) of the points that will be sampled; only the part of the scan
        about it is filtered and kept. A patch that extends beyond it is still correct, but slower.
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
        margin = MARGIN if self.interpolation == "bspline" else 0
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
