"""Measures of a set of lung voxels, by their published definitions; sources are in docs/densitometry.md."""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

MEASURES = (
    "volume_ml",
    "mass_g",
    "mean_hu",
    "sd_hu",
    "median_hu",
    "perc15",
    "laa950",
    "laa910",
    "laa856",
    "high_attenuation",
    "ground_glass",
    "consolidation",
    "vessel_free",
    "heterogeneity",
)
"""Names of the measures, in the order of the table."""
GROUND_GLASS = (-700, -300)
"""HU from (included) and to (excluded) which voxels count as ground glass; consolidation begins where it ends."""
HIGH_ATTENUATION = (-600, -250)
"""HU from and to (both included) which voxels count as high attenuation areas."""
BLOCK_MM = 10.0
"""Side of the blocks whose mean densities heterogeneity compares."""
VESSEL_HU = -500
"""Vessels are at least this dense …"""
VESSEL_RADIUS_MM = 5.0
"""… and thinner than a ball of this radius."""
PADDING = -1024


@dataclass(frozen=True, eq=False)
class LungVoxels:
    """The n lung voxels of a scan, padding left out."""

    hu: NDArray[np.int16]
    """(n,) HU, unclipped above, at least -1024."""
    index: NDArray[np.int64]
    """(n,) position in the flattened z, y, x array of the scan."""
    vessel: NDArray[np.bool_]
    """(n,) whether the voxel belongs to a vessel."""
    block: NDArray[np.int64]
    """(n,) which block of `BLOCK_MM` the voxel lies in."""
    block_voxels: float
    """Voxels of a whole block."""
    voxel_ml: float
    """Volume of a voxel."""

    def measure(self, chosen: NDArray[np.bool_] | NDArray[np.int64] | slice = slice(None)) -> dict[str, float]:
        """`MEASURES` of some of the voxels; NaN where there are none."""
        hu = self.hu[chosen]
        if not len(hu):
            return dict.fromkeys(MEASURES, float("nan"))
        volume, mean = len(hu) * self.voxel_ml, float(hu.mean(dtype=np.float64))
        perc15, median = np.percentile(hu, (15, 50))
        return {
            "volume_ml": volume,
            "mass_g": volume * (mean + 1000) / 1000,
            "mean_hu": mean,
            "sd_hu": float(hu.std(dtype=np.float64)),
            "median_hu": float(median),
            "perc15": float(perc15),
            "laa950": _share(hu < -950),
            "laa910": _share(hu < -910),
            "laa856": _share(hu < -856),
            "high_attenuation": _share((hu >= HIGH_ATTENUATION[0]) & (hu <= HIGH_ATTENUATION[1])),
            "ground_glass": _share((hu >= GROUND_GLASS[0]) & (hu < GROUND_GLASS[1])),
            "consolidation": _share(hu >= GROUND_GLASS[1]),
            "vessel_free": 1 - _share(self.vessel[chosen]),
            "heterogeneity": self._heterogeneity(hu, self.block[chosen]),
        }

    def _heterogeneity(self, hu: NDArray[np.int16], block: NDArray[np.int64]) -> float:
        """Standard deviation of the mean HU of the blocks that lie at least half inside the region."""
        _, block = np.unique(block, return_inverse=True)
        count = np.bincount(block)
        means = np.bincount(block, hu)[count >= self.block_voxels / 2] / count[count >= self.block_voxels / 2]
        return float(means.std()) if len(means) > 1 else float("nan")


def _share(marked: NDArray[np.bool_]) -> float:
    return float(marked.mean())


def lung_voxels(hu: NDArray[np.int16], lungs: NDArray[np.bool_], spacing_xyz: tuple[float, float, float]) -> LungVoxels:
    """The voxels of a scan (z, y, x) inside ``lungs``, without `padding`."""
    inside = lungs & ~padding(hu)
    index = np.flatnonzero(inside)
    place = np.stack(np.unravel_index(index, hu.shape)) * np.array(spacing_xyz[::-1])[:, None]
    z, y, x = (place / BLOCK_MM).astype(np.int64)
    voxel_mm3 = float(np.prod(spacing_xyz))
    return LungVoxels(
        hu=hu.ravel()[index],
        index=index,
        vessel=vessels(hu, inside, spacing_xyz).ravel()[index],
        block=(z * 10_000 + y) * 10_000 + x,
        block_voxels=BLOCK_MM**3 / voxel_mm3,
        voxel_ml=voxel_mm3 / 1000,
    )


def padding(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Voxels (z, y, x) that hold no measurement: blocks of at least 3×3×3 voxels that are all at -1024.

    Scanners and archives fill what lies outside the field of view with one value, which the reader raises to -1024.
    Noise reaches -1024 in single voxels too, but not in all 27 of a block.
    """
    return _opened(hu <= PADDING, (1, 1, 1), sitk.sitkBox)


def vessels(
    hu: NDArray[np.int16], lungs: NDArray[np.bool_], spacing_xyz: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Dense and thin structures in the lungs (z, y, x): what a ball of `VESSEL_RADIUS_MM` does not fit into.

    Consolidated lung is dense too, but wide.
    """
    dense = lungs & (hu >= VESSEL_HU)
    if not dense.any():
        return dense
    x, y, z = (max(1, round(VESSEL_RADIUS_MM / side)) for side in spacing_xyz)
    return dense & ~_opened(dense, (x, y, z), sitk.sitkBall)


def _opened(marked: NDArray[np.bool_], radius_xyz: tuple[int, int, int], shape: int) -> NDArray[np.bool_]:
    """Morphological opening (z, y, x); what lies beyond the border of the scan counts as marked."""
    if not marked.any():
        return marked
    image = sitk.GetImageFromArray(marked.astype(np.uint8))
    eroded = sitk.BinaryErode(image, radius_xyz, shape, 0.0, 1.0, True)
    return np.asarray(sitk.GetArrayFromImage(sitk.BinaryDilate(eroded, radius_xyz, shape, 0.0, 1.0)) > 0)


def noise_hu(hu: NDArray[np.int16], lungs: NDArray[np.bool_]) -> float:
    """Standard deviation of the noise in the lungs, from second differences across slices; NaN without three slices.

    Neighbouring slices share little noise. The median absolute deviation ignores the few voxels at edges, but not
    texture, so that in coarse slices this is an upper bound.
    """
    inside = lungs & (hu < -700)
    triple = inside[:-2] & inside[1:-1] & inside[2:]
    if not triple.any():
        return float("nan")
    signed = hu.astype(np.int32)
    second = (signed[:-2] - 2 * signed[1:-1] + signed[2:])[triple]
    spread = np.median(np.abs(second - np.median(second)))
    return float(1.4826 * spread / sqrt(6))


def laa950_from_noise(median_hu: float, noise: float) -> float:
    """Share below -950 HU of a homogeneous lung of this median density with Gaussian noise: Φ((-950 - median)/σ)."""
    if not noise > 0:
        return 0.0 if median_hu >= -950 else 1.0
    return 0.5 * (1 + erf((-950 - median_hu) / (noise * sqrt(2))))
