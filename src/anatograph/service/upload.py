"""An uploaded scan: what kind of file it is, and a zip of DICOM files unpacked within limits."""

from __future__ import annotations

import zipfile
from pathlib import Path

from anatograph.errors import UserError
from anatograph.limits import MAX_FOLDER_FILES, max_scan_bytes

KINDS = "NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha), or a zip of DICOM files"
_BLOCK = 1 << 20


def scan_of(upload: Path, folder: Path) -> Path:
    """Make a scan of the bytes that arrived: a file with the right ending, or a folder of DICOM files.

    The kind is decided by the content; the sender's file name is not used.

    Raises:
        UserError: another kind of file, or a zip that unpacks to more than a scan may take.
    """
    with upload.open("rb") as file:
        head = file.read(352)
    if head[:4] == b"PK\x03\x04":
        return _unpacked(upload, folder / "dicom")
    ending = _ending(head)
    if not ending:
        raise UserError(f"The upload is not of a supported type; send {KINDS}.")
    return upload.rename(upload.with_name(f"scan{ending}"))


def _ending(head: bytes) -> str:
    if head[:2] == b"\x1f\x8b":
        return ".nii.gz"
    if head[:4] == b"NRRD":
        return ".nrrd"
    if head[344:348] in (b"n+1\0", b"n+2\0") or head[4:8] == b"n+2\0":
        return ".nii"
    if head[:10] == b"ObjectType" or head[:5] == b"NDims":
        return ".mha"
    return ""


def _unpacked(upload: Path, folder: Path) -> Path:
    """The files of a zip under numbers for names, so that no name leads elsewhere."""
    folder.mkdir()
    left = max_scan_bytes()
    try:
        with zipfile.ZipFile(upload) as bundle:
            members = [one for one in bundle.infolist() if not one.is_dir()]
            if len(members) > MAX_FOLDER_FILES:
                raise UserError(f"The zip holds {len(members):,} files; send the slices of one scan.")
            for number, member in enumerate(members):
                with bundle.open(member) as source, (folder / f"{number:06d}").open("wb") as target:
                    while block := source.read(_BLOCK):
                        left -= len(block)
                        if left < 0:
                            raise UserError(f"The zip unpacks to more than {max_scan_bytes() / 1e9:g} GB.")
                        target.write(block)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"The zip cannot be unpacked ({type(error).__name__}); send it again, unencrypted.") from error
    finally:
        upload.unlink(missing_ok=True)
    return folder
