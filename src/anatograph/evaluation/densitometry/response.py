"""Parametric response mapping: what each voxel of lung is like at inspiration and at expiration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.anatomy.registration.maps import AtlasMap
from anatograph.evaluation.densitometry.measures import LungVoxels
from anatograph.imaging.volume import Frame, Mask, Volume

CLASSES = ("normal", "fsad", "emphysema", "emptying_emphysema")
"""Classes in the order of their numbers, see `classify`."""
UNCLASSED = -1
"""Number of voxels that belong to no class."""
INSPIRATION_HU = -950
"""Below this at inspiration a voxel is emphysema …"""
EXPIRATION_HU = -856
"""… and below this at expiration it traps gas (Galbán 2012)."""
DENSEST_HU = -500
"""At this and above in either breath a voxel is vessel, airway wall or opacity, and is left out."""
_BLOCK = 500_000


def classify(inspiration: NDArray[np.int16], expiration: NDArray[np.int16]) -> NDArray[np.int8]:
    """(n,) number in `CLASSES` of voxels with these HU (n,) at the two breaths, `UNCLASSED` where either is dense.

    normal: at least -950 and at least -856 HU; fsad (functional small airways disease): at least -950 HU but below
    -856 HU at expiration; emphysema: below both; emptying_emphysema: below -950 HU, yet not below -856 HU at
    expiration, which is rare.
    """
    number = np.select(
        [inspiration >= INSPIRATION_HU, expiration < EXPIRATION_HU],
        [np.where(expiration < EXPIRATION_HU, 1, 0), 2],
        default=3,
    )
    dense = (inspiration >= DENSEST_HU) | (expiration >= DENSEST_HU)
    return np.asarray(np.where(dense, UNCLASSED, number), dtype=np.int8)


@dataclass(frozen=True, eq=False)
class Response:
    """The response of the n lung voxels of an expiratory scan."""

    number: NDArray[np.int8]
    """(n,) number in `CLASSES`, or `UNCLASSED`."""
    inside: float
    """Share of the voxels whose counterpart lies in the lungs of the inspiratory scan."""
    voxel_ml: float
    """Volume of a voxel."""

    def measure(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> dict[str, float]:
        """``prm_volume_ml`` (of the classed voxels, at expiration) and each class's share of them, NaN without any."""
        count = np.bincount(self.number[chosen] + 1, minlength=len(CLASSES) + 1)[1:]
        total = int(count.sum())
        shares = count / total if total else np.full(len(CLASSES), np.nan)
        return {
            "prm_volume_ml": total * self.voxel_ml,
            **{f"prm_{name}": float(share) for name, share in zip(CLASSES, shares, strict=True)},
        }


def map_response(
    voxels: LungVoxels, frame: Frame, to_atlas: AtlasMap, inspiration: Volume, lungs: Mask, from_atlas: AtlasMap
) -> Response:
    """The response of the lung voxels of an expiratory scan on ``frame``.

    A voxel at p (LPS mm) has its counterpart in the inspiratory scan at from_atlas(to_atlas(p)), where HU are
    interpolated linearly. Voxels whose counterpart lies outside the ``lungs`` of the inspiratory scan are unclassed.
    """
    z, y, x = np.unravel_index(voxels.index, frame.shape)
    number = np.full(len(voxels.index), UNCLASSED, dtype=np.int8)
    inside = 0
    for start in range(0, len(number), _BLOCK):
        own = slice(start, start + _BLOCK)
        points = frame.to_lps(np.stack([x[own], y[own], z[own]], axis=1).astype(np.float64))
        place = inspiration.frame.to_index(from_atlas.to_subject(to_atlas.to_atlas(points))).T[::-1]
        lung = ndimage.map_coordinates(lungs.array, place, order=0, mode="constant", cval=0) > 0
        hu = ndimage.map_coordinates(inspiration.array, place, np.float32, order=1, mode="nearest")
        found = classify(np.rint(hu).astype(np.int16), voxels.hu[own])
        number[own] = np.where(lung, found, UNCLASSED)
        inside += int(lung.sum())
    return Response(number, inside / max(len(number), 1), voxels.voxel_ml)
