"""A lung mask as smooth occupancy on small grids, which is all that registration looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from anatograph.errors import UserError
from anatograph.imaging.volume import Mask

CELL = 2.0
"""Spacing of the finest grid in mm."""
FINEST = 1.5
"""Smoothing (standard deviation, mm) of the finest grid; coarser than half a voxel, finer than a patch matters."""
MARGIN = 40.0
"""Air around the lungs in mm."""
CUT = 0.3
"""A lung that ends in a flat face of more than this part of its widest section was cut by the scan."""


@dataclass(frozen=True, eq=False)
class Field:
    """Smooth occupancy on a regular grid in a `Shape`'s own millimetres."""

    values: NDArray[np.float32]
    """(Z, Y, X) fraction of lung, 0 to 1."""
    spacing: float
    """Distance of the grid's points in mm, the same along every axis."""
    start: NDArray[np.float64]
    """(3,) own millimetres x, y, z of the first grid point."""
    sigma: float
    """Standard deviation of the smoothing in mm."""

    def points(self) -> NDArray[np.float64]:
        """(Z·Y·X, 3) own millimetres of all grid points, x fastest."""
        axes = [np.arange(n) * self.spacing for n in self.values.shape]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        return np.asarray(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) + self.start, dtype=np.float64)

    def sample(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Occupancy (N,) at points (N, 3) of own millimetres, and its gradient (N, 3) per mm; 0 outside the grid."""
        size = np.array(self.values.shape[::-1])
        place = (points - self.start) / self.spacing
        cell = np.floor(place).astype(np.int64)
        inside = ((cell >= 0) & (cell < size - 1)).all(axis=1)
        cell = np.clip(cell, 0, size - 2)
        wx, wy, wz = (place - cell).astype(np.float32).T
        flat = self.values.ravel()
        first = (cell[:, 2] * size[1] + cell[:, 1]) * size[0] + cell[:, 0]
        row, sheet = int(size[0]), int(size[0] * size[1])
        lines = []
        for offset in (0, row, sheet, sheet + row):
            left, right = flat[first + offset], flat[first + offset + 1]
            slope = right - left
            lines.append((left + wx * slope, slope))
        (v00, s00), (v01, s01), (v10, s10), (v11, s11) = lines
        low, high = v00 + wy * (v01 - v00), v10 + wy * (v11 - v10)
        value = low + wz * (high - low)
        slope_low, slope_high = s00 + wy * (s01 - s00), s10 + wy * (s11 - s10)
        gradient = np.stack(
            [
                slope_low + wz * (slope_high - slope_low),
                (v01 - v00) + wz * ((v11 - v10) - (v01 - v00)),
                high - low,
            ],
            axis=1,
        )
        value[~inside] = 0.0
        gradient[~inside] = 0.0
        return value, gradient / np.float32(self.spacing)


class Shape:
    """Both lungs of one mask, in own millimetres: along the mask's axes, from the first voxel that holds lung.

    Everything is anchored to the lungs and not to the array's corner, so padding or moving a mask changes nothing.
    """

    def __init__(self, mask: Mask) -> None:
        lungs = mask.lungs
        if not lungs.any():
            raise UserError("the lung mask is empty; give a mask in which the lungs are not 0")
        spans = [np.flatnonzero(lungs.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        lungs = lungs[tuple(slice(span[0], span[-1] + 1) for span in spans)]
        self.origin: NDArray[np.float64] = mask.frame.to_lps([float(span[0]) for span in reversed(spans)])
        """(3,) LPS mm of own (0, 0, 0)."""
        self.direction: NDArray[np.float64] = np.asarray(mask.frame.direction, dtype=np.float64)
        """(3, 3) from own millimetres to LPS."""
        spacing = np.asarray(mask.frame.spacing, dtype=np.float64)
        sections = [lungs.sum(axis=tuple({0, 1, 2} - {2 - axis}), dtype=np.int64) for axis in range(3)]
        self.volume = float(sections[0].sum() * spacing.prod())
        """mm³ of lung."""
        places = [np.arange(len(section)) * step for section, step in zip(sections, spacing, strict=True)]
        self.mean: NDArray[np.float64] = np.array(
            [(section @ place) / section.sum() for section, place in zip(sections, places, strict=True)]
        )
        """(3,) centroid, own millimetres."""
        self.spread: NDArray[np.float64] = np.array(
            [
                np.sqrt((section @ (place - mean) ** 2) / section.sum())
                for section, place, mean in zip(sections, places, self.mean, strict=True)
            ]
        )
        """(3,) standard deviation along own x, y, z, mm."""
        self.size: NDArray[np.float64] = np.array(lungs.shape[::-1]) * spacing
        """(3,) extent in mm."""
        self.spacing: NDArray[np.float64] = spacing
        """(3,) voxel size in mm."""
        self.cut: NDArray[np.bool_] = np.array(
            [[section[end] > CUT * section.max() for section in sections] for end in (0, -1)]
        )
        """(2, 3) whether the lungs end in a flat face at the low and the high end of own x, y, z."""
        self._fields: dict[float, Field] = {FINEST: _finest_field(lungs, spacing)}

    def field(self, sigma: float) -> Field:
        """Occupancy smoothed with a Gaussian of ``sigma`` mm, on a grid no finer than needed."""
        if sigma not in self._fields:
            finest = self._fields[FINEST]
            extra = float(np.sqrt(sigma**2 - finest.sigma**2)) / finest.spacing
            values = ndimage.gaussian_filter(finest.values, extra, truncate=3.0, mode="constant")
            stride = max(1, int(sigma / 1.5 / finest.spacing))
            coarse = np.ascontiguousarray(values[::stride, ::stride, ::stride])
            self._fields[sigma] = Field(coarse, finest.spacing * stride, finest.start, sigma)
        return self._fields[sigma]

    def to_lps(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Own millimetres (N, 3) in LPS."""
        return np.asarray(own @ self.direction.T + self.origin, dtype=np.float64)

    def to_own(self, lps: NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS mm (N, 3) in own millimetres."""
        return np.asarray((lps - self.origin) @ self.direction, dtype=np.float64)

    def known(self, own: NDArray[np.float64], reach: float) -> NDArray[np.float32]:
        """(N,) how much is known at own points: 1, and falling to 0 within ``reach`` mm before a face that is cut."""
        weight = np.ones(len(own), dtype=np.float32)
        for axis in range(3):
            if self.cut[0, axis]:
                weight *= np.clip((own[:, axis] + self.spacing[axis] / 2) / reach, 0, 1).astype(np.float32)
            if self.cut[1, axis]:
                end = self.size[axis] - self.spacing[axis] / 2
                weight *= np.clip((end - own[:, axis]) / reach, 0, 1).astype(np.float32)
        return weight


def _finest_field(lungs: NDArray[np.bool_], spacing: NDArray[np.float64]) -> Field:
    """Exact Gaussian smoothing of the mask's voxels, as boxes, sampled at the grid's points: one product per axis."""
    values = lungs.astype(np.float32)
    start = np.zeros(3)
    for axis, (length, step) in enumerate(zip(lungs.shape, spacing[::-1], strict=True)):
        before = np.ceil(MARGIN / CELL)
        places = np.arange(-before, np.ceil(((length - 1) * step + MARGIN) / CELL) + 1) * CELL
        start[2 - axis] = places[0]
        faces = (np.arange(length + 1) - 0.5) * step
        # Voxels thicker than the kernel would show as stairs.
        sigma = max(FINEST, step / 2)
        kernel = np.diff(ndtr((faces - places[:, None]) / sigma), axis=1).astype(np.float32)
        values = np.moveaxis(np.tensordot(kernel, values, axes=(1, axis)), 0, axis)
    return Field(np.ascontiguousarray(values), CELL, start, FINEST)
