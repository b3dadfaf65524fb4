"""Ribs, breastbone, shoulder blades and spine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.raster.grid import Field, Level, Stage
from anatograph.phantoms.raster.soft import over, soft
from anatograph.phantoms.thorax.shape import BASE, LUNG_HEIGHT, Thorax, ellipse

Float = NDArray[np.float32]
RIB_PITCH = 25.0
_MARROW = 180.0


class Bones:
    """The skeleton of one subject's chest, painted slab by slab."""

    def __init__(self, thorax: Thorax, stage: Stage, rng: np.random.Generator) -> None:
        self.stage = stage
        x, y, z = stage.coarse_points
        _, back, front = thorax.wall(z)
        # Ribs are bands in the shell of the cage that fall towards the front; one side a little lower.
        tilt = float(rng.normal(0.0, 0.012))
        fall = 0.52 * (back - y) - 14.0 * np.clip((front + 60.0 - y) / 60.0, 0.0, 1.0) ** 2 + tilt * x
        fall += 0.27 * np.minimum(np.abs(x), 110.0)
        self.rib = Field((z + fall - (BASE + 12.0)) / RIB_PITCH, stage)
        self.ahead = Field(y - front, stage)
        middle = thorax.spine_y(z)
        self.spine = Level(60.0 - np.maximum(np.abs(x), np.abs(y - middle - 14.0)), stage, 0.0)
        self.dy = Field(y - middle, stage, self.spine.box)
        self.vertebra = Field(np.maximum(ellipse(x, y, 0.0, middle, 17.5, 14.5), -30.0), stage, self.spine.box)

    def paint(self, hu: Float, cage: Float, start: int, stop: int) -> None:
        """Paints all bones into ``hu`` (slices start..stop); ``cage`` is the level of the rib cage there."""
        everything = self.stage.everything
        x = self.stage.coordinate(0, start, stop, everything)
        z = self.stage.coordinate(2, start, stop, everything)
        ahead, rib = self.ahead.slab(start, stop), self.rib.slab(start, stop)
        shell = np.flatnonzero((cage < 2.0) & (cage > -15.0))
        parts = [v.reshape(-1)[shell] for v in (hu, cage, x, z, ahead, rib)]
        self._shell(*parts)
        hu.reshape(-1)[shell] = parts[0]
        if float(z.max()) > 0.0 and float(z.min()) < 135.0:
            rear = np.flatnonzero((cage < -17.0) & (cage > -44.0) & (ahead > 85.0) & (np.abs(x) > 55.0))
            parts = [v.reshape(-1)[rear] for v in (hu, cage, x, z, ahead)]
            self._blades(*parts)
            hu.reshape(-1)[rear] = parts[0]
        box = (slice(None), *self.spine.box)
        self._spine(hu[box], x[box], z[box], start, stop)

    @staticmethod
    def _shell(hu: Float, cage: Float, x: Float, z: Float, ahead: Float, phase: Float) -> None:
        """Ribs, their cartilage and the breastbone; all arguments 1-d."""
        f = np.float32
        out, ax = -cage, np.abs(x)
        number = np.floor(phase)
        along = (phase - number - f(0.5)) * f(RIB_PITCH * 0.86)
        # An ellipse across the rib, its middle 6.5 mm outside the pleura.
        e = ((out - f(6.5)) * f(1 / 4.4)) ** 2 + (along * f(1 / 6.8)) ** 2
        level = (f(1.0) - e) * f(2.6)
        level[(number < 0) | (number > 12) | (ax < 18)] = -9.0
        dense = f(_MARROW) + f(460.0) * soft(e - f(0.45), 0.3)
        dense = np.where(ahead < 34.0, f(95.0), dense)
        over(hu, dense, soft(level, 1.4))
        width = f(14.0) + f(9.0) * soft(z - f(BASE + 0.68 * LUNG_HEIGHT), 14.0)
        rim = f(1.0) - np.sqrt(((out - f(8.5)) * f(1 / 6.0)) ** 4 + (ax / width) ** 4)
        plate = np.minimum(rim * f(5.0), f(60.0) - ahead)
        plate = np.minimum(plate, np.minimum(z - f(BASE + 0.27 * LUNG_HEIGHT), f(BASE + 0.79 * LUNG_HEIGHT) - z))
        over(hu, f(130.0) + f(300.0) * soft(f(1.6) - plate, 1.2), soft(plate, 1.4))

    @staticmethod
    def _blades(hu: Float, cage: Float, x: Float, z: Float, ahead: Float) -> None:
        """Shoulder blades: thin plates in the muscles of the back, each with its spine; all arguments 1-d."""
        f = np.float32
        out, ax = -cage, np.abs(x)
        # The plate narrows downwards.
        inner = f(60.0) + f(0.10) * np.maximum(f(90.0) - z, f(0.0))
        outer = f(78.0) + f(0.62) * (z - f(0.0))
        flat = np.minimum(f(2.4) - np.abs(out - f(24.0)), np.minimum(ax - inner, np.minimum(outer, f(136.0)) - ax))
        flat = np.minimum(flat, np.minimum(ahead - f(95.0), np.minimum(z - f(2.0), f(126.0) - z)))
        crest = f(84.0) + f(0.25) * (ax - f(60.0))
        spine = np.minimum(f(4.0) - np.abs(z - crest), np.minimum(out - f(24.0), f(36.0) - out))
        spine = np.minimum(spine, np.minimum(ax - f(70.0), f(132.0) - ax))
        level = np.maximum(flat, spine)
        over(hu, f(230.0) + f(330.0) * soft(f(1.2) - level, 0.8), soft(level, 1.2))

    def _spine(self, hu: Float, x: Float, z: Float, start: int, stop: int) -> None:
        """Vertebral bodies with discs, canal, arches, transverse and spinous processes."""
        f = np.float32
        dy, body = self.dy.slab(start, stop), self.vertebra.slab(start, stop)
        period = f(26.0)
        disc = np.abs(z / period - np.floor(z / period) - f(0.5)) * period  # 0 in a disc, 13 in mid-vertebra
        waist = body + f(1.6) - f(1.6) * soft(disc - f(8.0), 8.0)
        shape = soft(waist, 1.2)
        rim = np.maximum(soft(f(1.5) - waist, 0.9), soft(f(4.6) - disc, 1.2))
        over(hu, f(160.0) + f(330.0) * rim, shape)
        over(hu, f(75.0), shape * soft(f(2.6) - disc, 1.4))
        ax = np.abs(x)
        canal = np.sqrt((x * f(1 / 1.15)) ** 2 + (dy - f(23.5)) ** 2)
        arch = np.minimum(f(13.0) - canal, canal - f(8.6))
        arch = np.minimum(np.minimum(arch, dy - f(11.0)), disc - f(3.0))
        across = np.minimum(f(4.3) - np.abs(dy - f(24.0) - f(0.30) * ax), np.minimum(ax - f(9.0), f(34.0) - ax))
        across = np.minimum(across, disc - f(5.0))
        lower = (z + f(0.8) * (dy - f(30.0))) / period
        gap = np.abs(lower - np.floor(lower) - f(0.5)) * period
        spike = np.minimum(np.minimum(f(3.2) - ax, gap - f(4.5)), np.minimum(dy - f(34.0), f(56.0) - dy))
        bone = np.maximum(np.maximum(arch, across), spike)
        over(hu, f(220.0) + f(360.0) * soft(f(1.7) - bone, 1.0), soft(bone, 1.2))
        over(hu, f(24.0), soft(f(8.4) - canal, 1.2))
        over(hu, f(38.0), soft(f(4.6) - canal, 1.2))
