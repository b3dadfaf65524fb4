"""Which lung of a mask is the right one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.volume import Frame, Mask

_APART = 40.0
"""mm between the centres of two lungs along L, at least; lobes of one lung are closer together, lungs never."""
_SHARE = 0.1
"""A component smaller than this share of the mask is not a lung."""
_COARSE = 2.5
"""mm; grid on which touching lungs are separated, and stray voxels are assigned to the nearer lung."""


def label_sides(labels: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """Turn label numbers (z, y, x; 0 outside) into 1 right, 2 left or, where the side cannot be determined, 3.

    Position decides, not the number: of two labels side by side, the one with the smaller L coordinate is the right
    lung. Without two such labels the components of the mask are used and then, for lungs that touch, those of the
    mask eroded by 3 to 15 mm. What belongs to neither (a tumour with a label of its own) joins the nearer lung.
    """
    box = ndimage.find_objects((labels > 0).view(np.uint8))[0]
    part = labels[box]
    lungs = part > 0
    sides = _by_label(part, frame)
    if sides is None:
        sides = _by_label(ndimage.label(lungs)[0], frame)
    if sides is None:
        sides = _thinned(lungs, frame)
    result = np.zeros(labels.shape, dtype=np.uint8)
    if sides is None:
        result[box] = np.where(lungs, np.uint8(Mask.UNSIDED), np.uint8(0))
        return result
    rest = lungs & (sides == 0)
    if rest.any():
        _join(sides, rest, frame)
    result[box] = sides
    return result


def _by_label(parts: NDArray[Any], frame: Frame) -> NDArray[np.uint8] | None:
    """1 and 2 where the two largest parts are two lungs, 0 elsewhere; None if they are not."""
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    if len(sizes) < 3:
        return None
    first, second = (int(k) for k in np.argsort(sizes, kind="stable")[::-1][:2])
    if sizes[second] < _SHARE * sizes.sum() or sizes[first] + sizes[second] < 0.8 * sizes.sum():
        return None
    a, b = (_centre_l(parts == k, frame) for k in (first, second))
    if abs(a - b) < _APART:
        return None
    right, left = (first, second) if a < b else (second, first)
    sides = np.zeros(parts.shape, dtype=np.uint8)
    sides[parts == right] = Mask.RIGHT
    sides[parts == left] = Mask.LEFT
    return sides


def _centre_l(part: NDArray[np.bool_], frame: Frame) -> float:
    """L coordinate in mm, from an arbitrary zero, of the centre of ``part`` (z, y, x)."""
    centre = 0.0
    for axis in range(3):
        profile = np.count_nonzero(part, axis=tuple(k for k in range(3) if k != axis))
        mean = float(profile @ np.arange(len(profile)) / profile.sum())
        centre += mean * float(frame.index_to_lps_matrix[0, 2 - axis])
    return centre


def _thinned(lungs: NDArray[np.bool_], frame: Frame) -> NDArray[np.uint8] | None:
    """Sides of a mask whose lungs touch: each voxel's is that of the nearer lung of the thinned mask."""
    steps, sampling = _coarse(frame)
    coarse = lungs[:: steps[0], :: steps[1], :: steps[2]]
    padded = np.pad(coarse, 1)
    depth = ndimage.distance_transform_edt(padded, sampling)[1:-1, 1:-1, 1:-1]
    for radius in (3.0, 6.0, 10.0, 15.0):
        cores = _by_label(ndimage.label(depth > radius)[0], _coarse_frame(frame, steps))
        if cores is None:
            continue
        sides = np.zeros(lungs.shape, dtype=np.uint8)
        _join(sides, lungs, frame, cores)
        return sides
    return None


def _coarse_frame(frame: Frame, steps: tuple[int, ...]) -> Frame:
    """A frame whose voxels are ``steps`` (z, y, x) times as large; its shape is left as it was."""
    x, y, z = (spacing * step for spacing, step in zip(frame.spacing, reversed(steps), strict=True))
    return Frame(frame.shape, (x, y, z), frame.origin, frame.direction)


def _coarse(frame: Frame) -> tuple[tuple[int, ...], list[float]]:
    """Steps in voxels and in mm (z, y, x) of the coarse grid."""
    steps = tuple(max(1, round(_COARSE / spacing)) for spacing in reversed(frame.spacing))
    return steps, [step * spacing for step, spacing in zip(steps, reversed(frame.spacing), strict=True)]


def _join(
    sides: NDArray[np.uint8], rest: NDArray[np.bool_], frame: Frame, known: NDArray[np.uint8] | None = None
) -> None:
    """Give each voxel of ``rest`` the side nearest to it in ``known`` (coarse grid), which by default is ``sides``."""
    steps, sampling = _coarse(frame)
    if known is None:
        known = sides[:: steps[0], :: steps[1], :: steps[2]]
    where = ndimage.distance_transform_edt(known == 0, sampling, return_distances=False, return_indices=True)
    nearest = known[tuple(where)]
    places = np.nonzero(rest)
    at = tuple(np.minimum(p // s, n - 1) for p, s, n in zip(places, steps, nearest.shape, strict=True))
    sides[places] = nearest[at]
