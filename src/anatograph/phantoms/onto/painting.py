"""Painting lesions into real lung tissue, whose vessels, noise and own disease stay as they are."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.phantoms.disease.lesions import MASKS, Lesions
from anatograph.phantoms.disease.places import Places
from anatograph.phantoms.raster.grid import COARSE_MM, Field

Float = NDArray[np.float32]
_SLAB = 2
_HOLE_HU = -940.0
_OWN_DISEASE_HU = 160.0


def paint_lesions(
    hu: Float, lungs: NDArray[np.uint8], lesions: Lesions, places: Places
) -> dict[str, NDArray[np.uint8]]:
    """Paint lesions into ``hu`` (z, y, x), inside the lungs alone, and return their true masks.

    A scan is taken apart into smooth tissue, vessels (what stands out from the tissue around by some 100 HU) and
    noise (what the smoothing removes). Lesions are painted into the tissue; vessels and noise are put back. Where the
    scan is dense over an area, by its own disease, nothing shows and no mask is set.
    """
    shape, spacing = hu.shape, places.stage.spacing_zyx
    masks = {name: np.zeros(shape, dtype=np.uint8) for name in MASKS}
    around = Field(_surrounding_tissue(hu, lungs, places), places.stage, lesions.box)
    fine, wide = 1.0 / spacing[1:], 2.6 / spacing[1:]
    f = np.float32
    for start in range(0, shape[0], _SLAB):
        stop = min(start + _SLAB, shape[0])
        box = (slice(start, stop), *lesions.box)
        inside = lungs[box] > 0
        if not inside.any():
            continue
        block = hu[box]
        smooth = ndimage.gaussian_filter(block, (0.0, *fine), truncate=3.0)
        normal = around.slab(start, stop)
        vessel = np.clip((smooth - normal - f(90.0)) / f(130.0), f(0.0), f(1.0))
        dense = ndimage.gaussian_filter(block, (0.0, *wide), truncate=3.0) - normal > _OWN_DISEASE_HU
        tissue = smooth.copy()
        lesions.paint_tissue(tissue, start, stop)
        painted = cast("Float", smooth + (tissue - smooth) * (f(1.0) - vessel))
        lesions.paint_solid(painted, start, stop)
        block += np.where(inside, painted - smooth, f(0.0))
        free = inside & ~dense
        found = lesions.masks(free, free & (vessel < 0.5), start, stop)
        for name, mask in found.items():
            if name in ("emphysema", "paraseptal"):
                mask &= painted < _HOLE_HU
            masks[name][box] = mask
    return masks


def _surrounding_tissue(hu: Float, lungs: NDArray[np.uint8], places: Places) -> NDArray[np.float64]:
    """HU of the aerated tissue around each coarse sample, without vessels and dense disease, smooth over 14 mm."""
    stage = places.stage
    grids = [np.arange(n) * COARSE_MM / d for n, d in zip(stage.coarse_shape, stage.spacing_zyx, strict=True)]
    index = np.ix_(*(np.minimum(np.round(g).astype(int), n - 1) for g, n in zip(grids, hu.shape, strict=True)))
    values = ndimage.median_filter(hu[index], 3)
    inside = lungs[index] > 0
    typical = float(np.median(values[inside]))
    weight = (inside & (values < typical + 150.0)).astype(np.float64)
    sigma = 14.0 / COARSE_MM
    total = ndimage.gaussian_filter(np.where(weight > 0, values, 0.0), sigma, truncate=3.0)
    share = ndimage.gaussian_filter(weight, sigma, truncate=3.0)
    return np.asarray((total + 1e-3 * typical) / (share + 1e-3))
