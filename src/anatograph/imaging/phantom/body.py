"""Everything outside the lungs: skin, fat, muscle, bones, heart, abdomen, couch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from anatograph.imaging.phantom.grid import Field, Stage
from anatograph.imaging.phantom.person import Person
from anatograph.imaging.phantom.shape import BASE, LUNG_HEIGHT, Thorax, bump, ellipse, ellipsoid, knots, smooth_union

Float = NDArray[np.float32]
Array = NDArray[np.float64]

FAT, MUSCLE, BLOOD, LIVER, SPLEEN, BRAIN_OF_BONE = -100.0, 52.0, 42.0, 58.0, 50.0, 190.0
# mm from the inner rib cage to the outer surface of the muscles, at heights -0.4 ... 1.1 of the lung.
_MUSCLE_SIDE = (18, 18, 18, 18, 18, 19, 21, 24, 28, 34, 42, 52, 64, 78, 96, 120)
_MUSCLE_BACK = (34, 34, 33, 32, 31, 30, 30, 30, 31, 33, 36, 40, 44, 50, 54, 56)
_MUSCLE_FRONT = (12, 12, 12, 13, 14, 15, 17, 20, 23, 25, 26, 27, 30, 38, 48, 54)
RIB_PITCH = 25.0


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int], sigma: float) -> Array:
    """Unit-variance Gaussian noise smooth over ``sigma`` coarse samples."""
    noise = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(noise / noise.std())


def fat_mm(person: Person) -> float:
    """Thickness of the fat under the skin of the flank."""
    return float(max(2.5, 3.0 + (person.bmi - 18.5) * (1.55 if person.sex == "F" else 1.15)))


def reach_of(person: Person, margin: float) -> tuple[float, float, float, float, float, float]:
    """Box of the scan in thorax coordinates: x, y, z low, then high."""
    fat = fat_mm(person)
    side = min(178.0 + 0.8 * fat, 205.0)
    return (
        -side - margin,
        -122.0 - fat - margin - max(person.shape.barrel, 0.0) - (18.0 if person.sex == "F" else 0.0),
        BASE - 26.0,
        side + margin,
        138.0 + 0.8 * fat + margin + 16.0 + max(person.shape.kyphosis, 0.0),
        BASE + LUNG_HEIGHT + 24.0,
    )


class Body:
    """The levels of one person's body on a stage, to be painted slab by slab."""

    def __init__(self, person: Person, stage: Stage, rng: np.random.Generator) -> None:
        self.person, self.stage = person, stage
        self.thorax = thorax = Thorax(person.shape)
        x, y, z = stage.coarse_points
        half, back, front = thorax.wall(z)
        self.cage_coarse = thorax.cage(x, y, z)
        muscle = self._hull(
            x, y, half, back, front, *(knots(k, z) for k in (_MUSCLE_SIDE, _MUSCLE_BACK, _MUSCLE_FRONT))
        )
        # The furrow over the spine and the hollow of the breastbone.
        muscle = muscle - 7.0 * bump(x / 26.0) * (y > 0)
        fat = fat_mm(person)
        low = np.clip((BASE + 90.0 - z) / 120.0, 0.0, 1.0)
        sides = [
            knots(k, z) + f * fat
            for k, f in ((_MUSCLE_SIDE, 1.0 + 0.5 * low), (_MUSCLE_BACK, 0.7), (_MUSCLE_FRONT, 0.6 + 0.5 * low))
        ]
        skin = self._hull(x, y, half, back, front, *sides) - 4.0 * bump(x / 24.0) * (y > 0)
        if person.sex == "F":
            size = np.clip(0.75 + 0.02 * (person.bmi - 24.0), 0.6, 1.15)
            for side in (-1.0, 1.0):
                breast = ellipsoid(x, y, z, (side * 78.0, -98.0, -42.0), np.array([58.0, 44.0, 62.0]) * size)
                skin = smooth_union(skin, breast, 18.0)
        self.skin = stage.field(skin)
        self.muscle = stage.field(np.minimum(muscle, skin - 2.0))
        self.cage = stage.field(self.cage_coarse)
        self.x, self.y, self.z = (stage.field(v) for v in (x, y, z))
        right, left = thorax.lungs(x, y, z)
        self.right, self.left = stage.field(right), stage.field(left)
        self.right_coarse, self.left_coarse = right, left
        # Ribs: bands in the shell of the cage, falling towards the front.
        fall = (
            0.52 * (back - y)
            - 14.0 * np.clip((front + 60.0 - y) / 60.0, 0.0, 1.0) ** 2
            + 3.0 * person.shape.wave[3] * x / 300
        )
        self.rib = stage.field((z + fall - (BASE + 12.0)) / RIB_PITCH)
        self.to_front = stage.field(y - front)
        spine_y = thorax.spine_y(z)
        body = np.maximum(ellipse(x, y, 0.0, spine_y, 17.5, 14.5), -30.0)
        self.vertebra = stage.field(body)
        self.spine_y = stage.field(y - spine_y)
        # The middle of the chest and the abdomen.
        diaphragm = thorax.diaphragm(x, y, z)
        self.abdomen = stage.field(diaphragm)
        heart = thorax.heart(x, y, z) - 4.0
        self.heart = stage.field(np.minimum(heart, -diaphragm + 3.0))
        s = person.shape
        dome_left = BASE + s.dome_left
        border = 28.0 - 0.35 * (z - BASE) - x + 14.0 * bump((y + 40.0) / 70.0)
        liver = np.minimum(np.minimum(diaphragm - 3.0, border), self.cage_coarse + 1.0)
        self.liver = stage.field(np.minimum(liver, 55.0 - y + 40.0 * (x < -10)))
        spleen = ellipsoid(x, y, z, (92.0, 42.0, dome_left - 42.0), np.array([30.0, 46.0, 52.0]))
        self.spleen = stage.field(np.minimum(spleen, diaphragm - 3.0))
        stomach = ellipsoid(x, y, z, (66.0, -28.0, dome_left - 40.0), np.array([42.0, 42.0, 40.0]))
        self.stomach = stage.field(np.minimum(stomach, diaphragm - 4.0))
        self.gas = stage.field(np.minimum(stomach - 4.0, -32.0 + 10.0 * rng.normal() - y))
        shape = stage.coarse_shape
        self.grain = stage.field(_smooth_noise(rng, shape, 1.4))
        self.strands = stage.field(_smooth_noise(rng, shape, 0.9))
        self.table_y = self._table_height(skin)

    @staticmethod
    def _hull(
        x: Array, y: Array, half: Array, back: Array, front: Array, side: Array, behind: Array, before: Array
    ) -> Array:
        a = np.minimum(half + side, 182.0)
        top, bottom = back + behind, front - before
        middle, b = (top + bottom) / 2.0, (top - bottom) / 2.0
        u, v = np.abs(x) / a, np.abs(y - middle) / b
        ru, rv = np.sqrt(u), np.sqrt(v)
        slope = 2.5 * np.sqrt((u * ru / a) ** 2 + (v * rv / b) ** 2)
        return np.asarray((1.0 - u * u * ru - v * v * rv) / (slope + 2e-3))

    def _table_height(self, skin: Array) -> float:
        """LPS y in mm of the couch's upper surface: it touches the back."""
        inside = np.flatnonzero((skin > 0).any(axis=(0, 2)))
        return float(self.stage.frame.origin[1] + (inside[-1] + 0.6) * self.stage.coarse_mm)

    def slab(self, start: int, stop: int) -> tuple[Float, Float, Float]:
        """HU of all but the lungs' content on fine slices start..stop, and the levels of the right and left lung."""
        f = np.float32
        take = [q.slab(start, stop) for q in (self.skin, self.muscle, self.cage, self.x, self.z)]
        skin, muscle, cage, x, z = take
        grain, strands = self.grain.slab(start, stop), self.strands.slab(start, stop)
        meat = f(MUSCLE) + f(5.0) * grain
        # Fat between the muscles, more in the heavy and the old.
        share = f(1.65 - 0.03 * (self.person.bmi - 25.0))
        mix = _soft(strands - share, 0.4)
        meat += mix * (f(FAT) - meat)
        hu = np.full(skin.shape, -1000.0, dtype=np.float32)
        fat = f(FAT) + f(6.0) * grain
        _over(hu, fat, _soft(skin, 1.2))
        _over(hu, f(30.0), _soft(skin, 1.2) * _soft(f(1.6) - skin, 1.2))
        _over(hu, meat, _soft(muscle, 1.5))
        # Inside the cage: fat of the mediastinum and the abdomen.
        inner = _soft(cage + f(1.0), 1.5)
        _over(hu, fat + f(8.0), inner)
        self._abdomen(hu, cage, z, grain, strands, start, stop)
        heart = _soft(self.heart.slab(start, stop), 1.5)
        _over(hu, f(BLOOD + self.person.contrast_hu) + f(3.0) * grain, heart)
        gullet_wall = self.spine_y.slab(start, stop)
        self._bones(hu, cage, x, z, gullet_wall, start, stop)
        right, left = self.right.slab(start, stop), self.left.slab(start, stop)
        self._couch(hu, skin, start, stop)
        return hu, right, left

    def _abdomen(self, hu: Float, cage: Float, z: Float, grain: Float, strands: Float, start: int, stop: int) -> None:
        if float(z.min()) > BASE + 150.0:
            return
        f = np.float32
        below = self.abdomen.slab(start, stop)
        inside = _soft(below, 1.5) * _soft(cage, 1.5)
        _over(hu, f(45.0), inside * _soft(f(3.0) - below, 1.5))
        bowel = _soft(grain - f(0.75), 0.4) * inside * _soft(below - f(6.0), 2.0)
        _over(hu, f(30.0) + f(10.0) * strands, bowel)
        _over(hu, f(SPLEEN), _soft(self.spleen.slab(start, stop), 1.2))
        _over(hu, f(28.0) + f(12.0) * strands, _soft(self.stomach.slab(start, stop), 1.2))
        _over(hu, f(LIVER + 0.35 * self.person.contrast_hu) + f(3.0) * grain, _soft(self.liver.slab(start, stop), 1.2))
        _over(hu, f(-980.0), _soft(self.gas.slab(start, stop), 1.2))

    def _bones(self, hu: Float, cage: Float, x: Float, z: Float, dy: Float, start: int, stop: int) -> None:
        f = np.float32
        out = -cage
        ahead = self.to_front.slab(start, stop)
        phase = self.rib.slab(start, stop)
        ax = np.abs(x)
        number = np.floor(phase)
        along = (phase - number - f(0.5)) * f(RIB_PITCH * 0.86)
        # An ellipse across the rib; depth 6.5 mm outside the pleura.
        e = ((out - f(6.5)) / f(4.6)) ** 2 + (along / f(7.0)) ** 2
        rib = (f(1.0) - e) * f(2.6)
        rib[(number < 0) | (number > 12) | (ax < 18)] = -9.0
        cartilage = ahead < f(34.0)
        dense = np.where(cartilage, f(95.0), f(BRAIN_OF_BONE) + f(430.0) * _soft(e - f(0.45), 0.25))
        _over(hu, dense, _soft(rib, 1.4))
        # Breastbone, in the front of the shell.
        height = _soft(z - f(BASE + 0.27 * LUNG_HEIGHT), 4.0) * _soft(f(BASE + 0.79 * LUNG_HEIGHT) - z, 4.0)
        width = f(15.0) + f(9.0) * _soft(z - f(BASE + 0.68 * LUNG_HEIGHT), 12.0)
        sternum = np.minimum(np.minimum(width - ax, f(5.5) - np.abs(out - f(8.5))), f(60.0) - ahead)
        sternum *= f(1.0)
        sternum[height <= 0] = -9.0
        _over(hu, f(140.0) + f(330.0) * _soft(f(1.8) - sternum, 0.8), _soft(sternum, 1.3))
        # Shoulder blades, thin plates in the muscle behind.
        blade = np.minimum(f(2.7) - np.abs(out - f(24.0)), np.minimum(ax - f(62.0), f(128.0) - ax))
        blade = np.minimum(blade, np.minimum(dy + f(22.0), np.minimum(z - f(5.0), f(128.0) - z)))
        ridge = np.minimum(
            f(9.0) - np.abs(z - f(86.0) - f(0.12) * (ax - f(60.0))),
            np.minimum(f(12.0) - np.abs(out - f(34.0)), f(4.0) - np.abs(ax - f(98.0))),
        )
        blade = np.maximum(blade, np.minimum(ridge, dy + f(14.0)))
        _over(hu, f(240.0) + f(330.0) * _soft(f(1.2) - blade, 0.8), _soft(blade, 1.2))
        self._spine(hu, x, z, dy, start, stop)

    def _spine(self, hu: Float, x: Float, z: Float, dy: Float, start: int, stop: int) -> None:
        f = np.float32
        columns = np.flatnonzero((np.abs(x[0]) < 52.0).any(axis=0))
        rows = np.flatnonzero((np.abs(dy[0] - 16.0) < 48.0).any(axis=1))
        if not len(columns) or not len(rows):
            return
        box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        x, z, dy, view = x[box], z[box], dy[box], hu[box]
        body = self.vertebra.slab(start, stop)[box]
        period = f(26.0)
        level = z / period - np.floor(z / period)
        disc = np.abs(level - f(0.5)) * period  # 0 in the middle of a disc, 13 in the middle of a vertebra
        waist = body + f(1.6) - f(1.6) * _soft(disc - f(8.0), 8.0)
        marrow = f(165.0) + f(330.0) * np.maximum(_soft(f(1.5) - waist, 0.9), _soft(f(4.6) - disc, 1.2))
        _over(view, marrow, _soft(waist, 1.2))
        _over(view, f(75.0), _soft(waist, 1.2) * _soft(f(2.6) - disc, 1.4))
        ax = np.abs(x)
        canal_r = np.sqrt((x / f(1.15)) ** 2 + (dy - f(23.5)) ** 2)
        arch_here = _soft(disc - f(4.0), 3.0)
        arch = np.minimum(f(14.0) - canal_r, canal_r - f(8.6))
        arch[dy < 12.0] = -9.0
        # Transverse processes run sideways and back, the spinous process straight back and down.
        across = np.minimum(f(4.3) - np.abs(dy - f(24.0) - f(0.30) * ax), np.minimum(ax - f(9.0), f(34.0) - ax))
        spike_disc = (
            np.abs((z + f(0.8) * (dy - f(30.0))) / period - np.floor((z + f(0.8) * (dy - f(30.0))) / period) - f(0.5))
            * period
        )
        spike = np.minimum(f(3.4) - ax, np.minimum(dy - f(34.0), f(58.0) - dy))
        bone = np.maximum(arch * arch_here, np.where(disc > 5.0, across, -9.0))
        bone = np.maximum(bone, np.where(spike_disc > 4.5, spike, -9.0))
        _over(view, f(230.0) + f(380.0) * _soft(f(1.7) - bone, 1.0), _soft(bone, 1.2))
        _over(view, f(28.0), _soft(f(8.4) - canal_r, 1.2))
        _over(view, f(38.0), _soft(f(4.6) - canal_r, 1.2))

    def _couch(self, hu: Float, skin: Float, start: int, stop: int) -> None:
        frame = self.stage.frame
        x = frame.origin[0] + np.arange(frame.shape[2]) * frame.spacing[0] - self.person.shift_mm[0]
        y = frame.origin[1] + np.arange(frame.shape[1]) * frame.spacing[1]
        curve = 0.0 if self.person.scanner.flat_table else 22.0
        top = self.table_y + 1.5 - curve * (x / 200.0) ** 2
        depth = (y[:, None] - top[None, :]).astype(np.float32)
        half = 205.0 if curve else 235.0
        thick = 9.0 if curve else 16.0
        plate = np.minimum(np.minimum(depth, thick - depth), (half - np.abs(x))[None, :].astype(np.float32))
        weight = _soft(plate, 1.0) * np.float32(0.97)
        value = np.where(plate < 2.2, np.float32(-180.0), np.float32(-960.0))
        outside = _soft(-skin, 1.0)
        _over(hu, value[None], outside * weight[None])


def _soft(level: Float, width: float) -> Float:
    """0 outside, 1 inside, ``width`` mm of partial volume in between."""
    result = level * np.float32(1.0 / width)
    result += np.float32(0.5)
    return np.asarray(np.clip(result, 0.0, 1.0, out=result), dtype=np.float32)


def _over(hu: Float, value: Float | np.float32 | float, weight: Float) -> None:
    """Blends ``value`` over ``hu`` in place."""
    hu += weight * (value - hu)
