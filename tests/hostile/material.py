"""What awkward inputs are made of: a small chest, a drawn person, and writers that leave things out."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.imaging.volume import Frame, Volume
from anatograph.imaging.writing import write_volume
from anatograph.phantoms import PhantomSettings, PhantomSubject, make_subject
from fixtures.chest import SeriesWriter, chest_array, sitk_image

image = sitk_image


@cache
def chest() -> NDArray[np.int16]:
    """(24, 40, 48) HU, z, y, x: enough for the readers."""
    return chest_array()


def write(path: Path, values: NDArray[Any] | None = None, **frame: Any) -> Path:
    """A chest in a volume file."""
    sitk.WriteImage(sitk_image(chest() if values is None else values, **frame), str(path))
    return path


def series(folder: Path, values: NDArray[Any] | None = None, **options: Any) -> Path:
    """A chest as a folder of DICOM files."""
    return SeriesWriter(chest() if values is None else values, **options).write(folder)


def nifti_header(size: tuple[int, int, int]) -> bytes:
    """A NIfTI header and nothing behind it."""
    head = bytearray(352)
    head[0:4] = struct.pack("<i", 348)
    head[40:56] = struct.pack("<8h", 3, *size, 1, 1, 1, 1)
    head[70:74] = struct.pack("<2h", 4, 16)
    head[76:108] = struct.pack("<8f", 1, 1, 1, 1, 1, 1, 1, 1)
    head[108:120] = struct.pack("<3f", 352, 1, 0)
    head[252:256] = struct.pack("<2h", 1, 0)
    head[344:348] = b"n+1\0"
    return bytes(head)


@cache
def person() -> PhantomSubject:
    """A drawn subject at 4 mm with true lungs, its heart well to the left and without contrast agent."""
    return make_subject(19, 1, PhantomSettings(spacing_mm=4.0))


def save(folder: Path, array: NDArray[Any], frame: Frame | None = None) -> Path:
    """HU on a grid (by default the person's) as a file."""
    frame = frame or person().volume.frame
    frame = Frame((array.shape[0], array.shape[1], array.shape[2]), frame.spacing, frame.origin)
    write_volume(folder / "scan.nii.gz", Volume(np.ascontiguousarray(array, dtype=np.int16), frame))
    return folder / "scan.nii.gz"


def patched(folder: Path, *edits: tuple[object, ...]) -> Path:
    """The chest as NIfTI with header fields replaced: (offset, struct format, values …)."""
    path = write(folder / "scan.nii")
    data = bytearray(path.read_bytes())
    for at, form, *values in edits:
        struct.pack_into(f"<{form}", data, at, *values)
    path.write_bytes(bytes(data))
    return path
