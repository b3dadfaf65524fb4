"""Whether a lung mask explains the chest it lies in: tissue inside the mask, air outside it, fluid beside it.

Everything is measured on blocks of about `BLOCK_MM`, in a fraction of a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.errors import UserError
from anatograph.imaging.lungs import segment_lungs
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.study.quality.levels import Figure

BLOCK_MM = 4.0
"""Edge of the blocks."""
DENSE_HU = -300
"""Lung is below, soft tissue above; between them lie its border and ground glass."""
RIB_HU = 220
"""Above soft tissue, also with contrast agent in its vessels."""
CAGE_MM = 14.0
"""Ribs are closed to a cage over this distance along the body."""
WALL_MM = 12.0
"""Usual distance of lung and rib; what lies beyond is tissue or fluid in the place of lung."""
DEEPEST_MM = 120.0
"""Farther behind the lung a bone is not the rib beside it."""

Array = NDArray[np.float64]


def chest_figures(volume: Volume, mask: Mask, given: bool) -> dict[str, Figure]:
    """Figures of a lung mask against its scan, on one grid with axes along L, P and S.

    Args:
        volume: the scan, HU.
        mask: its lungs.
        given: whether the mask came with the scan, and is then compared with what the built-in method finds.

    Returns:
        ``lungs_dense_fraction``: voxels of the mask above -300 HU; at most 0.07 in correct masks, 0.24 to 0.32 in masks
        shifted by 20 mm or turned front to back, from 0.08 in those of another subject.
        ``lungs_width_mm``: from the outer face of one lung to that of the other, 238 to 315 in sound scans.
        ``lungs_smaller_over_larger``: volume of the smaller lung over that of the larger.
        ``lungs_upper_smaller_over_larger``, ``_middle_``, ``_lower_``: the same in a third of the height of both lungs.
        Upper 0.53 and more in sound scans, at most 0.17 without an upper lobe; middle 0.54 and more, at most 0.29 where
        that third of a lung is missing (0.40 in a lung made short by its diaphragm); lower any number, as one diaphragm
        may stand much higher than the other.
        ``lungs_gap_right``, ``lungs_gap_left``: tissue between a lung and the ribs behind and beside it, over that and
        the lung; nan without ribs.  ``lungs_threshold_dice``, for given masks: Dice with what ``threshold`` finds on
        blocks, nan where it finds nothing.
    """
    dense, slices = _counts(volume, mask)
    counts = slices.sum(axis=0)
    figures: dict[str, Figure] = {
        "lungs_dense_fraction": float(dense / counts.sum()) if counts.sum() > 0 else float("nan"),
        "lungs_width_mm": _width(mask),
        "lungs_smaller_over_larger": _balance(slices),
        **{
            f"lungs_{name}_smaller_over_larger": _balance(third)
            for name, third in zip(("lower", "middle", "upper"), _thirds(slices), strict=True)
        },
    }
    steps = tuple(max(1, round(BLOCK_MM / spacing)) for spacing in mask.frame.spacing[::-1])
    bone = _pooled(volume.array, steps) > RIB_HU
    labels = _pooled(mask.array, steps)
    size = tuple(step * spacing for step, spacing in zip(steps, mask.frame.spacing[::-1], strict=True))
    for side, name in ((Mask.RIGHT, "right"), (Mask.LEFT, "left")):
        figures[f"lungs_gap_{name}"] = _gap(labels == side, labels > 0, bone, size)
    if given:
        figures["lungs_threshold_dice"] = _agreement(volume, mask, steps)
    return figures


def _counts(volume: Volume, mask: Mask) -> tuple[int, Array]:
    """Dense voxels of the mask, and for each slice the voxels of each label (Z, 4), the background's left out."""
    dense, counts = 0, np.zeros((len(mask.array), 4))
    for hu, labels, row in zip(volume.array, mask.array, counts, strict=True):
        if labels.any():
            dense += int(((hu > DENSE_HU) & (labels > 0)).sum())
            row[1:] = np.bincount(labels.ravel(), minlength=4)[1:]
    return dense, counts


def _thirds(slices: Array) -> tuple[Array, Array, Array]:
    """The rows (Z, 4) of the lower, middle and upper third of the height of both lungs."""
    heights = np.flatnonzero(slices.any(axis=1))
    if not heights.size:
        return slices[:0], slices[:0], slices[:0]
    first, last, third = int(heights[0]), int(heights[-1]) + 1, len(heights) / 3
    low, high = int(first + third), int(last - third)
    return slices[first:low], slices[low:high], slices[high:last]


def _width(mask: Mask) -> float:
    """Extent of both lungs from side to side, mm; nan without lung."""
    box = mask.box_lps()
    return float("nan") if box is None else float(box[1][0] - box[0][0])


def _balance(slices: Array) -> float:
    """Volume of the smaller lung over that of the larger; nan without lung."""
    sides = slices[:, [Mask.RIGHT, Mask.LEFT]].sum(axis=0)
    return float(sides.min() / sides.max()) if sides.max() > 0 else float("nan")


def _pooled(array: NDArray[np.generic], steps: tuple[int, ...]) -> NDArray[np.int16]:
    """The largest value of each block; a rest at the far faces is left out."""
    kept = array[tuple(slice(0, n // step * step) for n, step in zip(array.shape, steps, strict=True))]
    for axis, step in enumerate(steps):
        lines = np.moveaxis(kept, axis, 0)
        largest = lines[::step].copy()
        for k in range(1, step):
            np.maximum(largest, lines[k::step], out=largest)
        kept = np.moveaxis(largest, 0, axis)
    return kept.astype(np.int16)


def _gap(lung: NDArray[np.bool_], both: NDArray[np.bool_], bone: NDArray[np.bool_], size: tuple[float, ...]) -> float:
    """Tissue beyond the usual wall between a lung and the ribs behind and beside it, as a fraction of both together."""
    heights = np.flatnonzero(both.any((1, 2)))
    if not lung.any() or len(heights) < 8:
        return float("nan")
    columns = np.flatnonzero(both.any((0, 1)))
    centre = (columns[0] + columns[-1]) / 2
    own = np.flatnonzero(lung.any((0, 1)))
    leftwards = own.mean() > centre
    reach = max(1, round(CAGE_MM / size[0]))
    cage = ndimage.maximum_filter1d(bone, 2 * reach + 1, axis=0)
    # The apex and the dome of the diaphragm have their ribs elsewhere than straight behind them.
    rows = slice(int(heights[0] + 0.25 * (heights[-1] - heights[0])), int(heights[-1] - 0.15 * len(heights)) + 1)
    inner = 22.0 / size[2]  # the spine and the breastbone are no ribs
    side = slice(int(np.ceil(centre + inner)), None) if leftwards else slice(None, int(centre - inner))
    behind = _rays(lung[rows, :, side], cage[rows, :, side], axis=1, size=size)
    outwards = slice(None, None, 1 if leftwards else -1)
    beside = _rays(lung[rows, :, side][..., outwards], cage[rows, :, side][..., outwards], axis=2, size=size)
    found = max(behind, beside)
    volume = float(lung[rows].sum()) * size[0] * size[1] * size[2]
    return float("nan") if np.isnan(found) else found / max(found + volume, 1.0)


def _rays(lung: NDArray[np.bool_], cage: NDArray[np.bool_], axis: int, size: tuple[float, ...]) -> float:
    """mm³ between the last lung along an axis and the first bone after it, less the wall; nan without bones."""
    lung, cage = np.moveaxis(lung, axis, -1), np.moveaxis(cage, axis, -1)
    length = lung.shape[-1]
    has = lung.any(-1)
    last = length - 1 - np.argmax(lung[..., ::-1], axis=-1)
    places = np.arange(length)
    after = cage & (places > last[..., None])
    first = np.argmax(after, axis=-1)
    depth = (first - last - 1) * size[axis]
    hit = has & after.any(-1) & (depth < DEEPEST_MM)
    if hit.sum() < 0.2 * max(1, int(has.sum())) or not has.any():
        return float("nan")
    beyond = np.clip(depth[hit] - WALL_MM, 0.0, None)
    face = size[0] * size[1] * size[2] / size[axis]
    return float(beyond.sum() * face * has.sum() / hit.sum())


def _agreement(volume: Volume, mask: Mask, steps: tuple[int, ...]) -> float:
    """Dice of the mask with what the built-in method finds on every few voxels of the scan."""
    thin = tuple(slice(None, None, step) for step in steps)
    array = np.ascontiguousarray(volume.array[thin])
    spacing = tuple(s * (cut.step or 1) for s, cut in zip(volume.frame.spacing, thin[::-1], strict=True))
    frame = Frame(array.shape, (spacing[0], spacing[1], spacing[2]), volume.frame.origin, volume.frame.direction)
    try:
        found = segment_lungs(Volume(array, frame), "threshold").mask.array > 0
    except UserError:
        return float("nan")
    ours = mask.array[thin] > 0
    return float(2 * (found & ours).sum() / max(1, int(found.sum()) + int(ours.sum())))
