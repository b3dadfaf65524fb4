"""Which lung of a mask is the right one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.volume import Frame, Mask

_APART = 40.0
"""mm between the centres of two lungs, at least; two lobes of one lung are nearer in x, two lungs never."""
_SHARE = 0.1
"""A part smaller than this share of the mask is not a lung."""


def label_sides(labels: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Turn label numbers (z, y, x; 0 outside) into 1 right, 2 left or, where that cannot be told, 3.

    The place in the patient decides and not the number: of two parts that lie side by side, the one with the smaller
    L coordinate is the right lung. What belongs to neither (a tumour with a label of its own) joins the nearer one.
    """
    box = ndimage.find_objects((labels > 0).view(np.uint8))[0]
    part = labels[box]
    sides = _two_parts(part, frame)
    if sides is None:
        components, _ = ndimage.label(part > 0)
        sides = _two_parts(components, frame)
    result = np.zeros(labels.shape, dtype=np.uint8)
    result[box] = np.where(part > 0, Mask.UNSIDED if sides is None else sides, 0)
    return result


def _two_parts(parts: NDArray[np.uint8] | NDArray[np.int32], frame: Frame) -> NDArray[np.uint8] | None:
    """Right and left of the two largest parts with the rest given to the nearer; None unless they are two lungs."""
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    if len(sizes) < 3:
        return None
    first, second = (int(k) for k in np.argsort(sizes, kind="stable")[::-1][:2])
    if sizes[second] < _SHARE * sizes.sum() or sizes[first] + sizes[second] < 0.8 * sizes.sum():
        return None
    along_l = frame.index_to_lps_matrix[0]
    means = [np.array([axis.mean() for axis in np.nonzero(parts == k)]) for k in (first, second)]
    centres = [mean[::-1] @ along_l for mean in means]
    if abs(centres[0] - centres[1]) < _APART:
        return None
    right, left = (first, second) if centres[0] < centres[1] else (second, first)
    sides = np.zeros(parts.shape, dtype=np.uint8)
    sides[parts == right] = Mask.RIGHT
    sides[parts == left] = Mask.LEFT
    rest = (parts > 0) & (sides == 0)
    if rest.any():
        _join_rest(sides, rest, frame)
    return sides


def _join_rest(sides: NDArray[np.uint8], rest: NDArray[np.bool_], frame: Frame) -> None:
    """Give each voxel of ``rest`` the side of the nearest labelled voxel, found on a grid of about 3 mm."""
    steps = tuple(max(1, round(3.0 / spacing)) for spacing in reversed(frame.spacing))
    coarse = sides[:: steps[0], :: steps[1], :: steps[2]]
    sampling = [step * spacing for step, spacing in zip(steps, reversed(frame.spacing), strict=True)]
    where = ndimage.distance_transform_edt(coarse == 0, sampling, return_distances=False, return_indices=True)
    nearest = coarse[tuple(where)]
    places = np.nonzero(rest)
    at = tuple(np.minimum(p // s, n - 1) for p, s, n in zip(places, steps, nearest.shape, strict=True))
    sides[places] = nearest[at]
