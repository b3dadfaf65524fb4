"""Cardiac motion: the border of the heart is blurred and doubled into the lung beside it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.raster.grid import Level
from anatograph.phantoms.raster.soft import soft

Float = NDArray[np.float32]


def blur_heart(hu: Float, heart: Level, motion_mm: float, pixel_mm: float, start: int, stop: int) -> None:
    """Average fine slices start..stop (within the heart's box) over a beat of ``motion_mm``, near the heart alone."""
    shift = round(0.5 * motion_mm / pixel_mm)
    if shift < 1 or not heart.meets(start, stop):
        return
    level = heart.slab(start, stop)
    near = soft(np.float32(1.5 * motion_mm + 4.0) - np.abs(level), 4.0)
    here = hu[(slice(None), *heart.box)]
    wide = np.pad(here, ((0, 0), (shift, shift), (shift, shift)), mode="edge")
    rows, columns = here.shape[1:]
    moved = wide[:, :rows, :columns] + wide[:, 2 * shift :, 2 * shift :]
    here += np.float32(0.5) * near * (np.float32(0.5) * moved - here)
