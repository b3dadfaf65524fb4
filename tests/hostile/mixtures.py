"""Folders in which DICOM files of several scans, or of other kinds, lie together."""

# ruff: noqa: E501 - what the user sees stands here as one line
from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from hostile.case import case
from hostile.material import chest, series


def two_series(folder: Path, keyword: str, first: str, second: str) -> Path:
    """Two series of the chest that differ in one element."""
    series(folder / "a", uid="1.2.3", tags={keyword: first})
    series(folder / "b", uid="1.2.4", tags={keyword: second})
    return folder


@case("several series in one folder", "usable")
def several(folder: Path) -> Path:
    series(folder / "a", np.repeat(chest(), 2, axis=0), spacing=(2.0, 2.5, 1.5), uid="1.2.1")
    series(folder / "b", spacing=(2.0, 2.5, 3.0), uid="1.2.2", seed=1)
    series(folder / "c", chest()[:1], uid="1.2.3", tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    return folder


@case(
    "two scans under one series number and UID",
    "SCAN: series 1 (48 images) is not a usable CT scan: two different slices lie at the same place (…), so several scans are mixed; keep the files of one.",
)
def mixed(folder: Path) -> Path:
    series(folder / "a", uid="1.2.3")
    series(folder / "b", chest() + 1, uid="1.2.3", seed=1)
    return folder


@case(
    "screen captures",
    "SCAN: series 1 (24 images) is not a usable CT scan: it holds screen captures (secondary capture).",
)
def captures(folder: Path) -> Path:
    return series(folder, tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"})


@case("localizers only", "SCAN: series 1 (2 images) is not a usable CT scan: it is a localizer (scout), not a scan.")
def localizers(folder: Path) -> Path:
    return series(folder, chest()[:2], tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})


@case("an MR scan", "SCAN: series 1 (24 images) is not a usable CT scan: the modality is MR, not CT.")
def magnet(folder: Path) -> Path:
    return series(folder, tags={"Modality": "MR"})


@case(
    "two patients in one folder",
    "SCAN: the folder holds CT scans of 2 patients (by PatientID): series 1 (24 images, 3 mm apart); series 1 (24 images, 3 mm apart); give each patient's folder by itself.",
)
def patients(folder: Path) -> Path:
    return two_series(folder, "PatientID", "DOE^JANE", "DOE^JOHN")


@case(
    "two studies in one folder",
    "SCAN: the folder holds CT scans of 2 studies (by StudyInstanceUID): series 1 (24 images, 3 mm apart); series 1 (24 images, 3 mm apart); give the folder of one study.",
)
def studies(folder: Path) -> Path:
    return two_series(folder, "StudyInstanceUID", "1.2.8", "1.2.9")


@case(
    "two kernels under one UID, half a step apart",
    "usable, flagged: several scans lie in one series, which differ in ConvolutionKernel (B30F: 24, B70F: 24 slices); one was used",
)
def kernels(folder: Path) -> Path:
    series(folder / "a", uid="1.2.3", tags={"ConvolutionKernel": "B30f"})
    series(folder / "b", uid="1.2.3", tags={"ConvolutionKernel": "B70f"}, origin=(-50.25, -61.5, -308.625), seed=1)
    return folder


@case(
    "all slices at one place",
    "SCAN: series 1 (24 images) is not a usable CT scan: all of its 24 slices have the same ImagePositionPatient (…), so their order is unknown; export the series again.",
)
def one_place(folder: Path) -> Path:
    return series(folder, step=np.zeros(3))


@case(
    "a SeriesInstanceUID for every file",
    "usable, flagged: every file has a SeriesInstanceUID of its own; slices were grouped by position and the rest of their headers",
)
def own_uids(folder: Path) -> Path:
    def own(k: int, data: FileDataset) -> None:
        data.SeriesInstanceUID = f"1.2.3.{k}"

    return series(folder, each=own)


@case(
    "a map that is not in HU (RescaleType)",
    "SCAN: series 1 (24 images) is not a usable CT scan: its numbers are MGML and not Hounsfield units (RescaleType).",
)
def mgml(folder: Path) -> Path:
    return series(folder, tags={"RescaleType": "MGML"})


@case(
    "RescaleIntercept missing in some slices",
    "SCAN: series 1 (24 images) is not a usable CT scan: RescaleIntercept is missing in 1 of its 24 slices, so they do not agree in what a number means; export the series again.",
)
def intercept_in_part(folder: Path) -> Path:
    def drop(k: int, data: FileDataset) -> None:
        if k == 3:
            del data.RescaleIntercept

    return series(folder, each=drop)


@case(
    "a damaged localizer beside the scan",
    "usable, flagged: 0000.dcm beside the scan is damaged (it is cut short, … bytes of pixels out of 3840) and was passed over",
)
def damaged_localizer(folder: Path) -> Path:
    series(folder / "a", uid="1.2.3")
    (victim,) = series(folder / "b", chest()[:1], tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).iterdir()
    victim.write_bytes(victim.read_bytes()[:-700])
    return folder


@case(
    "DICOM files inside a gzip",
    "SCAN: there are no CT images in this folder: 24 files are DICOM packed by gzip; unpack them with gunzip (such as 0000.dcm).",
)
def packed(folder: Path) -> Path:
    for file in series(folder).iterdir():
        file.write_bytes(gzip.compress(file.read_bytes()))
    return folder
