"""Volume files that are damaged, mislabelled, unusual or crafted to do harm."""

# ruff: noqa: E501 - what the user sees stands here as one line
from __future__ import annotations

import gzip
import os
from pathlib import Path

from hostile.case import case
from hostile.material import nifti_header, write


@case("an empty file", "SCAN: cannot be read, damaged or not what its name says (empty); copy or convert it again.")
def empty(folder: Path) -> Path:
    (folder / "scan.nii").write_bytes(b"")
    return folder / "scan.nii"


@case("an empty gzip", "SCAN: cannot be read, damaged or not what its name says (empty); copy or convert it again.")
def empty_gzip(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_bytes(gzip.compress(b""))
    return folder / "scan.nii.gz"


@case("a NIfTI cut short", "SCAN: the file is damaged or cut short, 60000 bytes of 92512; copy or convert it again.")
def cut(folder: Path) -> Path:
    path = write(folder / "scan.nii")
    path.write_bytes(path.read_bytes()[:60000])
    return path


@case(
    "a packed NIfTI cut short",
    "SCAN: the file cannot be read whole, it is damaged or cut short (…); copy or convert it again.",
)
def cut_packed(folder: Path) -> Path:
    path = write(folder / "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:-5000])
    return path


@case(
    "a MetaImage cut short",
    "SCAN: cannot be read, damaged or not what its name says (cut short, … bytes of voxels out of 92160); copy or convert it again.",
)
def cut_meta(folder: Path) -> Path:
    path = write(folder / "scan.mha")
    path.write_bytes(path.read_bytes()[:9000])
    return path


@case(
    "text called .nii.gz",
    "SCAN: cannot be read, damaged or not what its name says (it is no gzip: …); copy or convert it again.",
)
def text(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_text("404 not found")
    return folder / "scan.nii.gz"


@case(
    "a NIfTI called .nrrd",
    "SCAN: cannot be read, damaged or not what its name says (no NRRD header); copy or convert it again.",
)
def renamed(folder: Path) -> Path:
    return write(folder / "scan.nii").rename(folder / "scan.nrrd")


@case(
    "a packed NIfTI called .nii",
    "SCAN: cannot be read, damaged or not what its name says (no NIfTI header); copy or convert it again.",
)
def packed_renamed(folder: Path) -> Path:
    return write(folder / "scan.nii.gz").rename(folder / "scan.nii")


@case(
    "a picture",
    "SCAN: not a scan by its name; give .nii.gz, .nii, .nrrd, .nhdr, .mha, .mhd or a folder with DICOM files.",
)
def picture(folder: Path) -> Path:
    (folder / "scan.png").write_bytes(b"\x89PNG\r\n")
    return folder / "scan.png"


@case("a link that leads nowhere", "SCAN: this file or folder does not exist; check the path.")
def broken_link(folder: Path) -> Path:
    (folder / "scan.nii.gz").symlink_to(folder / "gone.nii.gz")
    return folder / "scan.nii.gz"


@case("a link to a scan outside the cohort's folder (git-annex, DataLad)", "usable")
def link_out(folder: Path) -> Path:
    (folder / "annex").mkdir()
    (folder / "cohort").mkdir()
    (folder / "cohort" / "scan.nii.gz").symlink_to(write(folder / "annex" / "content.nii.gz"))
    return folder / "cohort" / "scan.nii.gz"


@case("a pipe that never answers", "SCAN: not a regular file; give a file with a scan, or a folder with DICOM files.")
def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


@case(
    "a gzip that unpacks to far more than its header states",
    "SCAN: it unpacks to far more than the 92,512 bytes that its header states, so it is not what its name says; copy or convert it again.",
)
def bomb(folder: Path) -> Path:
    write(folder / "small.nii")
    with gzip.open(folder / "scan.nii.gz", "wb", compresslevel=1) as file:
        file.write((folder / "small.nii").read_bytes())
        for _ in range(40):
            file.write(bytes(2**22))
    return folder / "scan.nii.gz"


@case(
    "a NIfTI of 348 bytes that claims 30,000³ voxels",
    "SCAN: its header claims 30000 × 30000 × 30000 voxels, 54,000.0 GB, and more than 4 GB is not read; if it is right, set ANATOGRAPH_MAX_SCAN_GB to a larger number.",
)
def giant_nifti(folder: Path) -> Path:
    (folder / "scan.nii").write_bytes(nifti_header((30000, 30000, 30000)))
    return folder / "scan.nii"


@case(
    "a gzip bomb whose header claims all of it",
    "SCAN: its header claims 4096 × 4096 × 4096 voxels, 137.4 GB, and more than 4 GB is not read; if it is right, set ANATOGRAPH_MAX_SCAN_GB to a larger number.",
)
def giant_packed(folder: Path) -> Path:
    (folder / "scan.nii.gz").write_bytes(gzip.compress(nifti_header((4096, 4096, 4096)) + bytes(2**20)))
    return folder / "scan.nii.gz"


@case(
    "an NRRD that claims 2³⁰ × 2³⁰ voxels",
    "SCAN: its header claims 1073741824 × 1073741824 × 24 voxels, 55,340,232,221.1 GB, and more than 4 GB is not read; if it is right, set ANATOGRAPH_MAX_SCAN_GB to a larger number.",
)
def giant_nrrd(folder: Path) -> Path:
    path = write(folder / "scan.nrrd")
    path.write_bytes(path.read_bytes().replace(b"sizes: 48 40 24", b"sizes: 1073741824 1073741824 24"))
    return path


@case(
    "a MetaImage that claims 10⁹ × 10⁹ voxels",
    "SCAN: its header claims 999999999 × 999999999 × 24 voxels, 47,999,999,904.0 GB, and more than 4 GB is not read; if it is right, set ANATOGRAPH_MAX_SCAN_GB to a larger number.",
)
def giant_meta(folder: Path) -> Path:
    path = write(folder / "scan.mha")
    path.write_bytes(path.read_bytes().replace(b"DimSize = 48 40 24", b"DimSize = 999999999 999999999 24"))
    return path


@case(
    "an NRRD header that takes its voxels from /etc/passwd",
    "SCAN: it takes its voxels from a file elsewhere (/etc/passwd); put that file beside it and name it without a folder, or save the scan as one file.",
)
def reaching(folder: Path) -> Path:
    (folder / "scan.nhdr").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 20 20 20\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: raw\ndata file: /etc/passwd\n"
    )
    return folder / "scan.nhdr"


@case(
    "a MetaImage header that reaches out of its folder",
    "SCAN: it takes its voxels from a file elsewhere (../../x.raw); put that file beside it and name it without a folder, or save the scan as one file.",
)
def reaching_meta(folder: Path) -> Path:
    (folder / "scan.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 20 20 20\nElementType = MET_SHORT\nElementDataFile = ../../x.raw\n"
    )
    return folder / "scan.mhd"
