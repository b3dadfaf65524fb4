"""A lung mask as smooth occupancy on small grids: the only representation that registration uses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from anatograph.errors import UserError
from anatograph.imaging.volume import Mask

CELL = 2.0
"""Spacing of the finest grid in mm."""
FINEST = 1.5
"""Smoothing (standard deviation, mm) of the finest grid: more than half a voxel, far less than a patch."""
MARGIN = 8.0
"""Air around the lungs in mm on the finest grid."""
CUT = 0.3
"""A lung that ends in a flat face of more than this fraction of its widest section was truncated by the scan."""
UNSIDED = 0.02
"""Lungs of which more than this fraction has no known side are compared both together."""


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Smooth occupancy on a regular grid in a `Shape`'s own millimetres."""

    values: NDArray[np.float32]
    """(Z, Y, X) fraction of lung, 0 to 1."""
    spacing: NDArray[np.float64]
    """(3,) distance of the grid's points along x, y, z in mm."""
    start: NDArray[np.float64]
    """(3,) own millimetres x, y, z of the first grid point."""
    sigma: float
    """Standard deviation of the smoothing in mm."""

    def points(self) -> NDArray[np.float64]:
        """(Z·Y·X, 3) own millimetres of all grid points, x fastest."""
        z, y, x = np.meshgrid(*(np.arange(n) for n in self.values.shape), indexing="ij")
        return np.asarray(
            np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) * self.spacing + self.start, dtype=np.float64
        )

    def inside(self, stride: int = 1) -> NDArray[np.float64]:
        """(N, 3) own millimetres of every ``stride``-th grid point, along each axis, that is more than half lung."""
        place = np.argwhere(self.values[::stride, ::stride, ::stride] > 0.5)[:, ::-1] * stride
        return np.asarray(place * self.spacing + self.start, dtype=np.float64)

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centroid (3,) and covariance (3, 3) of the occupancy, own x, y, z, mm."""
        axes = [
            start + np.arange(n) * step
            for start, n, step in zip(self.start, self.values.shape[::-1], self.spacing, strict=True)
        ]
        planes = {
            (0, 1): self.values.sum(axis=0, dtype=np.float64).T,
            (0, 2): self.values.sum(axis=1, dtype=np.float64).T,
            (1, 2): self.values.sum(axis=2, dtype=np.float64).T,
        }
        lines = [planes[0, 1].sum(axis=1), planes[0, 1].sum(axis=0), planes[0, 2].sum(axis=0)]
        total = lines[0].sum()
        mean = np.array([line @ axis / total for line, axis in zip(lines, axes, strict=True)])
        axes = [axis - middle for axis, middle in zip(axes, mean, strict=True)]
        covariance = np.diag([line @ axis**2 / total for line, axis in zip(lines, axes, strict=True)])
        for (i, j), plane in planes.items():
            covariance[i, j] = covariance[j, i] = axes[i] @ plane @ axes[j] / total
        return mean, covariance

    def sample(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
        return value.astype(np.float64), gradient / self.spacing


class Shape:
    """Both lungs of one mask, in own millimetres: along the mask's axes, from the first voxel that holds lung.

    Everything is anchored to the lungs and not to the array's corner, so padding or shifting a mask changes nothing.
    """

    def __init__(self, mask: Mask) -> None:
        lungs = mask.lungs
        box = mask.box()
        if box is None:
            raise UserError("the lung mask is empty; give a mask in which the lungs are not 0")
        lungs = lungs[box]
        self.origin: NDArray[np.float64] = mask.frame.to_lps([float(side.start) for side in reversed(box)])
        """(3,) LPS mm of own (0, 0, 0)."""
        self.direction: NDArray[np.float64] = np.asarray(mask.frame.direction, dtype=np.float64)
        """(3, 3) from own millimetres to LPS."""
        spacing = np.asarray(mask.frame.spacing, dtype=np.float64)
        self._labels = mask.array[box]
        counts = np.bincount(self._labels.ravel(), minlength=4)
        sided = counts[Mask.UNSIDED] <= UNSIDED * counts[1:].sum()
        self.sides: tuple[int, ...] = tuple(side for side in (Mask.RIGHT, Mask.LEFT) if sided and counts[side])
        """The lungs that the mask has, by label; empty where it does not say which lung is which."""
        self._fields: dict[tuple[int, float], Occupancy] = {(0, FINEST): _finest_field(lungs, spacing)}
        sections = [lungs.sum(axis=tuple({0, 1, 2} - {2 - axis}), dtype=np.int64) for axis in range(3)]
        self.volume = float(sections[0].sum() * spacing.prod())
        """mm³ of lung."""
        self.mean, own_covariance = self._fields[0, FINEST].moments()
        """(3,) centroid, own millimetres."""
        own_covariance -= np.diag(np.maximum(FINEST, spacing / 2) ** 2)
        self.spread: NDArray[np.float64] = np.sqrt(np.diag(own_covariance))
        """(3,) standard deviation along own x, y, z, mm."""
        self.covariance: NDArray[np.float64] = self.direction @ own_covariance @ self.direction.T
        """(3, 3) second moments about the centroid along LPS, mm², of the mask itself (not of its smoothing)."""
        self.size: NDArray[np.float64] = np.array(lungs.shape[::-1]) * spacing
        """(3,) extent in mm."""
        self.spacing: NDArray[np.float64] = spacing
        """(3,) voxel size in mm."""
        self.cut: NDArray[np.bool_] = np.array(
            [[section[end] > CUT * section.max() for section in sections] for end in (0, -1)]
        )
        """(2, 3) whether the lungs end in a flat face at the low and the high end of own x, y, z."""
        ends = np.stack([np.zeros(3), self.size - spacing])
        corners = self.to_lps(
            np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        )
        self.box: NDArray[np.float64] = np.stack([corners.min(axis=0), corners.max(axis=0)])
        """(2, 3) lowest and highest LPS mm of the lungs' voxels."""

    @property
    def cut_along_lps(self) -> NDArray[np.bool_]:
        """(2, 3) `cut` for the LPS axes that the own axes run along most nearly, in either sense."""
        result = np.zeros((2, 3), dtype=np.bool_)
        for axis in range(3):
            along = int(np.argmax(np.abs(self.direction[:, axis])))
            ends = self.cut[:, axis]
            result[:, along] |= ends if self.direction[along, axis] > 0 else ends[::-1]
        return result

    @property
    def is_cut(self) -> bool:
        """Whether the lungs end in a flat face anywhere."""
        return bool(self.cut.any())

    def field(self, sigma: float, side: int = 0) -> Occupancy:
        """Occupancy smoothed with a Gaussian of ``sigma`` mm, on a grid of 0.4 sigma, at least `CELL`.

        ``side`` is one of `sides`, or 0 for both lungs together.
        """
        if (side, sigma) not in self._fields:
            if sigma == FINEST:
                self._fields[side, sigma] = self._one_side(side)
            else:
                finest = self.field(FINEST, side)
                self._fields[side, sigma] = _smoothed(finest, sigma, max(CELL, 0.4 * sigma), 2.5 * sigma)
        return self._fields[side, sigma]

    def _one_side(self, side: int) -> Occupancy:
        """The finest field of one lung, on the grid of both; that of the second is what the first leaves."""
        both = self._fields[0, FINEST]
        other = [known for known in self.sides if known != side and (known, FINEST) in self._fields]
        if other and self.sides and not (self._labels == Mask.UNSIDED).any():
            return replace(both, values=both.values - self._fields[other[0], FINEST].values)
        lung = self._labels == side
        spans = [np.flatnonzero(lung.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        part = lung[tuple(slice(span[0], span[-1] + 1) for span in spans)].astype(np.float32)
        start = np.array([float(span[0]) for span in reversed(spans)]) * self.spacing
        places = [
            first + np.arange(n) * step
            for first, n, step in zip(both.start, both.values.shape[::-1], both.spacing, strict=True)
        ]
        values = _boxes_smoothed(part, start, self.spacing, np.maximum(FINEST, self.spacing / 2), places)
        return replace(both, values=values)

    def grid(self, sigma: float, step: float, margin: float) -> Occupancy:
        """Occupancy smoothed with ``sigma`` mm on a grid of ``step`` mm that reaches ``margin`` mm around the lungs."""
        return _smoothed(self._fields[0, FINEST], sigma, step, margin - MARGIN)

    def to_lps(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Own millimetres (N, 3) in LPS."""
        return np.asarray(own @ self.direction.T + self.origin, dtype=np.float64)

    def to_own(self, lps: NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS mm (N, 3) in own millimetres."""
        return np.asarray((lps - self.origin) @ self.direction, dtype=np.float64)

    def known(self, own: NDArray[np.float64], reach: float, clear: float = 0.0) -> NDArray[np.float32]:
        """(N,) confidence at own points: 1, and falling to 0 between ``clear + reach`` and ``clear`` mm of a truncated
        face."""
        weight = np.ones(len(own), dtype=np.float32)
        for axis in range(3):
            if self.cut[0, axis]:
                depth = own[:, axis] + self.spacing[axis] / 2 - clear
                weight *= np.clip(depth / reach, 0, 1).astype(np.float32)
            if self.cut[1, axis]:
                depth = self.size[axis] - self.spacing[axis] / 2 - clear - own[:, axis]
                weight *= np.clip(depth / reach, 0, 1).astype(np.float32)
        return weight


def _finest_field(lungs: NDArray[np.bool_], spacing: NDArray[np.float64]) -> Occupancy:
    """The mask's voxels as boxes, smoothed exactly with `FINEST`, or half a voxel where that is more (no staircase)."""
    places = [
        np.arange(-np.ceil(MARGIN / CELL), np.ceil((length * step + MARGIN) / CELL) + 1) * CELL
        for length, step in zip(lungs.shape[::-1], spacing, strict=True)
    ]
    sigma = np.maximum(FINEST, spacing / 2)
    values = _boxes_smoothed(lungs.astype(np.float32), np.zeros(3), spacing, sigma, places)
    return Occupancy(values, np.full(3, CELL), np.array([axis[0] for axis in places]), FINEST)


def _smoothed(finest: Occupancy, sigma: float, step: float, margin: float) -> Occupancy:
    """``finest`` smoothed further, to ``sigma`` mm, on a grid of ``step`` mm reaching ``margin`` mm beyond its own."""
    extra = max(float(np.sqrt(max(sigma**2 - finest.sigma**2, 0.0))), 1e-3)
    places = []
    for start, spacing, length in zip(finest.start, finest.spacing, finest.values.shape[::-1], strict=True):
        first, last = start - margin, start + (length - 1) * spacing + margin
        places.append(first + np.arange(np.ceil((last - first) / step) + 1) * step)
    values = _boxes_smoothed(finest.values, finest.start, finest.spacing, np.full(3, extra), places)
    return Occupancy(values, np.full(3, step), np.array([axis[0] for axis in places]), sigma)


def _boxes_smoothed(
    values: NDArray[np.float32],
    start: NDArray[np.float64],
    spacing: NDArray[np.float64],
    sigma: NDArray[np.float64],
    places: list[NDArray[np.float64]],
) -> NDArray[np.float32]:
    """Boxes of constant ``values`` (Z, Y, X) under a Gaussian, at the grid ``places`` x, y, z: one product per axis."""
    kernels = []
    for axis, length in enumerate(values.shape[::-1]):
        faces = start[axis] + (np.arange(length + 1) - 0.5) * spacing[axis]
        kernels.append(np.diff(ndtr((faces - places[axis][:, None]) / sigma[axis]), axis=1).astype(np.float32))
    depth, height, width = values.shape
    values = (kernels[2] @ values.reshape(depth, -1)).reshape(-1, height, width)
    return np.ascontiguousarray(np.matmul(kernels[1], values) @ kernels[0].T)
