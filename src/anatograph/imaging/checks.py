"""What is refused on reading, and why: grids that cannot be a chest CT, and values that cannot be Hounsfield units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.content import AIR, check_content, clear_background
from anatograph.imaging.orientation import lps_frame, lps_view
from anatograph.imaging.volume import Frame, Volume

MIN_SLICES = 16
"""A chest has at least this many slices."""
MAX_SPACING = 10.0
"""mm; with thicker slices a 32 mm patch would span only three of them."""
_SHIFTED = -930
"""HU; soft tissue comes to lie below it where the intercept of -1024 is subtracted twice."""
MIN_SPACING = 0.05
"""mm; less means that the file is in other units."""


def chest_volume(
    values: NDArray[Any], stored: Frame, source: str, notes: tuple[str, ...] = (), flags: tuple[str, ...] = ()
) -> Volume:
    """A chest CT in HU with axes along S, P and L, from numbers (z, y, x) of any type on the frame of their file.

    Raises UserError where the grid or the numbers cannot be those of a chest CT.
    """
    check_frame(stored, source)
    array = to_hounsfield(lps_view(values, stored.direction), source)
    flags += clear_background(array)
    check_hounsfield(array, source)
    check_content(array, source)
    return Volume(array, lps_frame(stored), stored, source, notes, flags)


def check_frame(frame: Frame, source: str) -> None:
    """Refuse a grid that is degenerate, too coarse or too thin; ``source`` names the scan in the message."""
    numbers = [*frame.spacing, *frame.origin, *frame.direction.ravel()]
    if not np.isfinite(numbers).all():
        raise UserError(f"{source}: spacing, origin or direction is not a finite number; convert the scan again.")
    product = frame.direction.T @ frame.direction
    if abs(np.linalg.det(frame.direction)) < 1e-3 or np.abs(np.diag(product) - 1).max() > 1e-2:
        raise UserError(
            f"{source}: the direction matrix {np.round(frame.direction, 4).tolist()} is degenerate, so the places "
            "of the voxels are unknown; convert the scan again from its DICOM files."
        )
    if np.abs(product - np.eye(3)).max() > 1e-2:
        raise UserError(
            f"{source}: the axes are not at right angles (direction {np.round(frame.direction, 4).tolist()}), as after "
            "an uncorrected gantry tilt; resample the scan onto a rectangular grid first."
        )
    if min(frame.spacing) < MIN_SPACING:
        raise UserError(
            f"{source}: voxel spacing {_xyz(frame.spacing)} mm is not possible for a CT; correct the header (spacing "
            "is in millimetres)."
        )
    if max(frame.spacing) > MAX_SPACING:
        raise UserError(
            f"{source}: slices are {max(frame.spacing):g} mm apart, and more than {MAX_SPACING:g} mm is too coarse to "
            "cut patches from; use a thinner reconstruction."
        )
    if min(frame.shape) < MIN_SLICES:
        raise UserError(
            f"{source}: only {min(frame.shape)} slices, and at least {MIN_SLICES} are needed; give the whole scan."
        )


def _xyz(values: tuple[float, ...]) -> str:
    return " × ".join(f"{value:g}" for value in values)


def to_hounsfield(values: NDArray[Any], source: str) -> NDArray[np.int16]:
    """Round (z, y, x) numbers of any type to int16 HU, with everything below -1024 made air.

    Works a few slices at a time, so beyond the two arrays hardly any memory is used. Raises UserError where a number
    is not finite or the numbers cannot be HU by their range.
    """
    result = np.empty(values.shape, dtype=np.int16)
    lowest, highest = np.inf, -np.inf
    step = max(1, 2**21 // max(1, values[0].size))
    for start in range(0, len(values), step):
        result[start : start + step], low, high = round_hounsfield(values[start : start + step], source)
        lowest, highest = min(lowest, low), max(highest, high)
    check_range(lowest, highest, bool(np.issubdtype(values.dtype, np.floating)), source)
    return result


def round_hounsfield(block: NDArray[Any], source: str) -> tuple[NDArray[np.int16], float, float]:
    """A block of numbers of any type as int16 HU, not below -1024, with the least and greatest of the numbers."""
    low, high = float(block.min()), float(block.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(
            f"{source}: there are voxels that are not finite numbers (NaN or infinite), {(~np.isfinite(block)).sum()} "
            "in the first slices that have any; write the scan again with air (-1024) in their place."
        )
    clipped = np.clip(block, AIR, 32767)
    if np.issubdtype(block.dtype, np.floating):
        clipped = np.rint(clipped)
    return clipped.astype(np.int16), low, high


def check_range(lowest: float, highest: float, floating: bool, source: str) -> None:
    """Refuse a volume by the smallest and largest number in it, before any rounding."""
    found = f"{source}: the numbers run from {lowest:g} to {highest:g}"
    fix = "convert the scan again from its DICOM files without windowing or scaling"
    if lowest == highest:
        raise UserError(f"{source}: every voxel holds {lowest:g}; this is not a scan.")
    if floating and lowest >= -1.5 and highest <= 1.5:
        raise UserError(f"{found}, as after windowing to [0, 1] or [-1, 1], and are not Hounsfield units; {fix}.")
    if lowest >= 0 and highest <= 255:
        raise UserError(f"{found}, as in an 8-bit picture that was already windowed, not Hounsfield units; {fix}.")
    if highest - lowest < 500:
        raise UserError(f"{found}, too narrow for the Hounsfield units of a chest; {fix}.")
    if highest > 32767:
        raise UserError(f"{found}, beyond any Hounsfield unit; {fix}.")
    if lowest >= 0:
        raise UserError(
            f"{found} with nothing below 0, so air cannot be at -1000 HU: these look like stored values without the "
            "rescale intercept (usually -1024); subtract it, or convert the scan again from its DICOM files."
        )
    if lowest > -700:
        raise UserError(f"{found} with nothing below -700 HU, where lung and air should be; {fix}.")


def check_hounsfield(array: NDArray[np.int16], source: str) -> None:
    """Refuse a volume whose histogram cannot be that of a chest in HU (z, y, x, as `to_hounsfield` gives it).

    A chest has lung or air, and soft tissue near 0 HU; and the greatest number is a voxel or two of bone or metal,
    where a window leaves hundreds of thousands of voxels at its upper end.
    """
    stride = max(1, round((array.size / 4e6) ** (1 / 3)))
    sample = np.minimum(array[::stride, ::stride, ::stride], 4095 + AIR)
    counts = np.bincount(sample.ravel().astype(np.intp) - AIR, minlength=4096)

    def part(low: int, high: int) -> float:
        """Share of voxels from ``low`` HU to below ``high`` HU."""
        return float(counts[low - AIR : high - AIR].sum() / counts.sum())

    fix = "convert the scan again from its DICOM files"
    if part(AIR + 1, -200) < 0.002:
        raise UserError(
            f"{source}: hardly any voxel lies between -1023 and -200 HU, where lung and air should be; the rescale "
            f"intercept was left out, the numbers were scaled, or the lungs were masked out; {fix}."
        )
    if part(-150, 200) < 0.005:
        raise UserError(
            f"{source}: hardly any voxel lies between -150 and 200 HU, where soft tissue should be: {_cause(counts)}; "
            f"{fix}."
        )
    top = int(np.flatnonzero(counts)[-1])
    below = counts[max(0, top - 20) : top].mean()
    tissue = counts[-150 - AIR : 100 - AIR]
    noisy = tissue.max() < 0.1 * tissue.sum()  # a drawn phantom without noise has such heaps of its own
    # archives that cut bone off at about 1000 HU lose nothing here; a rescaled window leaves far more at its end
    heap = 1e-3 if top + AIR < 900 else 1e-2
    if top + AIR < 3000 and noisy and counts[top] > heap * counts.sum() and counts[top] > 10 * below:
        raise UserError(
            f"{source}: {counts[top] / counts.sum():.1%} of all voxels hold the greatest number, {top + AIR}, as after "
            f"clipping to a window; {fix} without windowing."
        )


def _cause(counts: NDArray[np.int64]) -> str:
    """Why a scan may lack soft tissue, by its histogram from -1024 HU."""
    heap = int(counts.argmax())
    share = counts[heap] / counts.sum()
    rest = counts.copy()
    rest[heap] = 0
    middle = int(np.searchsorted(rest.cumsum(), rest.sum() / 2)) + AIR
    if share > 0.5 and middle > _SHIFTED:
        return f"{share:.0%} of the voxels hold exactly {heap + AIR} HU, so everything but the lungs seems masked out"
    return "the numbers were scaled or shifted, as by a rescale intercept that is wrong or was subtracted twice"
