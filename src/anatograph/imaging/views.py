"""Flat views of a scan: the planes, the grey window, and a slice drawn in millimetres with the lungs outlined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Frame, Mask, Volume

LUNG_WINDOW = (-1350.0, 150.0)
"""HU shown black and white: the radiologist's lung window, level -600, width 1500."""


_SIDES = ("RL", "AP", "IS")
"""Letters of the negative and of the positive direction of the axes L, P and S."""


def position(axis: int, value: float) -> str:
    """A coordinate in LPS mm as a side and a positive number: ``A 93`` for -93 along P."""
    return f"{_SIDES[axis][int(value >= 0)]} {abs(value):.0f}"


@dataclass(frozen=True)
class View:
    """A plane through the patient; axes are 0 L, 1 P, 2 S."""

    name: str
    """In words."""
    through: int
    """Axis that the plane is perpendicular to."""
    across: int
    """Axis that runs to the right of the picture."""
    up: int
    """Axis that runs along the height of the picture."""
    downwards: bool
    """Whether ``up`` grows towards the bottom of the picture."""
    sides: tuple[str, str]
    """What lies at the left and at the right edge."""

    @property
    def ends(self) -> tuple[str, str]:
        """What lies at the top and at the bottom edge."""
        return ("A", "P") if self.up == 1 else ("S", "I")

    def slab(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Slice ``index`` of an array (z, y, x): rows along ``up``, columns along ``across``."""
        return np.asarray(np.take(array, index, axis=2 - self.through))

    def points(self, place: float, across: NDArray[np.float64], up: NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS mm (len(up), len(across), 3) of a grid in the plane at ``place`` mm."""
        points = np.empty((len(up), len(across), 3))
        points[..., self.through], points[..., self.across] = place, across[None, :]
        points[..., self.up] = up[:, None]
        return points

    def limits(self, axes: Any, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        """Show the part of a plot in mm between two corners (LPS mm), the right way up."""
        axes.set_xlim(low[self.across], high[self.across])
        ends = (low[self.up], high[self.up])
        axes.set_ylim(ends[::-1] if self.downwards else ends)


AXIAL = View("axial", 2, 0, 1, True, ("R", "L"))
CORONAL = View("coronal", 1, 0, 2, False, ("R", "L"))
SAGITTAL = View("sagittal", 0, 1, 2, False, ("A", "P"))


def grey_of(hu: NDArray[np.generic]) -> NDArray[np.uint8]:
    """HU through the lung window as grey values; NaN becomes black."""
    low, high = LUNG_WINDOW
    share = np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1)
    return np.asarray(np.nan_to_num(255 * share), dtype=np.uint8)


def voxel_centres(frame: Frame, axis: int) -> NDArray[np.float64]:
    """LPS mm of the voxel centres of an axis-aligned frame along axis 0 L, 1 P or 2 S."""
    return np.asarray(frame.origin[axis] + np.arange(frame.shape[2 - axis]) * frame.spacing[axis], dtype=np.float64)


def edges(frame: Frame, view: View) -> tuple[float, float, float, float]:
    """Left, right, bottom and top edge in mm of a slice of an axis-aligned frame, outer voxel faces included."""
    ends: list[float] = []
    for axis in (view.across, view.up):
        centres, half = voxel_centres(frame, axis), frame.spacing[axis] / 2
        ends += [float(centres[0] - half), float(centres[-1] + half)]
    return ends[0], ends[1], ends[2], ends[3]


def draw_grey(axes: Any, picture: NDArray[Any], **options: Any) -> None:
    """Show HU in the lung window on matplotlib axes; ``options`` as ``imshow`` takes them."""
    axes.imshow(picture, cmap="gray", vmin=LUNG_WINDOW[0], vmax=LUNG_WINDOW[1], **options)


def draw_scan(axes: Any, scan: Volume, view: View, index: int, **options: Any) -> None:
    """Show slice ``index`` of a scan in mm."""
    draw_grey(axes, view.slab(scan.array, index), extent=edges(scan.frame, view), origin="lower", **options)


def draw_outline(axes: Any, lungs: Mask, view: View, index: int, **style: Any) -> None:
    """Draw the outline of the lungs in slice ``index`` in mm; ``style`` as ``contour`` takes it."""
    inside = view.slab(lungs.array, index) > 0
    if inside.any() and not inside.all():
        h, v = voxel_centres(lungs.frame, view.across), voxel_centres(lungs.frame, view.up)
        axes.contour(h, v, inside, levels=[0.5], **style)
