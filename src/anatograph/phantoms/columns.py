"""The columns of a cohort table that phantoms and half-real scans share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.disease.description import Disease
from anatograph.phantoms.disease.extent import LungZones, extent_columns
from anatograph.phantoms.settings import Scanner
from anatograph.phantoms.thorax.lobes import LOBES
from anatograph.phantoms.variables import clinical_variables

Masks = dict[str, NDArray[np.uint8]]


def disease_columns(
    disease: Disease, age: float, masks: Masks, lungs: NDArray[np.uint8], rng: np.random.Generator
) -> dict[str, float | int | str]:
    """Diagnosis, lung function and the true extents and distributions of one subject.

    age: years; masks: true masks z, y, x by name; lungs: labels as `Mask` on the same grid; ``rng`` for what lung
    function owes to chance.
    """
    places = extent_columns(masks, lungs)
    extents = {name: places[f"{name}_extent"] for name in masks}
    emphysema = LungZones(lungs).of_lungs(masks["emphysema"])
    return {
        "diagnosis": disease.diagnosis,
        **clinical_variables(age, emphysema, extents, rng),
        **places,
        "emphysema_distribution": disease.emphysema_distribution,
        "ground_glass_distribution": disease.ground_glass_distribution,
        "dark_lobe": "absent" if disease.dark_lobe is None else LOBES[disease.dark_lobe],
        "dark_lobe_hu": round(disease.dark_lobe_hu, 1),
    }


def scanner_columns(scanner: Scanner, spacing_mm: tuple[float, float, float]) -> dict[str, float | str]:
    """Site and acquisition; spacing along x, y, z."""
    return {
        "site": scanner.site,
        "pixel_mm": round(spacing_mm[0], 3),
        "slice_mm": round(spacing_mm[2], 3),
        "noise_hu": scanner.noise_hu,
        "kernel_blur_mm": scanner.blur_mm,
        "kernel_sharpening": scanner.sharpening,
        "offset_hu": scanner.offset_hu,
    }
