"""Volume files whose numbers are not simply the HU of a chest."""

# ruff: noqa: E501 - what the user sees stands here as one line
from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from hostile.case import case
from hostile.material import chest, image, write


@case(
    "a background masked with 0",
    "usable, flagged: …% of the voxels, around the body, hold exactly 0 HU (a masked background); they were taken as air, check the scan",
)
def masked(folder: Path) -> Path:
    _, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in chest().shape), indexing="ij")
    body = (x / 0.9) ** 2 + (y / 0.8) ** 2 < 1
    return write(folder / "scan.nii", np.where(body, chest(), 0).astype(np.int16))


@case(
    "everything but the lungs set to -1024",
    "SCAN: hardly any voxel lies between -150 and 200 HU, where soft tissue should be: …% of the voxels hold exactly -1024 HU, so everything but the lungs seems masked out; convert the scan again from its DICOM files.",
)
def lungs_in_air(folder: Path) -> Path:
    hu = chest()
    hu = np.where((hu < -600) & (hu > -950), hu, -1024)
    hu[::5, ::5, 13:15] = 40
    return write(folder / "scan.nii", hu.astype(np.int16))


@case(
    "everything but the lungs set to 0",
    "usable, flagged: …% of the voxels, all but the lungs, hold exactly 0 HU (a masked background); patches at the rim of the lungs see it, so check the scan, or give the whole one",
)
def lungs_alone(folder: Path) -> Path:
    return write(
        folder / "scan.nii", np.where(chest() < -600, np.where(chest() > -950, chest(), 0), 0).astype(np.int16)
    )


@case("NIfTI with slope and intercept", "usable")
def scaled(folder: Path) -> Path:
    path = write(folder / "scan.nii", (chest().astype(np.int32) + 1024).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[112:120] = struct.pack("<2f", 1.0, -1024.0)
    path.write_bytes(bytes(data))
    return path


@case("floating-point HU", "usable")
def floats(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", chest().astype(np.float32) + np.float32(0.25))


@case(
    "NaN among the voxels",
    "SCAN: there are voxels that are not finite numbers (NaN or infinite); write the scan again with air (-1024) in their place.",
)
def nan(folder: Path) -> Path:
    values = chest().astype(np.float32)
    values[3, 4, 5] = np.nan
    return write(folder / "scan.nii.gz", values)


@case("slices stored from head to foot", "usable")
def inverted(folder: Path) -> Path:
    return write(folder / "scan.nrrd", chest()[::-1], direction=np.diag([1.0, 1, -1]))


@case("four dimensions", "SCAN: 4 dimensions (48 × 40 × 24 × 3); split the series and give one scan.")
def four(folder: Path) -> Path:
    sitk.WriteImage(sitk.JoinSeries([image(chest())] * 3), str(folder / "scan.nii.gz"))
    return folder / "scan.nii.gz"


@case("a fourth dimension of one", "usable")
def four_of_one(folder: Path) -> Path:
    sitk.WriteImage(sitk.JoinSeries([image(chest())]), str(folder / "scan.nii.gz"))
    return folder / "scan.nii.gz"


@case("colours", "SCAN: 3 numbers at every voxel (colour or vectors); a scan has one.")
def colours(folder: Path) -> Path:
    sitk.WriteImage(sitk.Compose([image(chest())] * 3), str(folder / "scan.nrrd"))
    return folder / "scan.nrrd"


@case(
    "an 8-bit picture of a scan",
    "SCAN: the numbers run from 0 to 255, as in an 8-bit picture that was already windowed, not Hounsfield units; convert the scan again from its DICOM files without windowing or scaling.",
)
def eight_bits(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", np.clip((chest() + 1024.0) / 5, 0, 255).astype(np.uint8))


@case(
    "stored values without the intercept",
    "SCAN: the numbers run from 0 to … with nothing below 0, so air cannot be at -1000 HU: these look like stored values without the rescale intercept (usually -1024); subtract it, or convert the scan again from its DICOM files.",
)
def unscaled(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", chest() + 1024)


@case(
    "a lung window",
    "SCAN: …% of all voxels hold the greatest number, 150, as after clipping to a window; convert the scan again from its DICOM files without windowing.",
)
def windowed(folder: Path) -> Path:
    return write(folder / "scan.nii.gz", np.clip(chest(), -1350, 150))
