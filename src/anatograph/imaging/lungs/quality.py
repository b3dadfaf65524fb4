"""Quality figures of a lung mask, for a reader or a later stage."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.errors import UserError
from anatograph.imaging.volume import Mask, Volume

PLAUSIBLE_ML = (800.0, 12000.0)
"""Both lungs together, from full expiration of a small woman to full inspiration of a tall man."""
PLAUSIBLE_RATIO = (0.4, 2.0)
"""Left over right lung volume; about 0.85 in health."""
MISSING_SHARE = 0.05
"""A lung smaller than this share of the other counts as missing: a stump after surgery, or air in an effusion."""
CUT_AREA_MM2 = 2500.0
"""Lung area in the lowest slice above which the base is cut (a costophrenic tip is smaller)."""
TOP_AREA_MM2 = 400.0
"""The same for the highest slice; the apex is a dome, so less is enough."""


def lung_quality(mask: Mask, volume: Volume) -> dict[str, float | bool | str]:
    """Quality figures of lungs on the grid of a scan.

    ``volume_ml`` and ``right_ml``, ``left_ml`` (label 3 counts in the total only); ``left_right_ratio`` (nan when a
    side is missing); ``truncated_top`` and ``truncated_base``: the scan ends while there is still lung;
    ``holes_fraction``: part of the filled lungs (axial slices) that the mask leaves out; ``components``: pieces
    above 1 ml, sides apart; ``mean_hu``; ``warnings``: everything unusual, in words, else empty.
    Raises `UserError` when the mask is empty or not on the grid of the scan.
    """
    if not mask.frame.same_grid(volume.frame):
        raise UserError("The lung mask and the scan are on different grids; resample the mask onto the scan first.")
    array = mask.array
    where = ndimage.find_objects((array > 0).view(np.uint8))
    if not where or where[0] is None:
        raise UserError(f"The lung mask of {volume.source or 'the scan'} is empty; draw the lungs, or leave it out.")
    box = where[0]
    inner = array[box]
    voxel_ml = mask.frame.voxel_volume / 1000.0
    counts, holes, hu_sum = _slices(inner, volume.array[box])
    right, left = float(counts[Mask.RIGHT]) * voxel_ml, float(counts[Mask.LEFT]) * voxel_ml
    total = float(counts[1:].sum()) * voxel_ml
    pixel_mm2 = mask.frame.spacing[0] * mask.frame.spacing[1]
    quality: dict[str, float | bool | str] = {
        "volume_ml": total,
        "right_ml": right,
        "left_ml": left,
        "left_right_ratio": left / right if left > 0 and right > 0 else float("nan"),
        "truncated_top": bool((array[-1] > 0).sum() * pixel_mm2 > TOP_AREA_MM2),
        "truncated_base": bool((array[0] > 0).sum() * pixel_mm2 > CUT_AREA_MM2),
        "holes_fraction": holes / (holes + float(counts[1:].sum())),
        "components": float(_pieces(inner, voxel_ml)),
        "mean_hu": hu_sum / float(counts[1:].sum()),
    }
    quality["warnings"] = "; ".join(doubts(quality))
    return quality


def doubts(quality: dict[str, float | bool | str]) -> list[str]:
    """Everything unusual in the figures of `lung_quality`, in words."""
    found = []
    total, right, left = (float(quality[name]) for name in ("volume_ml", "right_ml", "left_ml"))
    if not PLAUSIBLE_ML[0] <= total <= PLAUSIBLE_ML[1]:
        found.append(f"lungs of {total:.0f} ml in all")
    ratio = float(quality["left_right_ratio"])
    missing = min(right, left) < MISSING_SHARE * max(right, left)
    if not missing and right > 0 and left > 0 and not PLAUSIBLE_RATIO[0] <= ratio <= PLAUSIBLE_RATIO[1]:
        found.append(f"left over right volume {ratio:.2f}")
    if missing:
        found.append("one lung missing")
    if quality["truncated_top"]:
        found.append("top of the lungs not in the scan")
    if quality["truncated_base"]:
        found.append("base of the lungs not in the scan")
    if float(quality["holes_fraction"]) > 0.02:
        found.append(f"holes of {100 * float(quality['holes_fraction']):.0f} %")
    if not -960 < float(quality["mean_hu"]) < -300:
        found.append(f"mean density {float(quality['mean_hu']):.0f} HU")
    return found


def _slices(lungs: NDArray[np.uint8], hu: NDArray[np.int16]) -> tuple[NDArray[np.int64], int, float]:
    """Voxels of each label (4,), voxels in the holes of axial slices, and the sum of HU in the lungs."""
    counts, holes, total = np.zeros(4, dtype=np.int64), 0, 0.0
    for labels, image in zip(lungs, hu, strict=True):
        found = np.bincount(labels.ravel(), minlength=4)
        counts += found
        total += float(image[labels > 0].sum(dtype=np.int64))
        boxes = ndimage.find_objects(labels)
        for side in (Mask.RIGHT, Mask.LEFT, Mask.UNSIDED):
            if found[side]:
                part = labels[boxes[side - 1]]
                # A hole is what the outside does not reach, going over edges of pixels.
                around, _ = ndimage.label(np.pad(part != side, 1, constant_values=True))
                holes += int(((around[1:-1, 1:-1] > around[0, 0]) & (part == 0)).sum())
    return counts, holes, total


def _pieces(lungs: NDArray[np.uint8], voxel_ml: float) -> int:
    """Parts above 1 ml, counted for each side."""
    count = 0
    for side, box in enumerate(ndimage.find_objects(lungs), start=1):
        if box is not None:
            labels, found = ndimage.label(lungs[box] == side)
            sizes = np.sum([np.bincount(plane.ravel(), minlength=found + 1) for plane in labels], axis=0)[1:]
            count += int((sizes * voxel_ml > 1.0).sum())
    return count
