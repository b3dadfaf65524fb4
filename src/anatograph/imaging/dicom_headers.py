"""What the headers of the DICOM files in a folder say, without reading their pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.imaging.orientation import vector
from anatograph.imaging.volume import Vector

_CT_CLASSES = (b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.2.1", b"1.2.840.10008.5.1.4.1.1.2.2")
"""Media storage classes of CT images: plain, enhanced, legacy converted."""


@dataclass(frozen=True, eq=False)
class Slice:
    """The header of one DICOM image file."""

    path: Path
    tags: dict[str, str]
    """Public tags as text, by ``gggg|eeee``; absent ones are missing."""
    size: tuple[int, ...]
    """Columns, rows, frames."""
    pixel: tuple[float, float]
    """mm between columns, between rows."""
    position: Vector
    """LPS mm of the centre of the first pixel (ImagePositionPatient)."""
    direction: NDArray[np.float64]
    """(3, 3), columns: along a row of pixels, down a column of pixels, the slice normal (LPS)."""
    components: int
    """Numbers per pixel; 3 in a colour picture."""

    def tag(self, key: str) -> str:
        """The text of a tag, stripped; empty where it is absent."""
        return self.tags.get(key, "").strip(" \0")

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.tag("0020|000e")

    @property
    def modality(self) -> str:
        """Modality, such as CT."""
        return self.tag("0008|0060").upper()

    @property
    def image_type(self) -> tuple[str, ...]:
        """ImageType, in capitals: ORIGINAL or DERIVED, PRIMARY or SECONDARY, AXIAL or LOCALIZER, …"""
        return tuple(part.strip().upper() for part in self.tag("0008|0008").split("\\"))

    @property
    def along_normal(self) -> float:
        """Position along the slice normal in mm, by which slices are put in order."""
        return float(np.dot(self.position, self.direction[:, 2]))

    @property
    def is_axial(self) -> bool:
        """Whether the slice normal is within 45 degrees of the body's long axis."""
        return bool(abs(self.direction[2, 2]) > np.sqrt(0.5))

    @property
    def is_placed(self) -> bool:
        """Whether the header says where the slice lies and how large its pixels are."""
        return all(self.tag(key) for key in ("0020|0032", "0020|0037", "0028|0030"))


@dataclass(frozen=True, eq=False)
class Headers:
    """All DICOM files of a folder and those below it."""

    slices: list[Slice]
    """Files that hold an image."""
    without_image: list[Path]
    """DICOM files that hold none (reports, plans, directories)."""
    damaged: list[Path]
    """CT images that cannot be read."""


_TAGS = {
    "0008|0008",  # ImageType
    "0008|0016",  # SOPClassUID
    "0008|0018",  # SOPInstanceUID
    "0008|0060",  # Modality
    "0008|103e",  # SeriesDescription
    "0010|0020",  # PatientID
    "0018|1120",  # GantryDetectorTilt
    "0018|1210",  # ConvolutionKernel
    "0020|000e",  # SeriesInstanceUID
    "0020|0011",  # SeriesNumber
    "0020|0012",  # AcquisitionNumber
    "0020|0032",  # ImagePositionPatient
    "0020|0037",  # ImageOrientationPatient
    "0020|0100",  # TemporalPositionIdentifier
    "0028|0004",  # PhotometricInterpretation
    "0028|0030",  # PixelSpacing
    "0028|0120",  # PixelPaddingValue
    "0028|1052",  # RescaleIntercept
    "0028|1053",  # RescaleSlope
}


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, whatever its name."""
    return bool(_beginning(path))


def _beginning(path: Path) -> bytes:
    """The first kilobyte of a DICOM file; nothing if it is none."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return b""
    if head[128:132] == b"DICM":
        return head
    # Old files come without the preamble: then a data set in little endian starts at once, with group 8 or 2.
    bare = len(head) > 16 and head[:2] in (b"\x08\0", b"\x02\0") and head[3:4] == b"\0" and head[4:5].isalnum()
    return head if bare else b""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK's warnings off the terminal; what matters in them is checked and said in plain words."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def slice_reader() -> sitk.ImageFileReader:
    """A reader that takes a file as DICOM whatever its name."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    return reader


def read_headers(folder: Path) -> Headers:
    """The headers of every DICOM file in ``folder`` and the folders below it, in the order of their paths."""
    headers = Headers([], [], [])
    reader = slice_reader()
    for path in _files(folder):
        head = _beginning(path)
        if not head:
            continue
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            (headers.damaged if _is_ct(head) else headers.without_image).append(path)
            continue
        size = tuple(int(n) for n in reader.GetSize())
        spacing = reader.GetSpacing()
        headers.slices.append(
            Slice(
                path=path,
                tags={key: reader.GetMetaData(key) for key in _TAGS if reader.HasMetaDataKey(key)},
                size=(*size, 1)[:3],
                pixel=(float(spacing[0]), float(spacing[1])),
                position=vector((*reader.GetOrigin(), 0.0)[:3]),
                direction=np.asarray(reader.GetDirection(), dtype=np.float64).reshape(len(size), len(size)),
                components=int(reader.GetNumberOfComponents()),
            )
        )
    return headers


def _files(folder: Path) -> list[Path]:
    """All files below ``folder``, links to folders followed, each folder once."""
    files: list[Path] = []
    seen: set[str] = set()
    for where, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(where)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        files.extend(Path(where, name) for name in names)
    return sorted(files)


def _is_ct(head: bytes) -> bool:
    """Whether the file meta information names a CT image as what the file holds."""
    return any(uid in head for uid in _CT_CLASSES)
