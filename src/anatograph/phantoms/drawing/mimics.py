"""Drawing the normal variants that imitate disease."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.disease.mimics import NormalVariants
from anatograph.phantoms.disease.mosaic import lobule_level
from anatograph.phantoms.disease.places import Places
from anatograph.phantoms.raster.grid import Box, Field
from anatograph.phantoms.raster.noise import smooth_noise
from anatograph.phantoms.raster.soft import soft

Float = NDArray[np.float32]
Array = NDArray[np.float64]


class VariantFields:
    """The normal variants of one subject on a stage."""

    def __init__(self, variants: NormalVariants, places: Places, box: Box, rng: np.random.Generator) -> None:
        stage = places.stage
        self._variants = variants
        uneven = smooth_noise(rng, stage.coarse_shape, 9.0)
        self._texture = Field(smooth_noise(rng, stage.coarse_shape, 2.4), stage, box)
        lowness = np.clip(1.25 - 1.2 * places.height, 0.1, 1.0)
        thickness = variants.dependent_mm * lowness * np.clip((places.back - 0.15) / 0.6, 0.0, 1.0)
        self._dependent = Field(thickness * (1.0 + 0.35 * uneven) - np.maximum(places.costal, 0.0) - 0.5, stage, box)
        self._hilar = Field(places.central**3.6 * (1.0 + 0.3 * uneven), stage, box)
        self._caps = self._trapping = None
        if max(variants.caps_mm) > 0:
            mm = np.where(places.left < 0, *variants.caps_mm) * np.clip((places.height - 0.86) / 0.07, 0.0, 1.0)
            self._caps = Field(mm * (1.0 + 0.4 * uneven) - np.maximum(places.costal, 0.0) - 0.3, stage, box)
        if variants.trapping > 0:
            superior = np.isin(places.lobes, (2, 4)) & (places.height > 0.35) & (places.back > 0.2)
            level = lobule_level(places, np.where(superior, 0.0, -30.0), variants.trapping, rng)
            self._trapping = Field(level, stage, box)

    def paint_tissue(self, tissue: Float, start: int, stop: int) -> None:
        """Paint them into lung tissue (HU) without vessels or disease, fine slices start..stop within the box."""
        f = np.float32
        v = self._variants
        tissue += f(v.hilar_hu) * np.maximum(self._hilar.slab(start, stop), f(0.0))
        if self._trapping is not None:
            tissue -= f(60.0) * soft(self._trapping.slab(start, stop), 2.0)
        texture = self._texture.slab(start, stop)
        net = np.maximum(f(1.0) - np.abs(texture) * f(3.0), f(0.0))
        haze = f(v.dependent_hu) * (f(1.0) + f(0.16) * texture) + f(90.0) * net
        tissue += soft(self._dependent.slab(start, stop), 9.0) * haze
        if self._caps is not None:
            tissue += soft(self._caps.slab(start, stop), 1.5) * np.maximum(f(-60.0) - tissue, f(0.0))
