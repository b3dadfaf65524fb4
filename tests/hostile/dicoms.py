"""Folders with DICOM files that are not simply one scan."""

# ruff: noqa: E501 - what the user sees stands here as one line
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from hostile.case import case
from hostile.material import chest, series, write


@case(
    "DICOM without ImagePositionPatient",
    "SCAN: series 1 (24 images) is not a usable CT scan: its images do not say where they lie (no ImagePositionPatient, ImageOrientationPatient or PixelSpacing).",
)
def no_position(folder: Path) -> Path:
    return series(folder, tags={"ImagePositionPatient": None})


@case(
    "DICOM without PixelSpacing",
    "SCAN: series 1 (24 images) is not a usable CT scan: its images do not say where they lie (no ImagePositionPatient, ImageOrientationPatient or PixelSpacing).",
)
def no_spacing(folder: Path) -> Path:
    return series(folder, tags={"PixelSpacing": None})


@case(
    "DICOM without RescaleIntercept",
    "SCAN: series 1 (24 images, 3 mm apart): the numbers run from 0 to … with nothing below 0, so air cannot be at -1000 HU: these look like stored values without the rescale intercept (usually -1024); subtract it, or convert the scan again from its DICOM files.",
)
def no_intercept(folder: Path) -> Path:
    return series(folder, tags={"RescaleIntercept": None, "RescaleSlope": None})


@case(
    "DICOM without Rows",
    "SCAN: 24 CT images cannot be read, the first is 0000.dcm: it does not say how many pixels it has; copy the folder again.",
)
def no_rows(folder: Path) -> Path:
    return series(folder, tags={"Rows": None})


@case(
    "two image sizes in one series",
    "SCAN: none of the 2 series is a usable CT scan: 1 (24 images): images of different kinds are mixed in it (48 × 36 pixels of 2 mm, 48 × 40 pixels of 2 mm); keep the files of one kind; …",
)
def sizes(folder: Path) -> Path:
    series(folder / "a", uid="1.2.3")
    series(folder / "b", chest()[:, :-4], uid="1.2.3", origin=(-50.25, -61.5, -100.0), seed=1)
    return folder


@case("every slice twice", "usable, flagged: 24 slices found twice, pixel for pixel, and dropped once")
def twice(folder: Path) -> Path:
    series(folder / "a", uid="1.2.3")
    series(folder / "b", uid="1.2.3", seed=1)
    return folder


@case(
    "one slice missing",
    "usable, flagged: 1 missing slice (between -283.12 and -277.12 mm) interpolated from the neighbours",
)
def one_missing(folder: Path) -> Path:
    return series(folder, skip=(10,))


@case(
    "several slices missing",
    "SCAN: series 1 (20 images) is not a usable CT scan: 4 slices missing between -298.12 and -292.12 mm, between -286.12 and -274.12 mm along the slice normal; copy the series again.",
)
def many_missing(folder: Path) -> Path:
    return series(folder, skip=(5, 9, 10, 11))


@case(
    "a tilted gantry",
    "usable, flagged: the gantry was tilted by 18.4 degrees; slices were shifted onto a rectangular grid",
)
def tilted(folder: Path) -> Path:
    direction = np.eye(3)
    return series(folder, direction=direction, step=np.array([0.0, 1.0, 3.0]))


@case(
    "two spacings in one series",
    "SCAN: series 1 (24 images) is not a usable CT scan: slices are unevenly spaced, from 3 to 5 mm; use a series with one spacing.",
)
def uneven(folder: Path) -> Path:
    series(folder / "a", chest()[:12], uid="1.2.3")
    series(folder / "b", chest()[12:], uid="1.2.3", origin=(-50.25, -61.5, -274.0), spacing=(2.0, 2.5, 5.0), seed=1)
    return folder


@case(
    "enhanced (multi-frame) DICOM",
    "SCAN: series 1 (1 image) is not a usable CT scan: 0000.dcm holds 24 frames (multi-frame DICOM); convert it to NIfTI, as with dcm2niix.",
)
def enhanced(folder: Path) -> Path:
    def frames(k: int, data: FileDataset) -> None:
        data.NumberOfFrames = 24
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
        data.PixelData = chest().astype("<i2").tobytes()

    return series(folder, chest()[:1], each=frames)


@case("DICOM compressed by RLE", "usable")
def rle(folder: Path) -> Path:
    return series(folder, each=lambda k, data: data.compress(RLELossless, generate_instance_uid=False))


@case("big-endian DICOM", "usable")
def big_endian(folder: Path) -> Path:
    series(folder / "little")
    (folder / "big").mkdir()
    for file in sorted((folder / "little").iterdir()):
        data = pydicom.dcmread(file)
        data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
        data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        pydicom.dcmwrite(folder / "big" / file.name, data, implicit_vr=False, little_endian=False)
    return folder / "big"


@case(
    "DICOM compressed in a way that is not read (HTJ2K)",
    "SCAN: series 1 (24 images) is not a usable CT scan: it is compressed as 1.2.840.10008.1.2.4.201, which is not read; decompress it, as with gdcmconv --raw.",
)
def unknown_syntax(folder: Path) -> Path:
    def change(k: int, data: FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"
        data.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
        data["PixelData"].is_undefined_length = True

    return series(folder, each=change)


@case(
    "a compressed picture that claims 65,535 × 65,535 pixels",
    "SCAN: 24 CT images cannot be read, the first is 0000.dcm: its compressed picture is not of the size that the header says; copy the folder again.",
)
def giant_picture(folder: Path) -> Path:
    stream = b"\xff\xd8\xff\xc3\x00\x0b\x10\xff\xff\xff\xff\x01\x01\x11\x00\xff\xd9"

    def change(k: int, data: FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
        data.PixelData = pydicom.encaps.encapsulate([stream])
        data["PixelData"].is_undefined_length = True

    return series(folder, each=change)


@case(
    "one DICOM file for the whole series",
    "SCAN: this is a single DICOM file; give the folder that holds the whole series.",
)
def single(folder: Path) -> Path:
    return next(series(folder).iterdir())


@case(
    "a slice cut short",
    "SCAN: 1 CT image cannot be read, the first is 0005.dcm: it is cut short, … bytes of pixels out of 3840; copy the folder again.",
)
def cut(folder: Path) -> Path:
    victim = sorted(series(folder).iterdir())[5]
    victim.write_bytes(victim.read_bytes()[:-700])
    return folder


@case(
    "a slice whose header lost a byte",
    "SCAN: 1 CT image cannot be read, the first is 0005.dcm: …; copy the folder again.",
)
def shifted(folder: Path) -> Path:
    victim = sorted(series(folder).iterdir())[5]
    data = victim.read_bytes()
    victim.write_bytes(data[:500] + data[501:])
    return folder


@case(
    "a slice that claims 65,535 × 65,535 pixels",
    "SCAN: 1 CT image cannot be read, the first is 0010.dcm: it claims 65535 × 65535 pixels; copy the folder again.",
)
def giant(folder: Path) -> Path:
    def change(k: int, data: FileDataset) -> None:
        if k == 3:
            data.Rows = data.Columns = 65535

    return series(folder, each=change)


@case("the patient lay prone", "usable, flagged: the patient lay prone (PatientPosition HFP)")
def prone(folder: Path) -> Path:
    return series(folder, chest()[:, ::-1, ::-1], direction=np.diag([-1.0, -1, 1]), tags={"PatientPosition": "HFP"},
                  origin=(43.75, 36.0, -310.125))  # fmt: skip


@case("a header that says HEAD", "usable, flagged: the header says that the body part is HEAD")
def head_said(folder: Path) -> Path:
    return series(folder, tags={"BodyPartExamined": "HEAD"})


@case(
    "a folder without DICOM files",
    "SCAN: there are no DICOM files in this folder; give the file itself, such as scan.nii.gz.",
)
def no_dicom(folder: Path) -> Path:
    write(folder / "scan.nii.gz")
    return folder


@case("a DICOM folder with a pipe and a link to itself in it", "usable")
def loop(folder: Path) -> Path:
    series(folder / "ct")
    os.mkfifo(folder / "ct" / "pipe")
    (folder / "ct" / "again").symlink_to(folder)
    return folder
