"""Reading scans and lung masks from any file a radiology group keeps, and writing results beside them."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError, plain
from anatograph.imaging.checks import check_frame, chest_volume
from anatograph.imaging.dicom.choice import inspect_dicom_folder, read_dicom_folder
from anatograph.imaging.dicom.headers import looks_like_dicom, quiet
from anatograph.imaging.formats.header import FileHeader, scale_to_mm
from anatograph.imaging.formats.read import SUFFIXES, read_file_header, suffix_of
from anatograph.imaging.native import native_name
from anatograph.imaging.orientation import lps_frame, lps_view
from anatograph.imaging.sides import label_sides
from anatograph.imaging.volume import Frame, Mask, Volume, vector
from anatograph.imaging.writing import write_array, write_mask, write_volume

__all__ = ["inspect_scan", "read_mask", "read_volume", "write_array", "write_mask", "write_volume"]

_SLACK = 2**26
"""Bytes behind the voxels of a file that are passed over; a file with more of them is not what its header says."""
_MOST_LABELS = 100
"""A file with more different values than this is not a mask."""
PLACEHOLDER = (
    "its voxels are exactly 1 mm, unrotated, with the origin at 0, which is what software writes when it does not know "
    "the geometry; check that the voxels are 1 mm and which way the axes run"
)


def read_volume(path: str | Path) -> Volume:
    """Read a chest CT from a NIfTI, NRRD or MetaImage file or from a folder with a DICOM series.

    The array is in HU, int16, z, y, x, its axes along S, P and L; padding below -1024 is air. ``stored`` keeps the
    frame of the file, ``notes`` what was chosen or repaired. Raises UserError, naming the reason, for everything that
    cannot be a chest CT in Hounsfield units (docs/reading-scans.md lists it all).
    """
    path = Path(path)
    if path.is_dir():
        return read_dicom_folder(path)
    with quiet():
        reader, header = _open(path, "scan", whole=True)
        image = _voxels(path, reader)
    stored, flags = _grid(path, reader, header)
    return chest_volume(sitk.GetArrayViewFromImage(image), stored, str(path), flags=flags)


def read_mask(path: str | Path, like: Volume | None = None) -> Mask:
    """Read a lung mask: whatever is not 0 is lung.

    Two labels are kept as right (1) and left (2) where their place in the patient says so, whichever number they
    carry; one label is split where it falls into two lungs, otherwise it is 3, side not known. With ``like`` the mask
    is laid onto that scan's grid (nearest voxel). Raises UserError where the file is not a mask, is empty, or misses
    the scan.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: a lung mask must be one file ({', '.join(SUFFIXES)}), not a folder.")
    with quiet():
        reader, header = _open(path, "mask", whole=True)
        image = _voxels(path, reader)
    stored, _ = _grid(path, reader, header)
    if not np.isfinite(stored.direction).all() or abs(np.linalg.det(stored.direction)) < 1e-3:
        raise UserError(f"{path}: the direction matrix of the mask is degenerate; save the mask again.")
    labels = _labels(lps_view(sitk.GetArrayViewFromImage(image), stored.direction), str(path))
    frame = lps_frame(stored)
    array = label_sides(labels, frame)
    if like is not None:
        array = _onto(array, frame, like.frame, str(path), like.source)
        frame = like.frame
    return Mask(array, frame)


def _labels(values: NDArray[Any], source: str) -> NDArray[np.uint8]:
    """Label numbers 1, 2, … in order of value, 0 where the value is 0; z, y, x, uint8."""
    found: set[float] = set()
    for plane in values:
        found.update(_unique(plane))
        if not np.isfinite(list(found)).all():
            raise UserError(f"{source}: the mask holds numbers that are not finite; save it again as labels.")
        if len(found) > _MOST_LABELS:
            raise UserError(
                f"{source}: more than {_MOST_LABELS} different values, so this is an image, not a lung mask."
            )
    kept = sorted(found - {0})
    if not kept:
        raise UserError(f"{source}: the mask is empty; draw the lungs, or leave the mask out to have them found.")
    result = np.zeros(values.shape, dtype=np.uint8)
    for number, value in enumerate(kept, start=1):
        result[values == value] = number
    return result


def _unique(plane: NDArray[Any]) -> list[float]:
    """The different numbers of a plane; sorts only where neighbours differ."""
    flat = plane.ravel()
    steps = np.flatnonzero(flat[1:] != flat[:-1])
    return [float(value) for value in np.unique(flat[np.concatenate([[0], steps + 1])])]


def _onto(array: NDArray[np.uint8], frame: Frame, target: Frame, source: str, scan: str) -> NDArray[np.uint8]:
    if frame.same_grid(target, 0.02):
        return array
    from anatograph.imaging.resample import resample_labels

    result = resample_labels(array, frame, target)
    kept = np.count_nonzero(result) * target.voxel_volume / (np.count_nonzero(array) * frame.voxel_volume)
    if kept < 0.5:
        raise UserError(
            f"{source}: only {kept:.0%} of the mask lies on the scan {scan}; check that both belong together and that "
            "neither lost its origin."
        )
    return result


def inspect_scan(path: str | Path, what: str = "scan") -> tuple[str, ...]:
    """Look at the headers of a scan or mask only, and return what will be flagged of it.

    Raises UserError for everything that `read_volume` refuses by the headers; damage among the voxels is not seen.
    """
    path = Path(path)
    if path.is_dir() and what == "scan":
        return inspect_dicom_folder(path)
    with quiet():
        reader, header = _open(path, what)
    stored, flags = _grid(path, reader, header)
    if what != "scan":
        return ()
    check_frame(stored, str(path))
    return flags


def _grid(path: Path, reader: sitk.ImageFileReader, header: FileHeader) -> tuple[Frame, tuple[str, ...]]:
    """The grid of an opened file in LPS mm, and what is odd about it."""
    frame = header.frame
    if frame is None:
        z, y, x = reader.GetSize()[2::-1]
        count = len(reader.GetSize())
        direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(count, count)[:3, :3]
        scale = scale_to_mm(path, header.unit, reader.GetSpacing()[:3])
        spacing, origin = (vector(np.multiply(v[:3], scale)) for v in (reader.GetSpacing(), reader.GetOrigin()))
        frame = Frame((z, y, x), spacing, origin, direction)
    flags = header.flags
    axes = np.abs(np.abs(frame.direction) - np.rint(np.abs(frame.direction))).max()
    if frame.spacing == (1.0, 1.0, 1.0) and not any(frame.origin) and axes < 1e-6:
        flags += (PLACEHOLDER,)
    return frame, flags


def _voxels(path: Path, reader: sitk.ImageFileReader) -> sitk.Image:
    """A three-dimensional image with one number a voxel, as stored."""
    size = reader.GetSize()
    if len(size) > 3:
        reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)}); copy or convert the file again.") from None


def _open(path: Path, what: str, whole: bool = False) -> tuple[sitk.ImageFileReader, FileHeader]:
    """A reader that has read a header with nothing wrong in it; ``whole`` unpacks the file to see that all is there."""
    if not path.exists():
        raise UserError(f"{path}: this file or folder does not exist; check the path.")
    if suffix_of(path) is None:
        if looks_like_dicom(path):
            raise UserError(f"{path}: this is a single DICOM file; give the folder that holds the whole series.")
        raise UserError(f"{path}: not a {what} by its name; give {', '.join(SUFFIXES)} or a folder with DICOM files.")
    header = read_file_header(path)
    packed = path.name.lower().endswith(".gz")
    present = _uncompressed_size(path, header) if whole or not packed else header.needed
    reader = sitk.ImageFileReader()
    reader.SetFileName(native_name(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)}); copy or convert the file again.") from None
    size = [int(n) for n in reader.GetSize()]
    if reader.GetNumberOfComponents() != 1:
        raise UserError(
            f"{path}: {reader.GetNumberOfComponents()} numbers at every voxel (colour or vectors); a {what} has one."
        )
    if len(size) < 3:
        raise UserError(f"{path}: a flat picture of {' × '.join(map(str, size))}; give the whole {what} in one file.")
    if any(n != 1 for n in size[3:]):
        raise UserError(
            f"{path}: {len(size)} dimensions ({' × '.join(map(str, size))}); split the series and give one {what}."
        )
    if path.name.lower().endswith((".nii", ".nii.gz")):
        needed = header.needed
        if present < needed:
            raise UserError(
                f"{path}: the file is damaged or cut short, {present} bytes of {needed}; copy or convert it again."
            )
    if path.name.lower().endswith((".nrrd", ".nhdr")):
        # ITK turns the three spaces it knows into this one and takes the others as they come.
        space = reader.GetMetaData("NRRD_space") if reader.HasMetaDataKey("NRRD_space") else "not given"
        if space != "left-posterior-superior":
            raise UserError(
                f"{path}: the file does not say how the voxels lie in the patient (its space is {space}), so left and "
                "right are unknown; save it with the space left-posterior-superior."
            )
    return reader, header


def _uncompressed_size(path: Path, header: FileHeader) -> int:
    """Bytes in a file, unpacked if it is a gzip.

    Raises UserError where that is cut short, changed, or far too much, and where a NIfTI file holds numbers that are
    not finite, which ITK takes for 0 without a word.
    """
    packed = path.name.lower().endswith(".gz")
    if not packed and header.floats is None:
        return path.stat().st_size
    size = 0
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            while block := file.read(2**22):
                _check_finite(block, size, header, path)
                size += len(block)
                if packed and size > header.needed + _SLACK:
                    raise UserError(
                        f"{path}: it unpacks to far more than the {header.needed:,} bytes that its header states, "
                        "so it is not what its name says; copy or convert it again."
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path}: the file cannot be read whole, it is damaged or cut short ({error}); copy or convert it again."
        ) from None
    return size


def _check_finite(block: bytes, at: int, header: FileHeader, path: Path) -> None:
    """Refuse a block of a file, from byte ``at`` on, that holds floating-point voxels that are not numbers."""
    if header.floats is None:
        return
    begin, kind = header.floats
    width = np.dtype(kind).itemsize
    start = max(0, begin - at)
    start += -(at + start - begin) % width
    usable = (min(len(block), header.needed - at) - start) // width
    if usable > 0 and not np.isfinite(np.frombuffer(block, kind, usable, start)).all():
        raise UserError(
            f"{path}: there are voxels that are not finite numbers (NaN or infinite); write the scan again with air "
            "(-1024) in their place."
        )


def _reason(error: RuntimeError) -> str:
    """What an ITK exception says, which is its last line."""
    if "orthonormal" in str(error):
        return "its axes are not at right angles, as after an uncorrected gantry tilt"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines and not lines[-1].startswith("Reason") else "damaged or cut short"
    return plain(text.split("ERROR: ")[-1].removesuffix("."))[:200]
