"""A volume never travels without its frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the voxels of a z,y,x array lie in the patient, in ITK's LPS millimetres.

    A voxel index is given as (x, y, z), the order of ``spacing``; the array it points into is indexed [z, y, x].
    """

    shape: tuple[int, int, int]
    """Voxels along z, y, x."""
    spacing: Vector
    """Distance between voxel centres along x, y, z in mm."""
    origin: Vector
    """LPS mm of the centre of voxel (0, 0, 0)."""
    direction: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    """(3, 3); column k is the LPS unit vector along which index k (of x, y, z) grows."""

    @cached_property
    def index_to_lps_matrix(self) -> NDArray[np.float64]:
        """(3, 3) matrix taking an (x, y, z) index offset to an LPS offset in mm."""
        matrix: NDArray[np.float64] = self.direction * np.asarray(self.spacing)
        return matrix

    def to_lps(self, index_xyz: ArrayLike) -> NDArray[np.float64]:
        """LPS mm of (possibly fractional) voxel indices (..., 3) in x, y, z order."""
        points = np.asarray(index_xyz, dtype=np.float64) @ self.index_to_lps_matrix.T
        return np.asarray(points + np.asarray(self.origin), dtype=np.float64)

    def to_index(self, points_lps: ArrayLike) -> NDArray[np.float64]:
        """Fractional voxel indices (..., 3) in x, y, z order of points in LPS mm."""
        offset = np.asarray(points_lps, dtype=np.float64) - np.asarray(self.origin)
        return np.asarray(offset @ np.linalg.inv(self.index_to_lps_matrix).T, dtype=np.float64)

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm³."""
        return float(np.prod(self.spacing))

    @property
    def is_axis_aligned(self) -> bool:
        """Whether the index axes run along +L, +P and +S (direction is the identity to 1e-4)."""
        return bool(np.abs(self.direction - np.eye(3)).max() < 1e-4)

    def crop(self, start_zyx: tuple[int, int, int], shape: tuple[int, int, int]) -> Frame:
        """The frame of the block of ``shape`` that begins at voxel ``start_zyx`` (which may lie outside)."""
        origin = self.to_lps(np.asarray(start_zyx[::-1], dtype=np.float64))
        return replace(self, shape=shape, origin=(float(origin[0]), float(origin[1]), float(origin[2])))

    def same_grid(self, other: Frame, tolerance: float = 1e-3) -> bool:
        """Whether both describe the same voxels, every corner within ``tolerance`` mm."""
        if self.shape != other.shape:
            return False
        z, y, x = self.shape
        corners = np.array([(0, 0, 0), (x - 1, 0, 0), (0, y - 1, 0), (0, 0, z - 1), (x - 1, y - 1, z - 1)])
        return bool(np.abs(self.to_lps(corners) - other.to_lps(corners)).max() < tolerance)


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT in Hounsfield units whose index axes run as nearly as may be along +L, +P and +S."""

    array: NDArray[np.int16]
    """HU, indexed z, y, x; nothing below -1024."""
    frame: Frame
    """Frame of ``array``, after reorientation to LPS."""
    stored: Frame | None = None
    """Frame of the file before reorientation, so that results can be written back on the grid the user knows."""
    source: str = ""
    """Where it came from, for messages."""
    notes: tuple[str, ...] = ()
    """Everything that was chosen or repaired on reading, in plain sentences."""
    flags: tuple[str, ...] = ()
    """What of it, and of what the header says, a person should look at."""

    @property
    def spacing(self) -> Vector:
        """Distance between voxel centres along x, y, z in mm."""
        return self.frame.spacing

    @property
    def origin(self) -> Vector:
        """LPS mm of the centre of voxel (0, 0, 0)."""
        return self.frame.origin

    @property
    def direction(self) -> NDArray[np.float64]:
        """(3, 3) direction cosines, see `Frame.direction`."""
        return self.frame.direction

    def __post_init__(self) -> None:
        if self.array.shape != self.frame.shape:
            raise ValueError(f"array of shape {self.array.shape} does not fit a frame of shape {self.frame.shape}")


@dataclass(frozen=True, eq=False)
class Mask:
    """Lungs on a voxel grid."""

    array: NDArray[np.uint8]
    """Indexed z, y, x: 0 outside, 1 the patient's right lung, 2 the left; 3 where the side is not known."""
    frame: Frame
    """Frame of ``array``."""

    RIGHT = 1
    LEFT = 2
    UNSIDED = 3

    @property
    def lungs(self) -> NDArray[np.bool_]:
        """Both lungs together, z, y, x."""
        return np.asarray(self.array > 0)

    def __post_init__(self) -> None:
        if self.array.shape != self.frame.shape:
            raise ValueError(f"array of shape {self.array.shape} does not fit a frame of shape {self.frame.shape}")
