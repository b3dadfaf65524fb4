"""The surroundings of the lungs, which reveal a scan that was flipped or is otherwise unusual."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.lungs.laterality import laterality
from anatograph.imaging.volume import Mask, Volume

BONE_HU = 180
"""Above any unenhanced soft tissue."""
ABOVE_TISSUE_HU = 120.0
"""And this much above the tissue between the lungs, where a contrast agent was given."""
METAL_HU = 2900
"""Above any bone; scanners of 12 bits end at 3071."""
MUCH_METAL_ML = 1.0
"""A surgical clip or a lead is smaller, a pacemaker, a rod or a port is not."""
ENHANCED_HU = 130.0
"""Upper quartile of the tissue between the lungs; 54 to 105 HU in scans without contrast agent."""
SPINE_MM2 = 300.0
"""Bone of a spine in an axial slice, at least."""
SPINE_IN_FRONT = -0.15
"""``spine_behind`` of a turned scan is -0.26 and less, or about 0 with dense contrast agent in the right heart."""
HEART_RIGHT_MM = -8.0
"""The centre of the heart lies 2 to 20 mm to the left of the spine's."""
MIRRORED = -0.15
"""`laterality` of sound scans is 0.2 and more, and changes only its sign when the scan is mirrored."""
SIDE_AREA_MM2 = 400.0
"""Lung area in the outermost columns or rows of a scan above which the lung is cut there."""
THICK_MM = 5.0
"""Slices farther apart are usable, but a patch of 32 mm then spans only six of them."""


def surroundings(mask: Mask, volume: Volume) -> dict[str, float | bool | str]:
    """Figures of a scan around its lungs (mask and scan on one grid, axes along L, P, S).

    ``spine_behind``: how far the bone between the lungs lies behind their middle, negative in a scan that is turned:
    half its mean place, in half depths of the lungs, and the mean over slices of the bone behind less that in front,
    at most `SPINE_MM2` each and in units of it.
    ``heart_left_mm``: the middle of the tissue between the lower lungs, to the left of the spine.
    ``mediastinum_hu``: upper quartile of the tissue between the lungs.
    ``laterality``: heart beneath the left lung and liver beneath the right, see `laterality`. All four nan with one
    lung.
    ``metal_ml``: above 2900 HU. ``truncated_side``: lung at the left, right, front or back of the scan.
    ``warnings``: everything unusual, in words.
    """
    sx, sy, sz = mask.frame.spacing
    array = mask.array
    front = max(float((array[:, k] > 0).sum()) for k in (0, -1)) * sx * sz
    side = max(float((array[:, :, k] > 0).sum()) for k in (0, -1)) * sy * sz
    figures: dict[str, float | bool | str] = {
        "truncated_side": bool(max(front, side) > SIDE_AREA_MM2),
        "metal_ml": float(sum(int((plane > METAL_HU).sum()) for plane in volume.array)) * mask.frame.voxel_volume / 1e3,
        **_between(mask, volume),
        "laterality": laterality(mask, volume),
    }
    figures["warnings"] = "; ".join(_doubts(figures, max(mask.frame.spacing)))
    return figures


def _between(mask: Mask, volume: Volume) -> dict[str, float]:
    unknown = dict.fromkeys(("spine_behind", "heart_left_mm", "mediastinum_hu"), float("nan"))
    boxes = ndimage.find_objects(mask.array, max_label=2)
    if len(boxes) < 2 or boxes[0] is None or boxes[1] is None:
        return unknown
    low, high = min(box[0].start for box in boxes), max(box[0].stop for box in boxes)
    # Every few voxels are enough for middles and quartiles.
    steps = tuple(max(1, round(2.5 / s)) for s in mask.frame.spacing[::-1])
    grid = tuple(slice(start, stop, step) for start, stop, step in
                 zip((low, 0, 0), (high, *mask.array.shape[1:]), steps, strict=True))  # fmt: skip
    labels, hu = mask.array[grid], volume.array[grid]
    lungs = labels > 0
    middle = [float(np.average(np.arange(labels.shape[2]), weights=(labels == side).sum((0, 1)))) for side in (1, 2)]
    if not middle[0] + 2 < middle[1] or len(labels) < 8:
        return unknown
    rows = np.flatnonzero(lungs.any((0, 2)))
    centre = float(np.average(np.arange(labels.shape[1]), weights=lungs.sum((0, 2))))
    depth = (rows[-1] - rows[0]) / 2
    columns = slice(int(middle[0]), int(middle[1]) + 1)
    height = len(labels)
    tissue = hu[height // 5 : 3 * height // 4, :, columns]
    tissue = tissue[(tissue > -20) & (tissue < 500) & ~lungs[height // 5 : 3 * height // 4, :, columns]]
    if tissue.size < 100:
        return unknown
    usual = float(np.percentile(tissue, 75))
    bone = hu[:, :, columns] > max(BONE_HU, usual + ABOVE_TISSUE_HU)
    if bone.sum() < 20 or depth < 2:
        return unknown
    # Blood may be as bright as bone and fill more of a slice, but it never fills the front of every slice, as the spine
    # does its back; calcified cartilage and hands may lie in front of every slice, but are less than the spine.
    enough = SPINE_MM2 / (steps[1] * steps[2] * mask.frame.spacing[0] * mask.frame.spacing[1])
    front, back = (np.minimum(part.sum((1, 2)) / enough, 1.0) for part in np.split(bone, [int(centre)], axis=1))
    chest = slice(height // 4, 3 * height // 4)
    place = (_middle(bone[chest], 1) - centre) / depth if bone[chest].any() else 0.0
    spine = float(0.5 * place + (back - front).mean())
    behind = bone[chest, int(centre) :]
    heart = slice(height // 5, height // 2), slice(int(rows[0]), int(centre + 0.3 * depth)), columns
    soft = (hu[heart] > -50) & (hu[heart] < 400) & ~lungs[heart]
    known = behind.sum() > 10 and soft.sum() > 100 and spine > 0
    offset = (_middle(soft, 2) - _middle(behind, 2)) * steps[2] * mask.frame.spacing[0] if known else float("nan")
    return {
        "spine_behind": spine,
        "heart_left_mm": float(offset),
        "mediastinum_hu": usual,
    }


def _middle(part: NDArray[np.bool_], axis: int) -> float:
    others = tuple(a for a in range(3) if a != axis)
    return float(np.average(np.arange(part.shape[axis]), weights=part.sum(others)))


def _doubts(figures: dict[str, float | bool | str], coarsest: float) -> list[str]:
    found = []
    if float(figures["spine_behind"]) < SPINE_IN_FRONT:
        found.append("the spine lies in front of the lungs, so the scan seems flipped: check its orientation")
    if float(figures["heart_left_mm"]) < HEART_RIGHT_MM:
        found.append(
            "the heart lies to the right of the spine: unless the subject has dextrocardia, the scan is mirrored"
        )
    if float(figures["laterality"]) < MIRRORED:
        found.append(
            "heart and liver lie beneath the opposite lungs: unless the subject has situs inversus or lacks a lobe, "
            "the scan is mirrored"
        )
    if float(figures["mediastinum_hu"]) > ENHANCED_HU:
        found.append("the scan seems contrast-enhanced")
    if float(figures["metal_ml"]) > MUCH_METAL_ML:
        found.append(f"{float(figures['metal_ml']):.0f} ml of metal in the scan")
    if figures["truncated_side"]:
        found.append("sides of the lungs outside the scan")
    if coarsest > THICK_MM:
        found.append(f"slices {coarsest:.2g} mm apart")
    return found
