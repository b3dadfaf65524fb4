"""Everything outside the lungs except bones: skin, fat, muscle, heart, abdomen, couch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.drawing.bones import Bones
from anatograph.phantoms.profile import SubjectProfile
from anatograph.phantoms.raster.grid import COARSE_MM, Field, Level, Reach, Stage
from anatograph.phantoms.raster.noise import smooth_noise
from anatograph.phantoms.raster.soft import over, soft
from anatograph.phantoms.thorax.shape import BASE, LUNG_HEIGHT, Thorax, bump, ellipsoid, knots, smooth_union

Float = NDArray[np.float32]
Array = NDArray[np.float64]

FAT, MUSCLE, BLOOD, LIVER, SPLEEN = -100.0, 52.0, 42.0, 58.0, 50.0
# mm from the inner rib cage to the outer surface of the muscles, at heights -0.4 ... 1.1 of the lung.
_MUSCLE_SIDE = (16, 16, 16, 16, 16, 17, 19, 23, 28, 35, 44, 55, 68, 82, 100, 120)
_MUSCLE_BACK = (34, 34, 33, 32, 31, 30, 29, 29, 30, 32, 35, 39, 43, 49, 53, 56)
_MUSCLE_FRONT = (12, 12, 12, 12, 13, 14, 16, 19, 22, 25, 26, 28, 32, 40, 50, 56)


def fat_mm(profile: SubjectProfile) -> float:
    """Thickness of the fat under the skin of the flank."""
    return float(max(2.5, 3.0 + (profile.bmi - 18.5) * (1.55 if profile.sex == "F" else 1.15)))


def reach_of(profile: SubjectProfile, margin: float) -> Reach:
    """Box of the scan in thorax coordinates: x, y, z low, then high."""
    fat = fat_mm(profile)
    side = min(158.0 + 1.1 * fat, 185.0) + margin
    front = -116.0 - 0.8 * fat - max(profile.shape.barrel, 0.0) - (14.0 if profile.sex == "F" else 0.0)
    back = 132.0 + 0.7 * fat + max(profile.shape.kyphosis, 0.0) + 14.0
    return -side, front - margin, BASE - 22.0, side, back + margin, BASE + LUNG_HEIGHT + 20.0


class Body:
    """The levels of one subject's body on a stage, to be painted slab by slab in rising order."""

    def __init__(self, profile: SubjectProfile, stage: Stage, rng: np.random.Generator) -> None:
        self.profile, self.stage = profile, stage
        self.thorax = thorax = Thorax(profile.shape)
        x, y, z = stage.coarse_points
        self.cage_coarse = cage = thorax.cage(x, y, z)
        skin = self._skin(x, y, z)
        self.skin = Field(skin, stage)
        self.cage = Field(cage, stage)
        self.interior = Level(cage, stage, 6.0)
        self.right_coarse, self.left_coarse = thorax.lungs(x, y, z)
        self.lungs_box = stage.box_of((self.right_coarse > -5.0) | (self.left_coarse > -5.0))
        self.lung = Field(np.maximum(self.right_coarse, self.left_coarse), stage, self.lungs_box)
        self.split = Field(x - thorax.sheet_x(y, z), stage, self.lungs_box)
        self.bones = Bones(thorax, stage, rng)
        self._organs(x, y, z, rng)
        shape = stage.coarse_shape
        self.grain = Field(smooth_noise(rng, shape, 5.5), stage)
        self.strands = Field(smooth_noise(rng, shape, 3.5), stage)
        self.table_y = self._table_height(skin)

    def _skin(self, x: Array, y: Array, z: Array) -> Array:
        """Surface of the body; sets ``muscle``, what lies inside the fat under the skin."""
        profile, stage = self.profile, self.stage
        half, back, front = self.thorax.wall(z)
        side, behind, before = (knots(k, z) for k in (_MUSCLE_SIDE, _MUSCLE_BACK, _MUSCLE_FRONT))
        furrow = bump(x / 26.0) * (y > 0)
        muscle = _hull(x, y, half + side, back + behind, front - before) - 6.0 * furrow
        fat = fat_mm(profile)
        low = np.clip((BASE + 90.0 - z) / 120.0, 0.0, 1.0)
        skin = _hull(
            x,
            y,
            half + side + fat * (1.0 + 0.5 * low),
            back + behind + 0.7 * fat,
            front - before - fat * (0.6 + 0.5 * low),
        )
        skin -= 4.0 * furrow
        if profile.sex == "F":
            size = np.clip(0.75 + 0.02 * (profile.bmi - 24.0), 0.6, 1.15)
            for hand in (-1.0, 1.0):
                breast = ellipsoid(x, y, z, (hand * 78.0, -98.0, -42.0), np.array([60.0, 40.0, 62.0]) * size)
                skin = smooth_union(skin, breast, 22.0)
        self.muscle = Field(np.minimum(muscle, skin - 2.0), stage)
        return skin

    def _organs(self, x: Array, y: Array, z: Array, rng: np.random.Generator) -> None:
        thorax, stage, s = self.thorax, self.stage, self.profile.shape
        diaphragm = thorax.diaphragm(x, y, z)
        inside = np.minimum(diaphragm, self.cage_coarse)
        self.abdomen = Level(inside, stage)
        heart = thorax.heart(x, y, z) - 3.5
        self.heart = Level(np.minimum(heart, -diaphragm + 3.0), stage, 18.0)
        hila = [
            ellipsoid(x, y, z, (side * 33.0 + 3.0, 6.0, 6.0 + 5.0 * side), np.array([19.0, 17.0, 27.0]))
            for side in (-1, 1)
        ]
        self.hila = Level(np.maximum(*hila), stage)
        dome_left = BASE + s.dome_left
        border = 28.0 - 0.35 * (z - BASE) - x + 14.0 * bump((y + 40.0) / 70.0)
        liver = np.minimum(np.minimum(inside - 2.5, border), 55.0 - y + 40.0 * (x < -10))
        self.liver = Level(liver, stage)
        spleen = ellipsoid(x, y, z, (92.0, 42.0, dome_left - 42.0), np.array([30.0, 46.0, 52.0]))
        self.spleen = Level(np.minimum(spleen, inside - 2.5), stage)
        stomach = ellipsoid(x, y, z, (66.0, -28.0, dome_left - 40.0), np.array([42.0, 42.0, 40.0]))
        stomach += 3.0 * smooth_noise(rng, stage.coarse_shape, 11.0)
        self.stomach = Level(np.minimum(stomach, inside - 3.5), stage)
        surface = -34.0 + 9.0 * float(rng.normal())
        self.gas = Level(np.minimum(np.minimum(stomach - 4.0, inside - 6.0), surface - y), stage)

    def _table_height(self, skin: Array) -> float:
        """LPS y in mm of the couch's upper surface: it touches the back."""
        inside = np.flatnonzero((skin > 0).any(axis=(0, 2)))
        return float(self.stage.frame.origin[1] + (inside[-1] + 0.6) * COARSE_MM)

    def slab(self, start: int, stop: int) -> Float:
        """HU of all but the lungs' content on fine slices start..stop."""
        f = np.float32
        skin, muscle, cage = (q.slab(start, stop) for q in (self.skin, self.muscle, self.cage))
        grain, strands = self.grain.slab(start, stop), self.strands.slab(start, stop)
        hu = np.full(skin.shape, -1000.0, dtype=np.float32)
        self._couch(hu)
        fat = grain * f(5.0)
        fat += f(FAT)
        over(hu, f(20.0), soft(skin, 1.2))
        over(hu, fat, soft(skin - f(1.7), 1.2))
        # Muscles in layers, with sheets of fat between them: thicker in heavy subjects.
        meat = grain * f(4.0)
        meat += f(MUSCLE)
        sheet = np.abs(cage + f(19.0) + f(3.0) * grain)
        np.minimum(sheet, np.abs(cage + f(34.0) - f(2.0) * grain), out=sheet)
        thick = f(0.2 + 0.05 * (self.profile.bmi - 20.0))
        over(meat, f(-85.0), soft(thick + f(0.9) * strands - sheet, 1.4))
        over(hu, meat, soft(muscle, 1.5))
        self._inside(hu, grain, strands, start, stop)
        self.bones.paint(hu, cage, start, stop)
        return hu

    def _inside(self, hu: Float, grain: Float, strands: Float, start: int, stop: int) -> None:
        """Fat and vessels of the mediastinum, the heart, and what lies under the diaphragm."""
        f = np.float32
        box = (slice(None), *self.interior.box)
        level = self.interior.slab(start, stop)
        lean = f(-0.15 - 0.05 * (self.profile.bmi - 26.0))
        filling = soft(strands[box] - lean - f(0.6), 1.4) * f(118.0)
        filling += f(-96.0)
        over(hu[box], filling, soft(level + f(1.0), 1.5))
        f_of = {name: getattr(self, name) for name in ("abdomen", "spleen", "stomach", "liver", "gas", "heart", "hila")}
        blood = self.profile.contrast_hu
        for name, field in f_of.items():
            if not field.meets(start, stop):
                continue
            box = (slice(None), *field.box)
            level = field.slab(start, stop)
            if name == "abdomen":
                inside = soft(level, 1.5)
                over(hu[box], f(FAT), inside)
                over(hu[box], f(45.0), inside * soft(f(3.0) - level, 1.5))
                bowel = soft(grain[box] - f(0.6), 0.3) * soft(level - f(6.0), 2.0)
                over(hu[box], f(32.0) + f(10.0) * strands[box], bowel)
                continue
            value: Float = {
                "spleen": f(SPLEEN + 0.4 * blood) + f(3.0) * grain[box],
                "stomach": f(28.0) + f(14.0) * strands[box],
                "liver": f(LIVER + 0.35 * blood) + f(3.0) * grain[box],
                "gas": np.full_like(level, -980.0),
                "hila": f(36.0 + 0.5 * blood) + f(9.0) * strands[box],
                "heart": f(BLOOD + blood) + f(3.0) * grain[box],
            }[name]
            over(hu[box], value, soft(level, 1.3))

    def _couch(self, hu: Float) -> None:
        frame = self.stage.frame
        x = frame.origin[0] + np.arange(frame.shape[2]) * frame.spacing[0] - self.profile.shift_mm[0]
        y = frame.origin[1] + np.arange(frame.shape[1]) * frame.spacing[1]
        curved = not self.profile.scanner.flat_table
        top = self.table_y + 1.5 - (22.0 if curved else 0.0) * (x / 200.0) ** 2
        rows = slice(int(np.searchsorted(y, top.min() - 2.0)), len(y))
        depth = (y[rows, None] - top[None, :]).astype(np.float32)
        half, thick = (205.0, 9.0) if curved else (235.0, 16.0)
        plate = np.minimum(np.minimum(depth, thick - depth), (half - np.abs(x))[None, :].astype(np.float32))
        value = np.where(plate < 2.2, np.float32(-180.0), np.float32(-960.0))
        part = hu[:, rows]
        part += (soft(plate, 1.0) * (value + np.float32(1000.0)))[None]


def _hull(x: Array, y: Array, half: Array, back: Array, front: Array) -> Array:
    """Level set of a column of rounded section with the given half width, back and front (mm)."""
    a = np.minimum(half, 182.0)
    middle, b = (back + front) / 2.0, (back - front) / 2.0
    u, v = np.abs(x) / a, np.abs(y - middle) / b
    ru, rv = np.sqrt(u), np.sqrt(v)
    slope = 2.5 * np.sqrt((u * ru / a) ** 2 + (v * rv / b) ** 2)
    return np.asarray((1.0 - u * u * ru - v * v * rv) / (slope + 2e-3))
