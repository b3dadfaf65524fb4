"""The pixels of one DICOM slice, rescaled, with declared padding made air."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.content import AIR, border_region
from anatograph.imaging.dicom.headers import Slice, slice_reader
from anatograph.imaging.native import native_name

_METAL = 2500
"""HU; what is declared as padding above it is padding wherever it lies."""
_SMALLEST = 1e-3
"""Share of a slice below which a region at its border is not taken for padding."""
_NATIVE = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
"""Transfer syntaxes of plain little-endian pixels."""


def read_slice(one: Slice) -> NDArray[Any]:
    """Rows × columns of a file, slope and intercept applied (by GDCM, once).

    GDCM refuses overlays whose size is not a multiple of eight; plain pixels are then read from their place.
    Raises UserError where the pixels cannot be read.
    """
    reader = slice_reader()
    reader.SetFileName(native_name(one.path))
    try:
        values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        values = _native(one)
        if values is None:
            raise UserError(
                f"{one.path}: the pixels of this DICOM file cannot be read; it is damaged or cut short, copy it again."
            ) from None
    if values.size != one.size[0] * one.size[1]:
        raise UserError(
            f"{one.path}: the number of pixels of this DICOM file is not that of its header; copy it again."
        )
    return np.asarray(values.reshape(values.shape[-2:]))


def without_padding(values: NDArray[Any], one: Slice) -> NDArray[Any]:
    """A slice in which declared padding is air (-1024).

    Padding is what PixelPaddingValue (to PixelPaddingRangeLimit) declares, in regions that reach the border of the
    image: elsewhere the same value may be tissue, as de-identified files declare 0 without meaning it.
    """
    ends = [_padding(one, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return values
    low, high = sorted((ends[0], ends[0] if ends[1] is None else ends[1]))
    if high <= AIR:
        return values  # made air with everything below -1024
    declared = (values >= low - 1e-3) & (values <= high + 1e-3)
    if low < _METAL:
        sides = (declared[0], declared[-1], declared[:, 0], declared[:, -1])
        if not any(side.any() for side in sides):
            return values
        declared = border_region(declared)
        if np.count_nonzero(declared) < _SMALLEST * declared.size:
            return values
    return np.where(declared, np.asarray(AIR, dtype=values.dtype), values)


def _padding(one: Slice, keyword: str) -> float | None:
    """A padding value in HU; None where it is not given."""
    raw = number(one, keyword, np.nan)
    if not np.isfinite(raw):
        return None
    signed, bits = number(one, "PixelRepresentation", 0) == 1, int(number(one, "BitsAllocated", 16))
    # Its value representation follows that of the pixels, and is often written as the other.
    if signed and raw >= 2 ** (bits - 1):
        raw -= 2**bits
    elif not signed and raw < 0:
        raw += 2**bits
    return raw * (number(one, "RescaleSlope", 1.0) or 1.0) + number(one, "RescaleIntercept", 0.0)


def _native(one: Slice) -> NDArray[Any] | None:
    """Plain 16-bit pixels, masked to their stored bits and rescaled; None for others."""
    bits, stored, high = (int(number(one, keyword, default)) for keyword, default in
                          (("BitsAllocated", 16), ("BitsStored", 16), ("HighBit", -1)))  # fmt: skip
    high = stored - 1 if high < 0 else high
    if bits != 16 or not 1 <= stored <= 16 or high != stored - 1 or one.pixels_at is None:
        return None
    if one.transfer_syntax not in _NATIVE:
        return None
    columns, rows, _ = one.size
    raw = np.fromfile(one.path, dtype="<u2", count=rows * columns, offset=one.pixels_at)
    if raw.size != rows * columns:
        return None
    wide = (raw & np.uint16(2**stored - 1)).astype(np.int32)
    if number(one, "PixelRepresentation", 0) == 1:
        wide[wide >= 2 ** (stored - 1)] -= 2**stored
    slope, intercept = number(one, "RescaleSlope", 1.0) or 1.0, number(one, "RescaleIntercept", 0.0)
    if slope == int(slope) and intercept == int(intercept):
        wide = wide * int(slope) + int(intercept)
        return wide.reshape(rows, columns)
    return (wide * slope + intercept).reshape(rows, columns)


def number(one: Slice, keyword: str, default: float) -> float:
    """The first number of an element; ``default`` where it is missing or none."""
    try:
        return float(one.value(keyword).split("\\")[0])
    except ValueError:
        return default
