"""The header of a volume file, by the ending of its name.

ITK allocates what a header asks for and follows the file names in it; here both are checked first, in a few hundred
bytes and without the voxels. The texts a header carries are kept for `anatograph.imaging.identity`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anatograph.errors import UserError
from anatograph.imaging.formats.header import FileHeader
from anatograph.imaging.formats.metaimage import read_metaimage
from anatograph.imaging.formats.nifti import read_nifti
from anatograph.imaging.formats.nrrd import read_nrrd
from anatograph.limits import check_scan_size

READERS: dict[str, Callable[[Path], FileHeader]] = {
    ".nii.gz": read_nifti,
    ".nii": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
    ".mha": read_metaimage,
    ".mhd": read_metaimage,
}
"""Reader of the header by the ending of the name; the voxels are read, and written, by ITK."""
SUFFIXES = tuple(READERS)
"""Endings of the volume files that are read and written."""


def suffix_of(path: Path) -> str | None:
    """The ending of a volume file's name, in lower case; None for other files."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def read_file_header(path: Path) -> FileHeader:
    """The header of a volume file, by the ending of its name.

    Raises:
        UserError: not such a header, or one that claims more than `anatograph.limits.max_scan_bytes`, takes its voxels
            from a file that does not lie beside it, or contradicts itself about where they lie in the patient.
    """
    suffix = suffix_of(path)
    if suffix is None:
        raise UserError(f"{path}: not a volume file by its name; give {', '.join(SUFFIXES)}.")
    try:
        if not path.is_file():
            raise UserError(f"{path}: not a regular file; give a file with a scan, or a folder with DICOM files.")
        header = READERS[suffix](path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); copy the file again.") from None
    if not header.size or len(header.size) > 7 or min(header.size) < 1:
        raise UserError(
            f"{path}: cannot be read (its header claims {list(header.size)} voxels); copy or convert the file again."
        )
    check_scan_size(header.size, header.bytes_per_voxel, str(path))
    return header
