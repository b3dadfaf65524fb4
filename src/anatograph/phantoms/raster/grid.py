"""From a coarse grid, on which anatomy is evaluated, to the fine grid of the scanner, a few slices at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Frame, Vector

Float = NDArray[np.float32]
Array = NDArray[np.float64]
Box = tuple[slice, slice]
"""Rows and columns of the fine grid."""
COARSE_MM = 4.5
Reach = tuple[float, float, float, float, float, float]
"""x, y, z low, then high, in mm."""


def rotation_matrix(degrees: tuple[float, float, float]) -> Array:
    """Rotation about x, then y, then z (LPS axes), (3, 3)."""
    a, b, c = np.deg2rad(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(rz @ ry @ rx, dtype=np.float64)


class Field:
    """A smooth quantity known on the coarse grid and read slab by slab on fine slices, within a box.

    Slabs must be read in rising order: the two coarse planes last used are kept, nothing else.
    """

    def __init__(self, values_coarse: NDArray[np.floating], stage: Stage, box: Box | None = None) -> None:
        self._stage = stage
        self._values = np.asarray(values_coarse, dtype=np.float32)
        rows, columns = box or stage.everything
        self._rows = (stage.lerps[1][0][rows], stage.lerps[1][1][rows])
        self._columns = (stage.lerps[2][0][columns], stage.lerps[2][1][columns])
        self._planes: dict[int, Float] = {}

    def _plane(self, index: int) -> Float:
        """Coarse plane ``index`` on fine rows and columns of the box."""
        found = self._planes.get(index)
        if found is None:
            left, weight = self._rows
            plane = self._values[index]
            plane = plane[left] + weight[:, None] * (plane[left + 1] - plane[left])
            left, weight = self._columns
            found = np.take(plane, left, axis=1)
            ahead = np.take(plane, left + 1, axis=1)
            ahead -= found
            ahead *= weight
            found += ahead
            self._planes = {k: v for k, v in self._planes.items() if k == index - 1}
            self._planes[index] = found
        return found

    def slab(self, start: int, stop: int) -> Float:
        """Values on fine slices start..stop within the box, (stop - start, rows, columns)."""
        left, weight = self._stage.lerps[0]
        out = np.empty((stop - start, len(self._rows[0]), len(self._columns[0])), dtype=np.float32)
        for row, k in enumerate(range(start, stop)):
            low, high = self._plane(int(left[k])), self._plane(int(left[k]) + 1)
            np.subtract(high, low, out=out[row])
            out[row] *= weight[k]
            out[row] += low
        return out


class Level(Field):
    """A level set read within the box in which it is positive (or nearly); knows in which slices that is."""

    def __init__(self, values_coarse: NDArray[np.floating], stage: Stage, margin_mm: float = 4.0) -> None:
        near = values_coarse > -margin_mm
        self.box = stage.box_of(near)
        planes = np.flatnonzero(near.any(axis=(1, 2)))
        left = stage.lerps[0][0]
        use = (left + 1 >= planes[0]) & (left <= planes[-1]) if len(planes) else np.zeros(len(left), dtype=bool)
        self._in_use = use
        super().__init__(values_coarse, stage, self.box)

    def meets(self, start: int, stop: int) -> bool:
        """Whether anything of it lies in fine slices start..stop."""
        return bool(self._in_use[start:stop].any())


@dataclass(frozen=True, eq=False)
class Stage:
    """The scanner's grid around one subject, and how it relates to thorax coordinates."""

    frame: Frame
    """Grid of the scan; axis-aligned LPS."""
    matrix: Array
    """(3, 3): LPS mm = matrix @ thorax coordinates + shift."""
    shift: Array
    """(3,) LPS mm."""

    @cached_property
    def spacing_zyx(self) -> Array:
        """Voxel size along z, y, x in mm."""
        return np.asarray(self.frame.spacing[::-1], dtype=np.float64)

    @cached_property
    def inverse(self) -> Array:
        """(3, 3): thorax coordinates = inverse @ (LPS mm - shift)."""
        return np.asarray(np.linalg.inv(self.matrix))

    def to_thorax(self, points_lps: Array) -> Array:
        """Thorax coordinates (..., 3) of LPS mm."""
        offset = points_lps - self.shift
        return np.stack([sum(self.inverse[k, j] * offset[..., j] for j in range(3)) for k in range(3)], axis=-1)

    def to_lps(self, points: Array) -> Array:
        """LPS mm (..., 3) of thorax coordinates."""
        return np.asarray(points @ self.matrix.T + self.shift)

    def to_index(self, points: Array) -> Array:
        """Fractional fine voxel indices (..., 3) in z, y, x order of thorax coordinates."""
        return np.asarray(self.frame.to_index(self.to_lps(points))[..., ::-1])

    @cached_property
    def lerps(self) -> tuple[tuple[NDArray[np.int64], Float], ...]:
        """For z, y, x: the coarse sample before each fine one, and the weight of the one after it."""
        result = []
        for length, step, coarse in zip(self.frame.shape, self.spacing_zyx, self.coarse_shape, strict=True):
            position = np.arange(length) * step / COARSE_MM
            left = np.minimum(position.astype(np.int64), coarse - 2)
            result.append((left, (position - left).astype(np.float32)))
        return tuple(result)

    @cached_property
    def everything(self) -> Box:
        """All rows and columns."""
        return slice(0, self.frame.shape[1]), slice(0, self.frame.shape[2])

    def box_of(self, near_coarse: NDArray[np.bool_]) -> Box:
        """Fine rows and columns around the marked coarse samples (z, y, x)."""
        result = []
        for axis in (1, 2):
            marked = np.flatnonzero(near_coarse.any(axis=tuple(a for a in range(3) if a != axis)))
            low, high = (int(marked[0]) - 1, int(marked[-1]) + 1) if len(marked) else (0, 0)
            step = COARSE_MM / float(self.spacing_zyx[axis])
            length = self.frame.shape[axis]
            start = min(max(int(low * step), 0), length - 1)
            result.append(slice(start, max(min(int(np.ceil(high * step)) + 1, length), start + 1)))
        return result[0], result[1]

    @cached_property
    def coarse_shape(self) -> tuple[int, int, int]:
        """Samples of the coarse grid along z, y, x."""
        sizes = zip(self.frame.shape, self.spacing_zyx, strict=True)
        z, y, x = (max(int(np.ceil((n - 1) * s / COARSE_MM)), 1) + 1 for n, s in sizes)
        return z, y, x

    @cached_property
    def coarse_points(self) -> tuple[Array, Array, Array]:
        """Thorax coordinates x, y, z of the coarse grid, each (z, y, x)."""
        z, y, x = (np.arange(n) * COARSE_MM for n in self.coarse_shape)
        x, y, z = (v + o - s for v, o, s in zip((x, y, z), self.frame.origin, self.shift, strict=True))
        rows = [m[0] * x[None, None, :] + m[1] * y[None, :, None] + m[2] * z[:, None, None] for m in self.inverse]
        return rows[0], rows[1], rows[2]

    def coordinate(self, which: int, start: int, stop: int, box: Box) -> Float:
        """Thorax coordinate ``which`` (0 x, 1 y, 2 z) on fine slices start..stop within a box."""
        z, y, x = (
            (np.arange(n)[part] * d + o - s) * m
            for n, part, d, o, s, m in zip(
                self.frame.shape,
                (slice(start, stop), *box),
                self.spacing_zyx,
                self.frame.origin[::-1],
                self.shift[::-1],
                self.inverse[which][::-1],
                strict=True,
            )
        )
        plane = (y[:, None] + x[None, :]).astype(np.float32)
        return np.asarray(plane[None] + z.astype(np.float32)[:, None, None])

    def nearest(self, values: NDArray[np.floating], points: Array) -> Array:
        """Coarse values at the samples nearest to places (P, 3) in thorax coordinates."""
        offset = self.to_lps(points) - np.asarray(self.frame.origin)
        index = np.clip(np.round(offset[:, ::-1] / COARSE_MM).astype(int), 0, np.asarray(values.shape) - 1)
        return np.asarray(values[index[:, 0], index[:, 1], index[:, 2]], dtype=np.float64)


def stage_for(rotation_deg: Vector, scale: Vector, shift_mm: Vector, reach_mm: Reach, spacing: Vector) -> Stage:
    """The grid that covers the box ``reach_mm`` (x, y, z low, then high, in thorax coordinates) of a subject.

    rotation_deg, scale and shift_mm place the thorax in the scanner (see `SubjectProfile`); spacing in mm along x, y,
    z.
    """
    matrix = rotation_matrix(rotation_deg) * np.asarray(scale)
    shift = np.asarray(shift_mm)
    low, high = np.asarray(reach_mm[:3]) * scale, np.asarray(reach_mm[3:]) * scale
    step = np.asarray(spacing)
    count = np.ceil((high - low) / step).astype(int)
    origin = np.round(shift + (low + high) / 2.0 - (count - 1) / 2.0 * step, 2)
    frame = Frame(
        (int(count[2]), int(count[1]), int(count[0])), spacing, (float(origin[0]), float(origin[1]), float(origin[2]))
    )
    return Stage(frame, matrix, shift)
