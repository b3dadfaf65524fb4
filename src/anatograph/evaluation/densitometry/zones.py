"""Parts of the lungs: both, each side, each third of a side, lobes, and the neighbourhoods of landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.evaluation.densitometry.measures import LungVoxels
from anatograph.imaging.native import native_name
from anatograph.imaging.resample import resample_labels
from anatograph.imaging.volume import Frame, Mask

SIDES = {"right": Mask.RIGHT, "left": Mask.LEFT}
THIRDS = ("lower", "middle", "upper")
_FEWEST = 4
"""Lobe labels of TotalSegmentator from which a file is taken for its multi-label output."""
LOBES = {"left_upper_lobe": 1, "left_lower_lobe": 2, "right_upper_lobe": 3, "right_middle_lobe": 4,
         "right_lower_lobe": 5}  # fmt: skip
"""Labels of a lobe mask, those of lungmask's LTRCLobes."""
TOTALSEGMENTATOR = {10: 1, 11: 2, 12: 3, 13: 4, 14: 5}
"""Lobes in the multi-label output of TotalSegmentator 2, as labels of `LOBES`."""


def zones(voxels: LungVoxels, lungs: Mask) -> dict[str, NDArray[np.bool_]]:
    """(n,) which lung voxels belong to ``whole``, ``upper`` … ``lower``, ``right``, ``right_upper`` … ``left_lower``.

    A third of a side has a third of its height, from its lowest to its highest slice. Only ``whole`` where the mask
    does not distinguish the sides.
    """
    label = lungs.array.ravel()[voxels.index]
    level = np.unravel_index(voxels.index, lungs.array.shape)[0]
    found: dict[str, NDArray[np.bool_]] = {"whole": np.ones(len(label), dtype=bool)}
    if not all((label == number).any() for number in SIDES.values()):
        return found
    third = np.full(len(label), -1)
    for number in SIDES.values():
        own = label == number
        low, high = int(level[own].min()), int(level[own].max()) + 1
        third[own] = np.clip(3 * (level[own] - low) // (high - low), 0, 2)
    for place in (2, 1, 0):
        found[THIRDS[place]] = third == place
    for side, number in SIDES.items():
        found[side] = label == number
        for place in (2, 1, 0):
            found[f"{side}_{THIRDS[place]}"] = (label == number) & (third == place)
    return found


def lobe_zones(voxels: LungVoxels, file: Path, frame: Frame) -> dict[str, NDArray[np.bool_]]:
    """(n,) which lung voxels belong to each of `LOBES`, by a mask file on any grid.

    Raises:
        UserError: a file that cannot be read, other labels, or a mask that lies outside the lungs.
    """
    import SimpleITK as sitk

    try:
        image = sitk.DICOMOrient(sitk.ReadImage(native_name(file)), "LPS")
    except RuntimeError as error:
        raise UserError(f"The lobe mask {file} cannot be read as an image; replace the file.") from error
    values = sitk.GetArrayFromImage(image)
    labels = set(np.unique(values).tolist()) - {0}
    if strange := sorted(labels - set(LOBES.values())):
        if len(labels & set(TOTALSEGMENTATOR)) < _FEWEST:
            wanted = ", ".join(f"{number} {name}" for name, number in LOBES.items())
            raise UserError(
                f"The lobe mask {file} has the labels {strange[:5]}; the labels must be {wanted}, or 10 to 14 in the "
                "multi-label output of TotalSegmentator."
            )
        table = np.zeros(max(int(values.max()), *TOTALSEGMENTATOR) + 1, dtype=np.uint8)
        for theirs, ours in TOTALSEGMENTATOR.items():
            table[theirs] = ours
        values = table[values.astype(np.int64)]
    z, y, x = values.shape
    own = Frame((z, y, x), image.GetSpacing(), image.GetOrigin(), np.array(image.GetDirection()).reshape(3, 3))
    on_scan = values if own.same_grid(frame, 0.02) else resample_labels(values.astype(np.uint8), own, frame)
    label = on_scan.ravel()[voxels.index]
    covered = float((label > 0).mean())
    if covered < 0.5:
        raise UserError(f"The lobe mask {file} covers {100 * covered:.0f} % of the lungs; it belongs to another scan.")
    return {name: label == number for name, number in LOBES.items()}


class Neighbourhoods:
    """Lung voxels in the cube around a landmark."""

    def __init__(self, voxels: LungVoxels, frame: Frame, side_mm: float) -> None:
        self.frame, self.side = frame, side_mm
        place = np.full(int(np.prod(frame.shape)), -1, dtype=np.int32)
        place[voxels.index] = np.arange(len(voxels.index), dtype=np.int32)
        self._place = place.reshape(frame.shape)

    def around(self, landmark: NDArray[np.float64]) -> NDArray[np.int64]:
        """(m,) the lung voxels whose centres lie in the cube of ``side_mm`` around a landmark (LPS mm)."""
        low, high = self.frame.to_index(landmark - self.side / 2), self.frame.to_index(landmark + self.side / 2)
        start = np.maximum(np.ceil(low - 1e-6).astype(int), 0)
        stop = np.maximum(np.floor(high + 1e-6).astype(int) + 1, 0)
        box = self._place[start[2] : stop[2], start[1] : stop[1], start[0] : stop[0]].ravel()
        return box[box >= 0].astype(np.int64)
