"""Volumes and masks, which never travel without their frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import SimpleITK as sitk

Vector = tuple[float, float, float]
Box = tuple[slice, slice, slice]
"""A block of an array, z, y, x."""


def vector(values: Any) -> Vector:
    """Three numbers as a plain tuple of floats."""
    x, y, z = (float(value) for value in values)
    return (x, y, z)


def bounding_box(mask: NDArray[np.bool_], margin: tuple[int, ...] = (0, 0, 0)) -> Box | None:
    """The smallest block (z, y, x) holding a mask, ``margin`` voxels wider inside the array; None for an empty mask."""
    slices = []
    for axis, extra in enumerate(margin):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if not line.size:
            return None
        slices.append(slice(max(0, int(line[0]) - extra), min(mask.shape[axis], int(line[-1]) + 1 + extra)))
    return slices[0], slices[1], slices[2]


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

    def nearest(self, points_lps: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Voxels x, y, z nearest to points (..., 3) in LPS mm, clipped to the grid, and which points lie in it."""
        index = np.rint(self.to_index(points_lps)).astype(np.intp)
        size = np.asarray(self.shape[::-1])
        inside = ((index >= 0) & (index < size)).all(axis=-1)
        return np.clip(index, 0, size - 1), np.asarray(inside, dtype=np.bool_)

    def to_image(self, array: NDArray[Any]) -> sitk.Image:
        """A SimpleITK image holding a copy of ``array`` (z, y, x) on this frame."""
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction.ravel().tolist())
        return image

    @classmethod
    def of_image(cls, image: sitk.Image) -> Frame:
        """The frame of a three-dimensional SimpleITK image, exactly as the file gives it."""
        x, y, z = image.GetSize()
        direction = np.asarray(image.GetDirection(), dtype=np.float64).reshape(3, 3)
        return cls((z, y, x), vector(image.GetSpacing()), vector(image.GetOrigin()), direction)

    def to_dict(self) -> dict[str, Any]:
        """The frame as JSON holds it, exactly."""
        return {
            "shape": [int(n) for n in self.shape],
            "spacing": [float(value) for value in self.spacing],
            "origin": [float(value) for value in self.origin],
            "direction": self.direction.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Frame:
        """The frame that `to_dict` wrote."""
        z, y, x = (int(n) for n in values["shape"])
        direction = np.array(values["direction"], dtype=np.float64)
        return cls((z, y, x), vector(values["spacing"]), vector(values["origin"]), direction)

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
        return replace(self, shape=shape, origin=vector(self.to_lps(np.asarray(start_zyx[::-1], dtype=np.float64))))

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
    """The file or folder it came from, for messages."""
    notes: tuple[str, ...] = ()
    """Everything chosen or repaired on reading, in plain sentences."""
    flags: tuple[str, ...] = ()
    """What of it, and of the header, needs a look."""

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

    def contains(self, points_lps: ArrayLike) -> NDArray[np.bool_]:
        """Whether the voxel nearest to each point (..., 3) in LPS mm is lung; False outside the grid."""
        index, inside = self.frame.nearest(points_lps)
        return np.asarray(inside & (self.array[index[..., 2], index[..., 1], index[..., 0]] > 0), dtype=np.bool_)

    def box(self, margin: tuple[int, int, int] = (0, 0, 0)) -> Box | None:
        """The block (z, y, x) of the array about both lungs, wider by ``margin`` voxels; None for an empty mask."""
        return bounding_box(self.lungs, margin)

    def box_lps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Lowest and highest LPS mm (3,) of the centres of lung voxels; None for an empty mask."""
        box = self.box()
        if box is None:
            return None
        ends = self.frame.to_lps([[one.start for one in box[::-1]], [one.stop - 1 for one in box[::-1]]])
        return ends.min(axis=0), ends.max(axis=0)

    def __post_init__(self) -> None:
        if self.array.shape != self.frame.shape:
            raise ValueError(f"array of shape {self.array.shape} does not fit a frame of shape {self.frame.shape}")
