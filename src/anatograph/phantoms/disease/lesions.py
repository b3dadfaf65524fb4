"""All lesions of one subject, ready to be painted on the fine grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.disease.description import Disease
from anatograph.phantoms.disease.emphysema import draw_cysts, draw_holes
from anatograph.phantoms.disease.mosaic import lobe_level, lobule_level
from anatograph.phantoms.disease.opacities import Opacities, draw_opacities
from anatograph.phantoms.disease.places import Places
from anatograph.phantoms.raster.grid import Box, Field
from anatograph.phantoms.raster.noise import smooth_noise
from anatograph.phantoms.raster.soft import over, soft

Float = NDArray[np.float32]
Array = NDArray[np.float64]
MASKS = ("emphysema", "paraseptal", "ground_glass", "consolidation", "air_trapping")
_AIR = -996.0


@dataclass(frozen=True)
class Lesions:
    """Diseases of one subject on the grids of a stage."""

    box: Box
    """Rows and columns around the lungs, within which everything is painted."""
    holes: Float | None
    """Centrilobular holes on the fine grid, 0..1; None without emphysema."""
    cysts: tuple[Float, Float] | None
    """Paraseptal cysts on the fine grid, 0..1, and their thin walls; None without."""
    opacities: Opacities | None
    """Ground glass and consolidation; None without."""
    trapping: Field | None
    """Signed mm inside the lobules that trap air; None without."""
    trapping_hu: float
    """How much darker these lobules are."""
    dark_lobe: Field | None
    """Signed mm inside the dark lobe; None without."""
    dark_lobe_hu: float
    """How much darker that lobe is."""
    texture: Field
    """Lobular texture of ground glass, unit variance."""

    def paint_tissue(self, tissue: Float, start: int, stop: int) -> None:
        """Paint everything but consolidation into lung tissue without vessels (HU), fine slices start..stop."""
        f = np.float32
        for field, darker, edge in ((self.dark_lobe, self.dark_lobe_hu, 5.0), (self.trapping, self.trapping_hu, 2.0)):
            if field is not None:
                tissue -= f(darker) * soft(field.slab(start, stop), edge)
        if self.opacities:
            texture = self.texture.slab(start, stop)
            net = np.maximum(f(1.0) - np.abs(texture) * f(3.0), f(0.0))
            amount = soft(self.opacities.glass.slab(start, stop), 9.0)
            tissue += amount * (f(self.opacities.glass_hu) * (f(1.0) + f(0.16) * texture) + f(90.0) * net)
        np.minimum(tissue, f(20.0), out=tissue)
        # Holes stay air in ground glass, as bullae do.
        box = (slice(start, stop), *self.box)
        for drawn in (self.holes, self.cysts[0] if self.cysts else None):
            if drawn is not None:
                over(tissue, f(_AIR), np.minimum(drawn[box] * f(1.7), f(1.0)))
        if self.cysts:
            tissue += self.cysts[1][box] * np.maximum(f(-770.0) - tissue, f(0.0))

    def paint_solid(self, hu: Float, start: int, stop: int) -> None:
        """Paint consolidation over tissue and vessels, which vanish in it."""
        if self.opacities and self.opacities.dense is not None:
            level = self.opacities.dense.slab(start, stop)
            hu += soft(level, 4.0) * np.maximum(np.float32(25.0) - hu, np.float32(0.0))

    def masks(
        self, inside: NDArray[np.bool_], clear: NDArray[np.bool_], start: int, stop: int
    ) -> dict[str, NDArray[np.bool_]]:
        """True masks on fine slices start..stop within the box, without overlap.

        inside: in the lungs; clear: where no vessel hides a hole. Where several diseases meet, consolidation goes
        before cysts, holes, ground glass and air trapping.
        """
        box = (slice(start, stop), *self.box)
        found: dict[str, NDArray[np.bool_]] = {}
        if self.opacities and self.opacities.dense is not None:
            found["consolidation"] = inside & (self.opacities.dense.slab(start, stop) > 0)
        if self.cysts:
            found["paraseptal"] = clear & (self.cysts[0][box] > 0.5)
        if self.holes is not None:
            found["emphysema"] = clear & (self.holes[box] > 0.5)
        if self.opacities:
            found["ground_glass"] = inside & (self.opacities.glass.slab(start, stop) > 0)
        if self.trapping is not None:
            found["air_trapping"] = clear & (self.trapping.slab(start, stop) > 0)
        taken = np.zeros_like(inside)
        for mask in found.values():
            mask &= ~taken
            taken |= mask
        return found


def draw_lesions(disease: Disease, places: Places, lobules: Array, box: Box, rng: np.random.Generator) -> Lesions:
    """Place the diseases of one subject.

    lobules (L, 3) in thorax coordinates; fields are read within ``box``. What is drawn from ``rng`` does not depend
    on the voxel size.
    """
    stage = places.stage
    streams = rng.spawn(5)
    trapping = dark_lobe = None
    trapping_hu = float(streams[3].uniform(45.0, 80.0))
    if disease.air_trapping > 0:
        wanted = 0.8 * smooth_noise(streams[3], stage.coarse_shape, 45.0)
        trapping = Field(lobule_level(places, wanted, disease.air_trapping, streams[3]), stage, box)
    if disease.dark_lobe is not None:
        dark_lobe = Field(lobe_level(places, disease.dark_lobe), stage, box)
    return Lesions(
        box=box,
        holes=draw_holes(disease, places, lobules, streams[0]),
        cysts=draw_cysts(disease, places, streams[1]),
        opacities=draw_opacities(disease, places, box, streams[2]),
        trapping=trapping,
        trapping_hu=trapping_hu,
        dark_lobe=dark_lobe,
        dark_lobe_hu=disease.dark_lobe_hu,
        texture=Field(smooth_noise(streams[4], stage.coarse_shape, 2.4), stage, box),
    )
