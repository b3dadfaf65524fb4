"""True extents: how much of the lungs, and of each side and third of them, a mask covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Mask

THIRDS = ("upper", "middle", "lower")
SIDES = ("right", "left")
PLACED = ("emphysema", "ground_glass")
"""Diseases whose place is measured."""


class LungZones:
    """Sides and thirds of the lungs of one subject.

    The thirds of a lung have a third of its height each: its slices (z, LPS) from the lowest to the highest.
    """

    def __init__(self, lungs: NDArray[np.uint8]) -> None:
        """Take labels z, y, x: 1 right, 2 left, as `Mask`."""
        self._lungs = lungs
        self.total = int(np.count_nonzero(lungs))
        self._third: dict[str, NDArray[np.int64]] = {}
        self._slices = {
            side: np.count_nonzero(lungs == label, axis=(1, 2))
            for side, label in zip(SIDES, (Mask.RIGHT, Mask.LEFT), strict=True)
        }
        for side, slices in self._slices.items():
            filled = np.flatnonzero(slices)
            low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, len(slices))
            height = (np.arange(len(slices)) + 0.5 - low) / (high - low)
            self._third[side] = np.clip(2 - (3 * height).astype(np.int64), 0, 2)

    def extent(self, mask: NDArray[np.uint8]) -> float:
        """Share of the lungs in the mask."""
        return float(np.count_nonzero(mask) / self.total)

    def shares(self, mask: NDArray[np.uint8]) -> dict[str, float]:
        """Share of each zone in the mask: right, left, upper, middle, lower, and the six thirds of a side.

        A zone without lung (a missing lung) has share 0.
        """
        covered, volume = {}, {}
        for side, label in zip(SIDES, (Mask.RIGHT, Mask.LEFT), strict=True):
            marked = np.count_nonzero((mask > 0) & (self._lungs == label), axis=(1, 2))
            for number, third in enumerate(THIRDS):
                rows = self._third[side] == number
                covered[side, third] = int(marked[rows].sum())
                volume[side, third] = int(self._slices[side][rows].sum())

        def share(*zones: tuple[str, str]) -> float:
            return sum(covered[z] for z in zones) / max(sum(volume[z] for z in zones), 1)

        result = {side: share(*((side, third) for third in THIRDS)) for side in SIDES}
        result |= {third: share(*((side, third) for side in SIDES)) for third in THIRDS}
        return result | {f"{side}_{third}": share((side, third)) for side in SIDES for third in THIRDS}

    def of_lungs(self, mask: NDArray[np.uint8]) -> dict[str, float]:
        """Voxels of the mask in the upper, middle and lower thirds as shares of both lungs; they add up to the extent.

        These are what function depends on.
        """
        result = dict.fromkeys(THIRDS, 0.0)
        for side, label in zip(SIDES, (Mask.RIGHT, Mask.LEFT), strict=True):
            marked = np.count_nonzero((mask > 0) & (self._lungs == label), axis=(1, 2))
            for number, third in enumerate(THIRDS):
                result[third] += float(marked[self._third[side] == number].sum() / self.total)
        return result


def extent_columns(masks: dict[str, NDArray[np.uint8]], lungs: NDArray[np.uint8]) -> dict[str, float]:
    """Columns of the cohort table that say how much of what lies where.

    ``NAME_extent`` for every mask; for emphysema and ground glass also ``NAME_ZONE`` for each zone of
    `LungZones.shares`, and the axes ``NAME_upper_minus_lower`` and ``NAME_right_minus_left``: differences of the
    shares of these zones, from -1 to 1.
    """
    zones = LungZones(lungs)
    columns = {f"{name}_extent": zones.extent(mask) for name, mask in masks.items()}
    for name in PLACED:
        shares = zones.shares(masks[name])
        columns |= {f"{name}_{zone}": share for zone, share in shares.items()}
        columns[f"{name}_upper_minus_lower"] = shares["upper"] - shares["lower"]
        columns[f"{name}_right_minus_left"] = shares["right"] - shares["left"]
    return {name: round(value, 6) for name, value in columns.items()}
