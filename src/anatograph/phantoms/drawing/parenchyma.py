"""Lung tissue with its vessels and diseases, slab by slab."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.disease.lesions import Lesions
from anatograph.phantoms.disease.places import Places
from anatograph.phantoms.drawing.body import BLOOD
from anatograph.phantoms.drawing.mimics import VariantFields
from anatograph.phantoms.profile import SubjectProfile
from anatograph.phantoms.raster.grid import Field
from anatograph.phantoms.raster.noise import smooth_noise
from anatograph.phantoms.raster.paint import deposit_tubes
from anatograph.phantoms.raster.soft import over, soft
from anatograph.phantoms.thorax.lobes import fissure_distance
from anatograph.phantoms.thorax.lungtrees import LungTrees

Float = NDArray[np.float32]


def base_hu(profile: SubjectProfile) -> float:
    """HU of healthy lung in the middle of the chest: darker after a deep breath, with age, when hyperinflated."""
    return -876.0 + 95.0 * (1.0 - profile.breath) - 0.45 * (profile.age - 58) - profile.hyperinflation


class Parenchyma:
    """Fields of one subject's lung tissue, within a box around the lungs."""

    def __init__(
        self,
        profile: SubjectProfile,
        places: Places,
        trees: LungTrees,
        lesions: Lesions,
        variants: VariantFields,
        rng: np.random.Generator,
    ) -> None:
        stage, box = places.stage, lesions.box
        self.profile, self.lesions, self.variants = profile, lesions, variants
        x, y, z = places.points
        slow, lobular = (smooth_noise(rng, stage.coarse_shape, mm) for mm in (15.0, 2.4))
        # Blood settles to the back of a supine subject, more so at a shallow breath.
        gravity = (0.14 + 0.30 * (1.0 - profile.breath)) * y + 0.05 * (50.0 - z)
        self.tissue = Field(base_hu(profile) + gravity + 9.0 * slow + 11.0 * lobular, stage, box)
        self.fissure = Field(np.minimum(fissure_distance(x, y, z), 60.0), stage, box)
        loss = 1.0 - 0.55 * profile.disease.emphysema
        low = np.array([0, box[0].start, box[1].start])
        shape = (stage.frame.shape[0], box[0].stop - box[0].start, box[1].stop - box[1].start)
        self.vessels = np.zeros(shape, dtype=np.float32)
        for tree, exponent in ((trees.arteries, 2.75), (trees.veins, 2.8)):
            radius = np.minimum(tree.radius(trees.twig_mm * loss, exponent), 8.0)
            start, end = stage.to_index(tree.start) - low, stage.to_index(tree.end) - low
            heading = (tree.heading @ stage.matrix.T)[:, ::-1] / stage.spacing_zyx
            deposit_tubes(self.vessels, start, end, heading, radius, stage.spacing_zyx)

    def blend(self, hu: Float, lung: Float, start: int, stop: int) -> dict[str, NDArray[np.bool_]]:
        """Paint the lung into ``hu`` where its level ``lung`` says so; return the true masks.

        hu, lung and the masks: fine slices start..stop within the box of the lungs.
        """
        f = np.float32
        blood = f(BLOOD + self.profile.contrast_hu)
        weight = soft(lung, 1.25)
        tissue = self.tissue.slab(start, stop)
        inside = lung > 0
        vessels = np.minimum(self.vessels[start:stop], f(1.0))
        line = self.fissure.slab(start, stop)
        tissue += f(105.0) * np.clip(f(1.0) - line * f(0.9), 0.0, 1.0)
        self.variants.paint_tissue(tissue, start, stop)
        self.lesions.paint_tissue(tissue, start, stop)
        tissue += vessels * np.maximum(blood - tissue, 0.0)
        self.lesions.paint_solid(tissue, start, stop)
        over(hu, tissue, weight)
        # Vessels go on through the fat of the hilum.
        hu += (f(1.0) - weight) * vessels * np.maximum(blood - hu, 0.0)
        return self.lesions.masks(inside, inside & (vessels < 0.25), start, stop)
