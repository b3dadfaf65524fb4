"""Between the grid of a file and the LPS grid that everything else works on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.imaging.volume import Frame, vector

_SNAP_DIRECTION = 1e-4
"""A direction this near to a signed permutation is one: `Frame.is_axis_aligned` draws the line at the same place."""


def orientation_code(direction: NDArray[np.float64]) -> str:
    """Three letters, such as ``LPS`` or ``RAS``: where in the patient the indices x, y, z grow to, as ITK names it."""
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(direction.ravel().tolist()))


def _axes(direction: NDArray[np.float64]) -> tuple[list[int], list[bool]]:
    """For each of L, P, S: the index axis (0 x, 1 y, 2 z) that runs along it, and whether it runs the other way."""
    code = orientation_code(direction)
    source, flipped = [], []
    for positive, negative in ("LR", "PA", "SI"):
        axis = next(k for k, letter in enumerate(code) if letter in (positive, negative))
        source.append(axis)
        flipped.append(code[axis] == negative)
    return source, flipped


def lps_view(array: NDArray[Any], direction: NDArray[np.float64]) -> NDArray[Any]:
    """A view of ``array`` (z, y, x on a grid with ``direction``) whose axes run along S, P, L. Copies nothing."""
    source, flipped = _axes(direction)
    turned = array.transpose([2 - source[2], 2 - source[1], 2 - source[0]])
    steps = tuple(slice(None, None, -1 if flipped[axis] else 1) for axis in (2, 1, 0))
    return turned[steps]


def stored_view(array: NDArray[Any], direction: NDArray[np.float64]) -> NDArray[Any]:
    """The inverse of `lps_view`: from axes along S, P, L back to the z, y, x of a grid with ``direction``."""
    source, flipped = _axes(direction)
    steps = tuple(slice(None, None, -1 if flipped[axis] else 1) for axis in (2, 1, 0))
    order = [2 - source[2], 2 - source[1], 2 - source[0]]
    return array[steps].transpose(np.argsort(order))


def lps_frame(stored: Frame) -> Frame:
    """The frame of `lps_view` of an array on ``stored``, without the rounding noise that file formats leave.

    NIfTI keeps spacing, origin and direction in single precision. A direction within 1e-4 of the axes is put on
    them, spacing is cut to the digits that single precision carries, origin to 0.1 µm; so the same scan has the same
    frame from whatever format it comes.
    """
    source, flipped = _axes(stored.direction)
    size = np.asarray(stored.shape[::-1])
    corner = np.zeros(3)
    for axis, flip in zip(source, flipped, strict=True):
        if flip:
            corner[axis] = size[axis] - 1
    signs = np.where(flipped, -1.0, 1.0)
    direction = stored.direction[:, source] * signs
    if np.abs(direction - np.eye(3)).max() < _SNAP_DIRECTION:
        direction = np.eye(3)
    spacing = [float(str(np.float32(stored.spacing[axis]))) for axis in source]
    shape = tuple(int(size[axis]) for axis in reversed(source))
    return Frame(
        (shape[0], shape[1], shape[2]), vector(spacing), vector(np.round(stored.to_lps(corner), 4) + 0.0), direction
    )


def is_turned(frame: Frame, stored: Frame, tolerance: float = 0.02) -> bool:
    """Whether ``frame`` holds the very voxels of ``stored``, in LPS order (corners within ``tolerance`` mm)."""
    return lps_frame(stored).same_grid(replace(frame), tolerance)
