"""From a coarse grid, on which anatomy is evaluated, to the fine grid of the scanner, a few slices at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.phantom.person import Person
from anatograph.imaging.volume import Frame

Float = NDArray[np.float32]


def rotation_matrix(degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """Rotation about x, then y, then z (LPS axes), (3, 3)."""
    a, b, c = np.deg2rad(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(rz @ ry @ rx, dtype=np.float64)


@dataclass(frozen=True)
class Lerp:
    """Linear interpolation along one axis from coarse samples to fine ones."""

    left: NDArray[np.int64]
    """Index of the coarse sample before each fine one."""
    weight: Float
    """Weight of the coarse sample after it."""

    def along(self, values: Float, axis: int) -> Float:
        """`values` with `axis` made fine."""
        weight = self.weight.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        low = np.take(values, self.left, axis=axis)
        high = np.take(values, self.left + 1, axis=axis)
        high -= low
        high *= weight
        high += low
        return high


class Field:
    """A smooth quantity known on the coarse grid; `slab` gives it on fine slices."""

    def __init__(self, values_coarse: NDArray[np.floating], stage: Stage) -> None:
        self._stage = stage
        rows = stage.lerps[1].along(np.asarray(values_coarse, dtype=np.float32), 1)
        self._planes = stage.lerps[2].along(rows, 2)

    def slab(self, start: int, stop: int) -> Float:
        """Values on the fine slices start..stop, (stop - start, y, x)."""
        lerp = self._stage.lerps[0]
        out = np.empty((stop - start, *self._planes.shape[1:]), dtype=np.float32)
        for row, k in enumerate(range(start, stop)):
            low, high = self._planes[lerp.left[k]], self._planes[lerp.left[k] + 1]
            np.subtract(high, low, out=out[row])
            out[row] *= lerp.weight[k]
            out[row] += low
        return out


@dataclass(frozen=True, eq=False)
class Stage:
    """The scanner's grid around one person, and how it relates to thorax coordinates."""

    frame: Frame
    """Grid of the scan; axis-aligned LPS."""
    matrix: NDArray[np.float64]
    """(3, 3): LPS mm = matrix @ thorax coordinates + shift."""
    shift: NDArray[np.float64]
    """(3,) LPS mm."""
    coarse_mm: float = 4.0
    """Step of the coarse grid."""

    @property
    def spacing_zyx(self) -> NDArray[np.float64]:
        """Voxel size along z, y, x in mm."""
        return np.asarray(self.frame.spacing[::-1], dtype=np.float64)

    def to_thorax(self, points_lps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Thorax coordinates (..., 3) of LPS mm."""
        return np.asarray((points_lps - self.shift) @ np.linalg.inv(self.matrix).T)

    def to_lps(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS mm (..., 3) of thorax coordinates."""
        return np.asarray(points @ self.matrix.T + self.shift)

    def to_index(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional fine voxel indices (..., 3) in z, y, x order of thorax coordinates."""
        return np.asarray(self.frame.to_index(self.to_lps(points))[..., ::-1])

    @cached_property
    def lerps(self) -> tuple[Lerp, Lerp, Lerp]:
        """From coarse to fine along z, y, x."""
        result = []
        for length, step, coarse in zip(self.frame.shape, self.spacing_zyx, self.coarse_shape, strict=True):
            position = np.arange(length) * step / self.coarse_mm
            left = np.minimum(position.astype(np.int64), coarse - 2)
            result.append(Lerp(left, (position - left).astype(np.float32)))
        return result[0], result[1], result[2]

    @cached_property
    def coarse_shape(self) -> tuple[int, int, int]:
        """Samples of the coarse grid along z, y, x."""
        extent = [
            int(np.ceil((n - 1) * s / self.coarse_mm)) for n, s in zip(self.frame.shape, self.spacing_zyx, strict=True)
        ]
        return max(extent[0], 1) + 1, max(extent[1], 1) + 1, max(extent[2], 1) + 1

    @cached_property
    def coarse_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Thorax coordinates x, y, z of the coarse grid, each (z, y, x)."""
        z, y, x = (np.arange(n) * self.coarse_mm for n in self.coarse_shape)
        lps = np.stack(np.broadcast_arrays(x[None, None, :], y[None, :, None], z[:, None, None]), axis=-1)
        thorax = self.to_thorax(lps + np.asarray(self.frame.origin))
        return tuple(np.ascontiguousarray(thorax[..., k]) for k in range(3))  # type: ignore[return-value]

    def field(self, values_coarse: NDArray[np.floating]) -> Field:
        """A coarse array (z, y, x) ready to be read on fine slices."""
        return Field(values_coarse, self)

    def fine(self, values_coarse: NDArray[np.floating]) -> Float:
        """A coarse array on the whole fine grid."""
        return self.field(values_coarse).slab(0, self.frame.shape[0])


def stage_for(
    person: Person, reach_mm: tuple[float, float, float, float, float, float], spacing: tuple[float, float, float]
) -> Stage:
    """The grid that covers the box ``reach_mm`` (x, y, z low, then high, in thorax coordinates) of a person."""
    matrix = rotation_matrix(person.rotation_deg) * np.asarray(person.scale)
    shift = np.asarray(person.shift_mm)
    low, high = np.asarray(reach_mm[:3]) * person.scale, np.asarray(reach_mm[3:]) * person.scale
    step = np.asarray(spacing)
    count = np.ceil((high - low) / step).astype(int)
    origin = shift + (low + high) / 2.0 - (count - 1) / 2.0 * step
    origin = np.round(origin, 2)
    frame = Frame(
        (int(count[2]), int(count[1]), int(count[0])), spacing, (float(origin[0]), float(origin[1]), float(origin[2]))
    )
    return Stage(frame, matrix, shift)
