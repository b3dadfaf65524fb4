"""The headers of the DICOM files in a folder, without their pixels.

Nothing that identifies a patient is kept but PatientID, which separates two patients in one folder and is never shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.dicom.bounded import DamagedError
from anatograph.imaging.dicom.codestream import picture_size
from anatograph.imaging.dicom.elements import Elements, is_packed_dicom, looks_like_dicom, read_elements
from anatograph.imaging.volume import Vector, vector
from anatograph.limits import MAX_FOLDER_FILES

__all__ = ["Headers", "Slice", "folder_files", "looks_like_dicom", "quiet", "read_headers", "slice_reader"]

LOCALIZERS = {"LOCALIZER", "SCOUT", "TOPOGRAM"}
"""Values of ImageType of a localizer."""
_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))
"""Transfer syntaxes whose pictures begin with their size."""
_LARGEST_PLANE = 2**26
"""Pixels of one image; a CT slice has up to 2048 × 2048."""
_LARGEST_NUMBER = 1e7
"""mm; no place and no pixel size of a scanner is larger."""

_CT_CLASSES = {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}
"""Storage classes of CT images: plain, enhanced, legacy converted."""
_SUFFIXES = {".dcm", ".dicom", ".ima"}
_PACKED = "DICOM packed by gzip; unpack them with gunzip"
_NOT_DICOM = "not DICOM though named so"


@dataclass(frozen=True, eq=False)
class Slice:
    """The header of one DICOM image file."""

    path: Path
    values: dict[str, str]
    """Elements as text, by DICOM keyword; absent ones are missing."""
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
    transfer_syntax: str = ""
    """TransferSyntaxUID: how the pixels are written."""
    pixels_at: int | None = None
    """Byte of the file at which uncompressed pixels begin, where they do."""

    def value(self, keyword: str) -> str:
        """The text of an element, stripped; empty where it is absent."""
        return self.values.get(keyword, "").strip(" \0")

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self.value("SeriesInstanceUID")

    @property
    def modality(self) -> str:
        """Modality, such as CT."""
        return self.value("Modality").upper()

    @property
    def image_type(self) -> tuple[str, ...]:
        """ImageType, in capitals: ORIGINAL or DERIVED, PRIMARY or SECONDARY, AXIAL or LOCALIZER, …"""
        return tuple(part.strip().upper() for part in self.value("ImageType").split("\\"))

    @property
    def along_normal(self) -> float:
        """Position along the slice normal in mm, by which slices are ordered."""
        return float(np.dot(self.position, self.direction[:, 2]))

    @property
    def is_axial(self) -> bool:
        """Whether the slice normal is within 45 degrees of the body's long axis."""
        return bool(abs(self.direction[2, 2]) > np.sqrt(0.5))

    @property
    def is_placed(self) -> bool:
        """Whether the header says where the slice lies and how large its pixels are."""
        found = [
            _numbers(self.value(key), count, np.nan)
            for key, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
        ]
        return all(np.isfinite(one).all() for one in found) and min(found[2]) > 0


@dataclass(frozen=True, eq=False)
class Damaged:
    """A CT image that cannot be read."""

    path: Path
    reason: str
    """A clause."""
    values: dict[str, str]
    """What was read of its elements, by DICOM keyword."""

    @property
    def is_localizer(self) -> bool:
        """Whether it is a localizer, which no scan needs."""
        return bool(LOCALIZERS & {part.strip().upper() for part in self.values.get("ImageType", "").split("\\")})


@dataclass(frozen=True, eq=False)
class Headers:
    """All DICOM files of a folder and those below it."""

    slices: list[Slice]
    """Files that hold an image."""
    without_image: list[Path]
    """DICOM files that hold none (reports, plans, directories)."""
    damaged: list[Damaged]
    """CT images that cannot be read."""
    passed: list[str]
    """Files that were passed over though they may belong to a scan, in words."""


_KEYWORDS = frozenset({
    "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "Modality", "PatientID", "StudyInstanceUID",
    "FrameOfReferenceUID", "InstanceNumber", "KVP", "SliceThickness", "FilterType", "ReconstructionDiameter",
    "RescaleType", "PixelPaddingRangeLimit", "PixelRepresentation", "BitsStored", "HighBit", "ContrastBolusAgent",
    "BodyPartExamined", "GantryDetectorTilt", "ConvolutionKernel", "PatientPosition", "SeriesInstanceUID",
    "SeriesNumber", "AcquisitionNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "TemporalPositionIdentifier", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows",
    "Columns", "PixelSpacing", "BitsAllocated", "PixelPaddingValue", "RescaleIntercept", "RescaleSlope",
})  # fmt: skip


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
    """The headers of every DICOM file in ``folder`` and the folders below it, in the order of their paths.

    Raises:
        UserError: more files than any scan has.
    """
    headers = Headers([], [], [], [])
    packed: list[Path] = []
    unreadable: list[Path] = []
    for path in folder_files(folder):
        try:
            elements = read_elements(path, _KEYWORDS)
            if elements is None:
                if is_packed_dicom(path):
                    packed.append(path)
                elif path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file():
                    unreadable.append(path)
                continue
            if not elements.has_pixels:
                headers.without_image.append(path)
                continue
            headers.slices.append(_slice(path, elements))
        except DamagedError as error:
            if _is_ct(error):
                headers.damaged.append(Damaged(path, str(error), error.values))
            else:
                headers.without_image.append(path)
        except OSError as error:
            headers.damaged.append(Damaged(path, error.strerror or "it cannot be opened", {}))
    for kind, files in ((_PACKED, packed), (_NOT_DICOM, unreadable)):
        if files:
            count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
            headers.passed.append(f"{count} {kind} (such as {files[0].name})")
    return headers


def _slice(path: Path, elements: Elements) -> Slice:
    values = elements.values
    columns, rows, frames, bits = (
        int(_numbers(values.get(key, ""), 1, default)[0])
        for key, default in (("Columns", 0), ("Rows", 0), ("NumberOfFrames", 1), ("BitsAllocated", 16))
    )
    if not (rows > 0 and columns > 0 and frames > 0):
        raise _damage(elements, "it does not say how many pixels it has")
    if rows * columns > _LARGEST_PLANE:
        raise _damage(elements, f"it claims {columns} × {rows} pixels")
    components = int(_numbers(values.get("SamplesPerPixel", ""), 1, 1)[0])
    if values.get("Modality", "CT").strip().upper() == "CT":  # other objects are not scans, and need not be whole
        needed = (rows * columns * frames * components * bits + 7) // 8
        if elements.pixel_bytes is not None and elements.pixel_bytes < needed:
            raise _damage(elements, f"it is cut short, {elements.pixel_bytes} bytes of pixels out of {needed}")
        if elements.transfer_syntax in _JPEG and picture_size(elements.stream) != (columns, rows):
            raise _damage(elements, "its compressed picture is not of the size that the header says")
    row_step, column_step = _numbers(values.get("PixelSpacing", ""), 2, 1.0)
    direction = np.eye(3)
    cosines = np.asarray(_numbers(values.get("ImageOrientationPatient", ""), 6, np.nan))
    if np.isfinite(cosines).all():
        along, down = cosines[:3], cosines[3:]
        direction = np.stack([along, down, np.cross(along, down)], axis=1)
    return Slice(
        path=path,
        values=values,
        size=(columns, rows, frames),
        pixel=(column_step, row_step),
        position=vector(_numbers(values.get("ImagePositionPatient", ""), 3, 0.0)),
        direction=direction,
        components=components,
        transfer_syntax=elements.transfer_syntax,
        pixels_at=elements.pixels_at,
    )


def _damage(elements: Elements, reason: str) -> DamagedError:
    error = DamagedError(reason)
    error.values, error.storage_class = elements.values, elements.storage_class
    return error


def _numbers(text: str, count: int, default: float) -> list[float]:
    """``count`` numbers separated by backslashes; the default for each unless all are present and finite."""
    try:
        found = [float(part) for part in text.split("\\")[:count]]
    except ValueError:
        found = []
    if len(found) != count or not np.isfinite(found).all() or max(map(abs, found)) > _LARGEST_NUMBER:
        return [default] * count
    return found


def folder_files(folder: Path) -> list[Path]:
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
        if len(files) > MAX_FOLDER_FILES or len(seen) > MAX_FOLDER_FILES:
            raise UserError(
                f"{folder}: more than {MAX_FOLDER_FILES} files lie below this folder (links are followed); give the "
                "folder of the one scan."
            )
    return sorted(files)


def _is_ct(error: DamagedError) -> bool:
    """Whether what was read of a damaged file names a CT image as its content."""
    modality = error.values.get("Modality", "").strip().upper()
    classes = {error.storage_class, error.values.get("SOPClassUID", "")}
    return modality == "CT" or (not modality and bool(classes & _CT_CLASSES))
