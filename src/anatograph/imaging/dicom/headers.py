"""What the headers of the DICOM files in a folder say, without reading their pixels.

Nothing that names a person is kept but PatientID, by which two people in one folder are told apart; it is never shown.
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
from anatograph.imaging.dicom.codestream import picture_size
from anatograph.imaging.dicom.elements import DamagedError, Elements, looks_like_dicom, read_elements
from anatograph.imaging.volume import Vector, vector
from anatograph.limits import MAX_FOLDER_FILES

__all__ = ["Headers", "Slice", "folder_files", "looks_like_dicom", "quiet", "read_headers", "slice_reader"]

_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))
"""Transfer syntaxes whose pictures tell their size at their beginning."""
_LARGEST_PLANE = 2**26
"""Pixels of one image; a CT slice has up to 2048 × 2048."""
_LARGEST_NUMBER = 1e7
"""mm; no place and no pixel size of a scanner is larger."""

_CT_CLASSES = (b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.2.1", b"1.2.840.10008.5.1.4.1.1.2.2")
"""Media storage classes of CT images: plain, enhanced, legacy converted."""


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
        """Position along the slice normal in mm, by which slices are put in order."""
        return float(np.dot(self.position, self.direction[:, 2]))

    @property
    def is_axial(self) -> bool:
        """Whether the slice normal is within 45 degrees of the body's long axis."""
        return bool(abs(self.direction[2, 2]) > np.sqrt(0.5))

    @property
    def is_placed(self) -> bool:
        """Whether the header says where the slice lies and how large its pixels are."""
        return all(
            np.isfinite(_numbers(self.value(key), count, np.nan)).all()
            for key, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
        )


@dataclass(frozen=True, eq=False)
class Headers:
    """All DICOM files of a folder and those below it."""

    slices: list[Slice]
    """Files that hold an image."""
    without_image: list[Path]
    """DICOM files that hold none (reports, plans, directories)."""
    damaged: list[tuple[Path, str]]
    """CT images that cannot be read, each with the reason as a clause."""


_KEYWORDS = frozenset(
    {
        "ImageType",
        "SOPClassUID",
        "SOPInstanceUID",
        "Modality",
        "PatientID",
        "ContrastBolusAgent",
        "BodyPartExamined",
        "GantryDetectorTilt",
        "ConvolutionKernel",
        "PatientPosition",
        "SeriesInstanceUID",
        "SeriesNumber",
        "AcquisitionNumber",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "TemporalPositionIdentifier",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "PixelSpacing",
        "BitsAllocated",
        "PixelPaddingValue",
        "RescaleIntercept",
        "RescaleSlope",
    }
)


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
    headers = Headers([], [], [])
    for path in folder_files(folder):
        try:
            elements = read_elements(path, _KEYWORDS)
            if elements is None:
                continue
            if not elements.has_pixels:
                headers.without_image.append(path)
                continue
            headers.slices.append(_slice(path, elements))
        except DamagedError as error:
            if _is_ct(path):
                headers.damaged.append((path, str(error)))
            else:
                headers.without_image.append(path)
        except OSError as error:
            headers.damaged.append((path, error.strerror or "it cannot be opened"))
    return headers


def _slice(path: Path, elements: Elements) -> Slice:
    values = elements.values
    columns, rows, frames, bits = (
        int(_numbers(values.get(key, ""), 1, default)[0])
        for key, default in (("Columns", 0), ("Rows", 0), ("NumberOfFrames", 1), ("BitsAllocated", 16))
    )
    if not (rows > 0 and columns > 0 and frames > 0):
        raise DamagedError("it does not say how many pixels it has")
    if rows * columns > _LARGEST_PLANE:
        raise DamagedError(f"it claims {columns} × {rows} pixels")
    components = int(_numbers(values.get("SamplesPerPixel", ""), 1, 1)[0])
    needed = rows * columns * frames * components * ((bits + 7) // 8)
    if elements.pixel_bytes is not None and elements.pixel_bytes < needed:
        raise DamagedError(f"it is cut short, {elements.pixel_bytes} bytes of pixels out of {needed}")
    if elements.transfer_syntax in _JPEG and picture_size(elements.stream) != (columns, rows):
        raise DamagedError("its compressed picture is not of the size that the header says")
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
    )


def _numbers(text: str, count: int, default: float) -> list[float]:
    """``count`` numbers parted by backslashes; the default for each where they are not all there and finite."""
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


def _is_ct(path: Path) -> bool:
    """Whether the file meta information names a CT image as what the file holds."""
    with path.open("rb") as file:
        head = file.read(1024)
    return any(uid in head for uid in _CT_CLASSES)
