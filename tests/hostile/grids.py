"""Volume files whose geometry disagrees with itself or cannot be that of a scan."""

# ruff: noqa: E501 - what the user sees stands here as one line
from __future__ import annotations

from pathlib import Path

import numpy as np

from hostile.case import case
from hostile.material import chest, patched, write


@case(
    "NIfTI without qform and sform",
    "SCAN: the file does not say how the voxels lie in the patient (qform and sform codes are 0), so left and right are unknown; convert the scan again from its DICOM files, or set the code if it is known.",
)
def no_form(folder: Path) -> Path:
    return patched(folder, (252, "2h", 0, 0))


@case(
    "NIfTI with a sheared affine",
    "SCAN: the axes are not at right angles (affine …), as after an uncorrected gantry tilt; resample the scan onto a rectangular grid first.",
)
def sheared(folder: Path) -> Path:
    return patched(folder, (252, "2h", 0, 1), (280, "12f", -2, 0, 0, 0, 0, -2, 0.9, 0, 0, 0, 3, 0))


@case(
    "NIfTI whose pixdim is not its sform's",
    "usable, flagged: the header gives two voxel sizes, 2 × 2.5 × 4 (pixdim) and 2 × 2.5 × 3 (sform); the sform was used, check it",
)
def two_sizes(folder: Path) -> Path:
    return patched(folder, (88, "f", 4.0))


@case(
    "NIfTI whose sform mirrors its qform",
    "SCAN: its sform and qform are mirror images of each other, so left and right are uncertain; convert the scan again from its DICOM files, or set the code of the wrong one to 0.",
)
def mirrored_qform(folder: Path) -> Path:
    return patched(folder, (280, "4f", 2.0, 0.0, 0.0, -43.75))


@case(
    "geometry left at its defaults",
    "usable, flagged: its voxels are exactly 1 mm, unrotated, with the origin at 0, which is what software writes when it does not know the geometry; check that the voxels are 1 mm and which way the axes run",
)
def placeholder(folder: Path) -> Path:
    return write(folder / "scan.nii", spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))


@case(
    "a MetaImage without spacing",
    "SCAN: the file does not state the distance between its voxels (ElementSpacing is missing); add it, or convert the scan again from its DICOM files.",
)
def no_spacing(folder: Path) -> Path:
    path = write(folder / "scan.mha")
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 2 2.5 3\n", b"", 1))
    return path


@case("mirrored axes (a left-handed NIfTI)", "usable")
def mirrored(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", chest()[:, :, ::-1], direction=np.diag([-1.0, 1, 1]))


@case("slices 10 mm apart", "usable")
def ten(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", spacing=(2.0, 2.5, 10.0))


@case(
    "slices 12 mm apart",
    "SCAN: slices are 12 mm apart, and more than 10 mm is too coarse to cut patches from; use a thinner reconstruction.",
)
def twelve(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", spacing=(2.0, 2.5, 12.0))


@case("fifteen slices", "SCAN: only 15 slices, and at least 16 are needed; give the whole scan.")
def fifteen(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", chest()[:15])


@case(
    "spacing in metres",
    "SCAN: voxel spacing 0.002 × 0.0025 × 0.003 mm is not possible for a CT; correct the header (spacing is in millimetres).",
)
def metres(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", spacing=(0.002, 0.0025, 0.003))
