"""Lung tissue with its vessels and diseases, slab by slab."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from anatograph.imaging.phantom.body import BLOOD, Body
from anatograph.imaging.phantom.disease import Lesions
from anatograph.imaging.phantom.grid import Stage
from anatograph.imaging.phantom.lobes import fissure_distance
from anatograph.imaging.phantom.lungtrees import LungTrees
from anatograph.imaging.phantom.paint import deposit_tubes
from anatograph.imaging.phantom.person import Person

Float = NDArray[np.float32]
MASKS = ("emphysema", "paraseptal", "ground_glass", "consolidation")


def base_hu(person: Person) -> float:
    """HU of healthy lung in the middle of the chest: darker after a deep breath, with age, when hyperinflated."""
    return -868.0 + 95.0 * (1.0 - person.breath) - 0.45 * (person.age - 58) - person.hyperinflation


class Parenchyma:
    """Fields of one person's lung tissue."""

    def __init__(
        self, person: Person, stage: Stage, trees: LungTrees, lesions: Lesions, rng: np.random.Generator
    ) -> None:
        self.person, self.lesions = person, lesions
        x, y, z = stage.coarse_points
        shape = stage.coarse_shape
        slow, lobular = (gaussian_filter(rng.standard_normal(shape), s, mode="wrap") for s in (3.5, 0.55))
        # Blood settles to the back of a person lying on it, the more so after a shallow breath.
        gravity = (0.14 + 0.30 * (1.0 - person.breath)) * y + 0.05 * (50.0 - z)
        self.tissue = stage.field(base_hu(person) + gravity + 9.0 * slow / slow.std() + 11.0 * lobular / lobular.std())
        self.fissure = stage.field(np.minimum(fissure_distance(x, y, z), 60.0))
        self.texture = stage.field(lobular / lobular.std())
        spacing = stage.spacing_zyx
        loss = 1.0 - 0.55 * person.disease.emphysema
        self.vessels = np.zeros(stage.frame.shape, dtype=np.float32)
        for tree, exponent in ((trees.arteries, 2.75), (trees.veins, 2.8)):
            radius = np.minimum(tree.radius(trees.twig_mm * loss, exponent), 8.5)
            start, end = stage.to_index(tree.start), stage.to_index(tree.end)
            np.maximum(
                self.vessels, deposit_tubes(stage.frame.shape, start, end, radius, spacing, rng), out=self.vessels
            )

    def blend(self, hu: Float, lung: Float, start: int, stop: int) -> dict[str, NDArray[np.uint8]]:
        """Paints the lung into ``hu`` (slices start..stop) where its level ``lung`` says so; returns the true masks."""
        f = np.float32
        weight = np.clip(lung * f(0.8) + f(0.5), 0.0, 1.0)
        tissue = self.tissue.slab(start, stop)
        inside = lung > 0
        vessels = self.vessels[start:stop]
        masks: dict[str, NDArray[np.uint8]] = {}
        clear = inside & (vessels < 0.25)
        lesions = self.lesions
        for name, drawn in (("emphysema", lesions.holes), ("paraseptal", lesions.cysts)):
            if drawn is None:
                continue
            here = drawn[start:stop]
            tissue += np.clip(here * f(1.7), 0.0, 1.0) * (f(-996.0) - tissue)
            masks[name] = (clear & (here > 0.5)).astype(np.uint8)
        if lesions.walls is not None:
            tissue += lesions.walls[start:stop] * np.maximum(f(-770.0) - tissue, 0.0)
        line = self.fissure.slab(start, stop)
        tissue += f(125.0) * np.clip(f(1.0) - line * f(0.9), 0.0, 1.0)
        dense = None
        if lesions.dense is not None:
            dense = lesions.dense.slab(start, stop)
        if lesions.glass is not None:
            level = lesions.glass.slab(start, stop)
            texture = self.texture.slab(start, stop)
            net = np.clip(f(1.0) - np.abs(texture) * f(3.0), 0.0, 1.0)
            amount = np.clip(level * f(1 / 9) + f(0.5), 0.0, 1.0)
            tissue += amount * (f(lesions.glass_hu) * (f(1.0) + f(0.16) * texture) + f(90.0) * net)
            glass = inside & (level > 0)
            if dense is not None:
                glass &= dense <= 0
            masks["ground_glass"] = glass.astype(np.uint8)
        np.minimum(tissue, f(20.0), out=tissue)
        tissue += vessels * np.maximum(f(BLOOD + self.person.contrast_hu) - tissue, 0.0)
        if dense is not None:
            tissue += np.clip(dense * f(0.25) + f(0.5), 0.0, 1.0) * np.maximum(f(25.0) - tissue, 0.0)
            masks["consolidation"] = (inside & (dense > 0)).astype(np.uint8)
        hu += weight * (tissue - hu)
        # Vessels go on through the fat of the hilum.
        outside = (f(1.0) - weight) * vessels
        hu += outside * np.maximum(f(BLOOD + self.person.contrast_hu) - hu, 0.0)
        for name in ("ground_glass", "consolidation"):
            for hole in ("emphysema", "paraseptal"):
                if name in masks and hole in masks:
                    masks[hole] = masks[hole] & (1 - masks["consolidation"] if "consolidation" in masks else 1)
        return masks
