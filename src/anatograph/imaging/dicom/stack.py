"""The slices of one DICOM series in order, with faults between them found, repaired or refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.errors import UserError
from anatograph.imaging.checks import MAX_SPACING, MIN_SLICES, check_range, round_hounsfield
from anatograph.imaging.content import AIR
from anatograph.imaging.dicom.headers import Slice
from anatograph.imaging.dicom.pixels import number, read_slice, without_padding
from anatograph.imaging.volume import Frame, vector
from anatograph.limits import check_scan_size

_SAME_PLACE = 0.01
"""mm; slices closer than this lie at the same place."""
_UNEVEN = 0.05
"""How far, in slice spacings, a slice may lie from its even place."""
_ROUNDING = 0.06
"""mm; the same for thin slices, whose positions are often written with one digit."""
_MISSING = 0.02
"""Share of slices that may be missing, one at a time, and are interpolated; one always may."""
_MAX_TILT = 35.0
"""Degrees; no gantry tilts further."""


class UnusableError(Exception):
    """Why the slices of a series do not make a volume: a clause that follows the name of the series."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order on an even grid."""

    planes: tuple[Slice | None, ...]
    """Slice of each plane along the normal, growing; None where it is missing and is interpolated."""
    step: float
    """mm between planes."""
    shifts: NDArray[np.float64]
    """(planes, 2) columns and rows by which each plane lies beside the first; zeros without a gantry tilt."""
    repairs: tuple[str, ...]
    """What was repaired, in words."""

    @property
    def first(self) -> Slice:
        """The slice of the first plane."""
        first = self.planes[0]
        if first is None:
            raise ValueError("a stack begins with a slice")
        return first

    @property
    def coverage(self) -> float:
        """mm from the first to the last plane."""
        return (len(self.planes) - 1) * self.step


def arrange(slices: list[Slice]) -> Stack:
    """Order the slices of one series, alike in size and orientation, by their position in the patient.

    Identical slices at one place are dropped, single missing slices marked for interpolation, small unevenness is
    taken as even, a gantry tilt measured. Raises UnusableError for everything else that prevents a volume.
    """
    repairs: list[str] = []
    ordered, dropped = _without_duplicates(sorted(slices, key=lambda one: (one.along_normal, one.path.as_posix())))
    if dropped:
        repairs.append(f"{_count(dropped)} found twice, pixel for pixel, and dropped once")
    if len(ordered) < MIN_SLICES:
        raise UnusableError(f"only {_count(len(ordered))}, and at least {MIN_SLICES} are needed")
    places = np.array([one.along_normal for one in ordered])
    numbers, step = _number(places, repairs)
    positions = np.array([one.position for one in ordered])
    shifts = _tilt(ordered, positions, numbers, step, repairs)
    planes: list[Slice | None] = [None] * (int(numbers[-1]) + 1)
    for plane, one in zip(numbers, ordered, strict=True):
        planes[int(plane)] = one
    tilt = number(ordered[0], "GantryDetectorTilt", 0.0)
    if not shifts.any() and abs(tilt) > 0.5 and abs(ordered[0].direction[2, 2]) > 0.9999:
        repairs.append(f"the header states a gantry tilt of {tilt:g} degrees, but positions and orientation show none")
    return Stack(tuple(planes), step, shifts, tuple(repairs))


def _without_duplicates(ordered: list[Slice]) -> tuple[list[Slice], int]:
    """Slices at different places; identical ones at the same place are dropped and counted."""
    kept: list[Slice] = []
    dropped = 0
    for one in ordered:
        if not kept or one.along_normal - kept[-1].along_normal > _SAME_PLACE:
            kept.append(one)
            continue
        if not np.array_equal(_pixels(one), _pixels(kept[-1])):
            raise UnusableError(
                f"two different slices lie at the same place ({_at(one)}: {kept[-1].path.name} and {one.path.name}), "
                "so several scans are mixed; keep the files of one"
            )
        dropped += 1
    return kept, dropped


def _number(places: NDArray[np.float64], repairs: list[str]) -> tuple[NDArray[np.intp], float]:
    """The plane number of each slice and the step in mm, from places along the normal (growing)."""
    gaps = np.diff(places)
    middle = float(np.median(gaps))
    if middle > MAX_SPACING:
        raise UnusableError(
            f"slices are {middle:g} mm apart, and more than {MAX_SPACING:g} mm is too coarse; use a thinner series"
        )
    jumps = np.maximum(1, np.rint(gaps / middle).astype(np.intp))
    numbers = np.concatenate([[0], np.cumsum(jumps)]).astype(np.intp)
    step = float(np.polyfit(numbers, places, 1)[0])
    even = places[0] + np.mean(places - places[0] - step * numbers) + step * numbers
    off = float(np.abs(places - even).max())
    absent = int((jumps - 1).sum())
    if off > max(_UNEVEN * step, _ROUNDING) or absent > len(places) / 4:
        raise UnusableError(
            f"slices are unevenly spaced, from {gaps.min():.3g} to {gaps.max():.3g} mm; use a series with one spacing"
        )
    if absent:
        at = np.flatnonzero(jumps > 1)
        where = ", ".join(f"between {places[k]:.5g} and {places[k + 1]:.5g} mm" for k in at[:3])
        where += " and elsewhere" if len(at) > 3 else ""
        if absent > max(1, _MISSING * len(places)) or jumps.max() > 2 or 2 * step > MAX_SPACING:
            raise UnusableError(f"{_count(absent)} missing {where} along the slice normal; copy the series again")
        repairs.append(f"{_count(absent, 'missing ')} ({where}) interpolated from the neighbours")
    if off > 0.01 * step:
        repairs.append(f"slices lie up to {off:.2g} mm from an even spacing of {step:.4g} mm and were taken as even")
    return numbers, step


def _tilt(
    ordered: list[Slice], positions: NDArray[np.float64], numbers: NDArray[np.intp], step: float, repairs: list[str]
) -> NDArray[np.float64]:
    """Columns and rows (planes, 2) by which each plane is shifted against the first in its own plane."""
    pixel = np.asarray(ordered[0].pixel)
    beside = (positions - positions[0]) @ ordered[0].direction[:, :2]
    slope = np.array([np.polyfit(numbers, beside[:, axis], 1)[0] for axis in (0, 1)])
    base = (beside - numbers[:, None] * slope).mean(axis=0)
    off = np.abs(beside - numbers[:, None] * slope - base).max()
    if off > 0.5 * pixel.min():
        raise UnusableError(
            f"slices lie up to {2 * off:.3g} mm beside one another (the table was moved, or reconstructions with "
            "different centres are mixed); keep the files of one reconstruction"
        )
    shifts: NDArray[np.float64] = np.arange(int(numbers[-1]) + 1)[:, None] * (slope / pixel)
    if np.abs(shifts[-1]).max() < 0.5:
        return np.zeros_like(shifts)
    angle = float(np.degrees(np.arctan2(np.hypot(*slope), step)))
    if angle > _MAX_TILT:
        raise UnusableError(
            f"slices are sheared by {angle:.0f} degrees, more than any gantry tilts; copy the series again"
        )
    repairs.append(f"the gantry was tilted by {angle:.1f} degrees; slices were shifted onto a rectangular grid")
    return shifts


def load(stack: Stack, source: str) -> tuple[NDArray[np.int16], Frame]:
    """HU of a stack, z along its normal, and their frame; UserError where pixels cannot be read or cannot be HU."""
    columns, rows, _ = stack.first.size
    low, high = stack.shifts.min(axis=0), stack.shifts.max(axis=0)
    extra = np.ceil(high - low - 1e-6).astype(int)
    check_scan_size((columns + int(extra[0]), rows + int(extra[1]), len(stack.planes)), 2, source)
    array = np.full((len(stack.planes), rows + extra[1], columns + extra[0]), AIR, dtype=np.int16)
    lowest, highest, floating = np.inf, -np.inf, False
    for plane, one in enumerate(stack.planes):
        if one is None:
            continue
        values = without_padding(read_slice(one), one)
        floating = floating or bool(np.issubdtype(values.dtype, np.floating))
        hounsfield, least, most = round_hounsfield(values, str(one.path))
        lowest, highest = min(lowest, least), max(highest, most)
        if extra.any():
            _place(array[plane], hounsfield, stack.shifts[plane] - low)
        else:
            array[plane] = hounsfield
    check_range(lowest, highest, floating, source)
    for plane, one in enumerate(stack.planes):
        if one is None:
            around = array[plane - 1].astype(np.float32) + array[plane + 1]
            array[plane] = np.rint(around / 2).astype(np.int16)
    first = stack.first
    origin = np.asarray(first.position) + first.direction[:, :2] @ (low * np.asarray(first.pixel))
    shape = (len(array), rows + int(extra[1]), columns + int(extra[0]))
    return array, Frame(shape, (*first.pixel, stack.step), vector(origin), first.direction)


def _place(canvas: NDArray[np.int16], values: NDArray[np.int16], shift: NDArray[np.float64]) -> None:
    """Put a slice on a larger canvas of air, moved by fractional columns and rows (cubic interpolation)."""
    whole = np.floor(shift + 1e-6).astype(int)
    part = np.maximum(shift - whole, 0.0)
    if part.max() > 1e-6:
        wide = np.pad(values, ((0, 1), (0, 1)), mode="edge").astype(np.float32)
        moved = ndimage.shift(wide, part[::-1], order=3, mode="nearest")
        values = np.clip(np.rint(moved), AIR, 32767).astype(np.int16)
    rows = min(values.shape[0], canvas.shape[0] - whole[1])
    columns = min(values.shape[1], canvas.shape[1] - whole[0])
    canvas[whole[1] : whole[1] + rows, whole[0] : whole[0] + columns] = values[:rows, :columns]


def _pixels(one: Slice) -> NDArray[np.generic]:
    try:
        return read_slice(one)
    except UserError as error:
        raise UnusableError(str(error)) from None


def _count(number: int, kind: str = "") -> str:
    return f"{number} {kind}slice{'' if number == 1 else 's'}"


def _at(one: Slice) -> str:
    return f"{one.along_normal:.5g} mm along the slice normal"
