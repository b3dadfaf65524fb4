"""Ground glass and consolidation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.disease.description import Disease
from anatograph.phantoms.disease.places import Places
from anatograph.phantoms.raster.grid import Box, Field
from anatograph.phantoms.raster.noise import smooth_noise

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Opacities:
    """Ground glass with its solid core."""

    glass: Field
    """Signed mm inside the ground glass."""
    glass_hu: float
    """HU that ground glass adds to the lung."""
    dense: Field | None
    """Signed mm inside consolidation; None without."""


def draw_opacities(disease: Disease, places: Places, box: Box, rng: np.random.Generator) -> Opacities | None:
    """Ground glass where the disease prefers to lie, in irregular patches; consolidation in its core.

    Fields are read within ``box``. None without ground glass.
    """
    amplitude = float(rng.uniform(170.0, 340.0))
    if disease.ground_glass <= 0:
        return None
    stage, inside = places.stage, places.inside
    shape = stage.coarse_shape
    blobs = smooth_noise(rng, shape, 18.0) + 0.3 * smooth_noise(rng, shape, 6.5)
    place = places.preference(disease.ground_glass_bias) + blobs
    share = disease.ground_glass + disease.consolidation
    glass = Field(11.0 * (place - _threshold(place, inside, share)), stage, box)
    dense = None
    if disease.consolidation > 0:
        core = place + 0.4 * places.back + 0.5 * smooth_noise(rng, shape, 9.0)
        dense = Field(9.0 * (core - _threshold(core, inside, disease.consolidation)), stage, box)
    return Opacities(glass, amplitude, dense)


def _threshold(field: Array, inside: NDArray[np.bool_], share: float) -> float:
    """Value that the given share of the samples inside exceeds."""
    return float(np.quantile(field[inside], 1.0 - min(share, 0.95)))
