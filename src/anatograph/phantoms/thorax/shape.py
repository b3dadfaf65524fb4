"""The form of a thorax: smooth level sets for chest wall, spine, mediastinum, diaphragm and the two lungs.

Everything lives in *thorax coordinates*: the LPS axes in mm of an average adult, x = 0 the midline, y = 0 the middle
of the chest from front to back, z = 0 about the height of the carina. A level is positive inside, zero on the surface
and near it about the distance in mm.

Only +, -, *, / and the square root are used: IEEE fixes their result to the last bit, so that the reference lungs, and
with them the default atlas, are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LUNG_HEIGHT = 304.0
"""mm from the deepest recess to the apex of the average adult."""
BASE = -158.0
"""z of the deepest recess."""
_KNOT_STEP = 0.1
_FIRST_KNOT = -0.4
_MANY = 20_000
# Inner surface of the rib cage at heights -0.4, -0.3 ... 1.1 of the lung: half width, back wall, front wall.
_HALF_WIDTH = (114, 119, 124, 130, 135, 139.5, 141, 140, 137.5, 133.5, 128, 120.5, 109.5, 92, 64, 24)
_BACK = (76, 80, 86, 91, 95, 99, 102, 104, 106, 106, 104, 99, 90, 76, 56, 34)
_FRONT = (-74, -80, -85, -89, -93, -97, -100, -101, -100, -96, -87, -73, -52, -24, 6, 22)


@dataclass(frozen=True)
class ThoraxShape:
    """What makes one subject's thorax differ from the average, apart from its size."""

    heart_scale: float = 1.0
    """Size of the heart relative to the average."""
    heart_shift: float = 0.0
    """mm the heart lies further to the left."""
    dome_right: float = 84.0
    """mm from the deepest recess to the right dome of the diaphragm; less after a deep breath."""
    dome_left: float = 72.0
    """The same on the left."""
    mediastinum_scale: float = 1.0
    """Width of the upper mediastinum relative to the average (fat)."""
    kyphosis: float = 0.0
    """mm by which the back bulges more in its middle."""
    barrel: float = 0.0
    """mm by which the front wall lies further forward in the middle of the chest."""
    squareness: float = 0.0
    """-1..1: how much wider (or narrower) the upper cage is, in units of 6 %."""
    wave: tuple[float, ...] = field(default=(0.0, 0.0, 0.0, 0.0))
    """Small individual undulations of the wall in mm."""


def knots(values: tuple[float, ...], z: Array) -> Array:
    """Catmull-Rom curve through ``values`` at the fixed heights, evaluated at heights z (mm), in plain arithmetic."""
    table = np.asarray(values, dtype=np.float64)
    if z.size > _MANY:
        # For a scan's grid a finely sampled table is good enough, and ten times faster.
        heights: Array = np.arange(BASE - 160.0, BASE + LUNG_HEIGHT + 60.0, dtype=np.float64)
        place = np.clip(z - heights[0], 0.0, len(heights) - 1.001)
        below = place.astype(np.int32)
        curve: Array = knots(values, heights)
        return np.asarray(curve[below] + (place - below) * np.diff(curve)[below])
    position = ((z - BASE) / LUNG_HEIGHT - _FIRST_KNOT) / _KNOT_STEP
    position = np.clip(position, 0.0, len(table) - 1.0)
    left = np.minimum(position.astype(np.int64), len(table) - 2)
    t = position - left
    p0, p1 = table[np.maximum(left - 1, 0)], table[left]
    p2, p3 = table[left + 1], table[np.minimum(left + 2, len(table) - 1)]
    return np.asarray(
        p1 + 0.5 * t * ((p2 - p0) + t * ((2 * p0 - 5 * p1 + 4 * p2 - p3) + t * (3 * (p1 - p2) + p3 - p0)))
    )


def bump(t: Array) -> Array:
    """A smooth hump: 1 at t = 0, 0 from |t| = 1 on."""
    s = np.maximum(1.0 - t * t, 0.0)
    return np.asarray(s * s)


def smooth_union(a: Array, b: Array, radius: float) -> Array:
    """Union of two level sets whose seam is rounded over about ``radius`` mm."""
    h = np.maximum(radius - np.abs(a - b), 0.0)
    return np.asarray(np.maximum(a, b) + h * h / (4.0 * radius))


def smooth_meet(a: Array, b: Array, radius: float) -> Array:
    """Intersection of two level sets, its edge rounded over about ``radius`` mm."""
    return np.asarray(-smooth_union(-a, -b, radius))


def ellipsoid(x: Array, y: Array, z: Array, centre: tuple[float, float, float], axes: Array) -> Array:
    """Level set of an axis-aligned ellipsoid; ``axes`` its three half lengths in mm."""
    u, v, w = (x - centre[0]) / axes[0], (y - centre[1]) / axes[1], (z - centre[2]) / axes[2]
    s = u * u + v * v + w * w
    slope = np.sqrt((u / axes[0]) ** 2 + (v / axes[1]) ** 2 + (w / axes[2]) ** 2)
    return np.asarray((1.0 - s) / (2.0 * slope + 1e-3))


def ellipse(x: Array, y: Array, cx: Array | float, cy: Array | float, a: Array | float, b: Array | float) -> Array:
    """Level set of an upright elliptic column; centre and half axes may vary with height."""
    u, v = (x - cx) / a, (y - cy) / b
    return (1.0 - (u * u + v * v)) / (2.0 * np.sqrt((u / a) ** 2 + (v / b) ** 2) + 1e-3)


class Thorax:
    """Level sets of one subject's thorax; every method takes broadcastable x, y, z in thorax coordinates (mm)."""

    def __init__(self, shape: ThoraxShape | None = None) -> None:
        self.shape = shape or ThoraxShape()
        self._last: tuple[Array, tuple[Array, Array, Array]] | None = None

    def wall(self, z: Array) -> tuple[Array, Array, Array]:
        """Half width, back (y) and front (y) of the inner cage at heights z."""
        if self._last is not None and self._last[0] is z:
            return self._last[1]
        s = self.shape
        t = (z - BASE) / LUNG_HEIGHT
        half = knots(_HALF_WIDTH, z) * (1.0 + 0.06 * s.squareness * (t - 0.4)) + s.wave[0] * bump((t - 0.65) / 0.3)
        back = knots(_BACK, z) + s.kyphosis * bump((t - 0.6) / 0.5)
        front = knots(_FRONT, z) - s.barrel * bump((t - 0.45) / 0.6) + s.wave[1] * bump((t - 0.2) / 0.3)
        self._last = (z, (half, back, front))
        return half, back, front

    def cage(self, x: Array, y: Array, z: Array, out: float = 0.0, out_y: float | None = None) -> Array:
        """Inside of the rib cage, grown by ``out`` mm sideways and ``out_y`` mm to front and back."""
        half, back, front = self.wall(z)
        grow_y = out if out_y is None else out_y
        a = half + out
        middle, b = (back + front) / 2.0, (back - front) / 2.0 + grow_y
        u, v = np.abs(x) / a, np.abs(y - middle) / b
        ru, rv = np.sqrt(u), np.sqrt(v)
        s = u * u * ru + v * v * rv
        slope = 2.5 * np.sqrt((u * ru / a) ** 2 + (v * rv / b) ** 2)
        return np.asarray((1.0 - s) / (slope + 2e-3))

    def spine_y(self, z: Array) -> Array:
        """y of the middle of the vertebral bodies."""
        return self.wall(z)[1] - 43.0 + 4.0 * bump((z - 140.0) / 90.0)

    def spine(self, x: Array, y: Array, z: Array) -> Array:
        """Vertebral bodies, heads of the ribs and what lies behind them."""
        middle = self.spine_y(z)
        body = ellipse(x, y, 0.0, middle, 23.0, 21.0)
        behind = ellipse(x, y, 0.0, middle + 43.0, 43.0, 32.0)
        return smooth_union(body, behind, 14.0)

    @property
    def heart_centre(self) -> tuple[float, float, float]:
        """Middle of the heart: left of the midline, in front, on the diaphragm."""
        s = self.shape
        low = BASE + 0.5 * (s.dome_right + s.dome_left)
        return (22.0 + s.heart_shift, -35.0 - 0.4 * s.barrel, low + 40.0 * s.heart_scale)

    def heart(self, x: Array, y: Array, z: Array) -> Array:
        """The heart in its pericardium: an oblique ellipsoid, its tip to the left, front and down."""
        cx, cy, cz = self.heart_centre
        k = self.shape.heart_scale
        # Below its middle it continues as a column, so that it rests on the diaphragm and no lung creeps under it.
        dx, dy, dz = x - cx, y - cy, np.maximum(z - cz, -14.0 * k)
        # An orthonormal frame of rational numbers: the long axis points to (left, front, down).
        long = (6.0 * dx - 3.0 * dy - 2.0 * dz) / 7.0
        side = (2.0 * dx + 6.0 * dy - 3.0 * dz) / 7.0
        up = (3.0 * dx + 2.0 * dy + 6.0 * dz) / 7.0
        ventricles = ellipsoid(long, side, up, (0.0, 0.0, 0.0), np.array([66.0, 50.0, 47.0]) * k)
        atria = ellipsoid(dx, dy, dz, (-30.0 * k, 8.0, 18.0), np.array([36.0, 37.0, 43.0]) * k)
        return smooth_union(ventricles, atria, 18.0)

    def upper_mediastinum(self, x: Array, y: Array, z: Array) -> Array:
        """Great vessels, trachea and fat, from the heart to the neck."""
        k = self.shape.mediastinum_scale
        _, back, front = self.wall(z)
        behind = back - 62.0
        ahead = np.minimum(front * 0.62, behind - 34.0)
        widening = bump((z + 10.0) / 75.0)
        high = np.clip((z - 60.0) / 70.0, 0.0, 1.0)
        column = ellipse(
            x, y, 3.0, (behind + ahead) / 2.0, (27.0 + 9.0 * widening + 3.0 * high) * k, (behind - ahead) / 2.0 + 5.0
        )
        return smooth_meet(column, z + 55.0, 12.0)

    def sheet_x(self, y: Array, z: Array) -> Array:
        """x of the sheet that parts the lungs in front of and behind the mediastinum."""
        return np.asarray(4.0 + 0.0 * (y + z))

    def mediastinum(self, x: Array, y: Array, z: Array) -> Array:
        """Everything between the lungs except the spine."""
        _, back, front = self.wall(z)
        depth = np.clip((front + 34.0 - y) / 34.0, 0.0, 1.0)
        sheet = 3.0 + 13.0 * depth * depth + 9.0 * bump((z - 110.0) / 60.0) - np.abs(x - self.sheet_x(y, z))
        level = smooth_union(self.heart(x, y, z), self.upper_mediastinum(x, y, z), 16.0)
        level = smooth_union(level, sheet, 9.0)
        aorta_x, aorta_y = self.aorta_line(z)
        aorta = np.minimum(ellipse(x, y, aorta_x, aorta_y, 15.0, 15.0), 62.0 - z)
        level = smooth_union(level, aorta, 8.0)
        oesophagus = ellipse(x, y, 4.0, back - 66.0, 15.0, 24.0)
        level = smooth_union(level, oesophagus, 8.0)
        for side in (-1.0, 1.0):
            hilum = ellipsoid(x, y, z, (side * 36.0 + 3.0, 8.0, 6.0 + 5.0 * side), np.array([25.0, 24.0, 34.0]))
            level = smooth_union(level, hilum, 10.0)
        return level

    def aorta_line(self, z: Array) -> tuple[Array, Array]:
        """x, y of the descending aorta at heights z."""
        low = np.clip((-20.0 - z) / 120.0, 0.0, 1.0)
        return 24.0 - 14.0 * low, self.spine_y(z) - 20.0 - 6.0 * low

    def diaphragm_height(self, x: Array, y: Array, z_wall: Array | float = -60.0) -> Array:
        """z of the upper surface of the diaphragm above the place (x, y)."""
        s = self.shape
        half, back, front = self.wall(np.asarray(z_wall, dtype=np.float64))
        across = np.clip((x + 30.0) / 60.0, 0.0, 1.0)
        across = across * across * (3.0 - 2.0 * across)
        top = s.dome_right + (s.dome_left - s.dome_right) * across
        lateral = np.maximum(np.abs(x) - 40.0, 0.0) / (half - 40.0)
        behind = np.maximum(y + 25.0, 0.0) / (back + 25.0)
        before = np.maximum(-25.0 - y, 0.0) / (-25.0 - front)
        medial = np.maximum(45.0 - np.abs(x), 0.0) / 45.0
        drop_side = 62.0 * lateral * lateral * (0.25 + 0.75 * lateral)
        drop_back = (s.dome_right - 4.0) * behind * behind * (1.15 - 0.15 * behind)
        drop_front = 26.0 * before * before
        drop = np.sqrt(drop_side * drop_side + drop_back * drop_back + drop_front * drop_front)
        ripple = s.wave[2] * bump((np.abs(x) - 75.0) / 45.0) * bump((y + 10.0) / 60.0)
        return np.asarray(BASE + top + ripple - drop - 10.0 * medial * medial)

    def diaphragm(self, x: Array, y: Array, z: Array) -> Array:
        """Below the diaphragm (abdomen)."""
        return 0.75 * (self.diaphragm_height(x, y) - z)

    def lungs(self, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
        """The right and the left lung, fissures, vessels and airways of the lung included."""
        inner = smooth_meet(self.cage(x, y, z), -self.mediastinum(x, y, z), 9.0)
        inner = smooth_meet(inner, -self.spine(x, y, z), 8.0)
        inner = smooth_meet(inner, -self.diaphragm(x, y, z), 4.0)
        inner = smooth_meet(inner, BASE + LUNG_HEIGHT - z, 26.0)
        split = x - self.sheet_x(y, z)
        return np.minimum(inner, -split), np.minimum(inner, split)


def fine_axis(values: Array, axis: int, factor: int) -> Array:
    """Linear interpolation along ``axis`` at ``factor`` times the density; the last sample stays the last."""
    length = values.shape[axis]
    position = np.arange((length - 1) * factor + 1)
    left = np.minimum(position // factor, length - 2)
    weight = ((position - left * factor) / factor).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    low = np.take(values, left, axis=axis)
    return np.asarray(low + weight * (np.take(values, left + 1, axis=axis) - low))
