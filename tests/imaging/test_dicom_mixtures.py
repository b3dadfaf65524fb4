"""Folders with more than one scan's slices: one is chosen by the rules, or the candidates are named and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from anatograph.errors import UserError
from anatograph.imaging.dicom.choice import inspect_dicom_folder
from anatograph.imaging.reading import read_volume
from fixtures.chest import SeriesWriter

HU = NDArray[np.int16]
ORIGIN = (-50.25, -61.5, -310.125)
HALF = (-50.25, -61.5, -308.625)
"""The origin half a step of 3 mm higher."""


def interleaved(folder: Path, first: HU, second: HU, a: dict[str, Any], b: dict[str, Any], **options: Any) -> Path:
    """Two scans of 3 mm, half a step apart, under one SeriesInstanceUID."""
    together = {"uid": "1.2.3", **options}
    SeriesWriter(first, tags=a, suffix="a.dcm", **together).write(folder)
    SeriesWriter(second, tags=b, suffix="b.dcm", origin=HALF, seed=1, **together).write(folder)
    return folder


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"ConvolutionKernel": "B30f"}, {"ConvolutionKernel": "B70f"}),
        ({"ConvolutionKernel": "STANDARD"}, {"ConvolutionKernel": "LUNG"}),
        ({"KVP": "120"}, {"KVP": "80"}),
        ({"KVP": "120"}, {"KVP": "140"}),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
        ({"SeriesNumber": 3}, {"SeriesNumber": 4}),
        ({"FrameOfReferenceUID": "1.2.5"}, {"FrameOfReferenceUID": "1.2.6"}),
        ({"SliceThickness": 3.0}, {"SliceThickness": 5.0}),
        ({"ContrastBolusAgent": None}, {"ContrastBolusAgent": "Iodine"}),
        ({"RescaleType": "HU"}, {"RescaleType": "US"}),
    ],
)
def test_one_of_two_scans_in_turn_is_read(tmp_path: Path, chest: HU, a: dict[str, Any], b: dict[str, Any]) -> None:
    a = {key: value for key, value in a.items() if value is not None}
    volume = read_volume(interleaved(tmp_path / "x", chest, chest[::-1], a, b))
    np.testing.assert_array_equal(volume.array, chest)
    assert volume.spacing[2] == 3.0
    assert f"differ in {next(iter(b))}" in volume.flags[0]
    assert volume.flags == inspect_dicom_folder(tmp_path / "x")
    assert "was chosen out of 2" in volume.notes[0]


def test_two_interleaved_scans_that_no_header_separates_are_refused(tmp_path: Path, chest: HU) -> None:
    with pytest.raises(UserError, match="InstanceNumbers occur twice"):
        read_volume(interleaved(tmp_path / "numbered", chest, chest[:, :, ::-1], {}, {}))

    def unnumbered(k: int, data: FileDataset) -> None:
        del data.InstanceNumber

    with pytest.raises(UserError, match="alternate between two images"):
        read_volume(interleaved(tmp_path / "wiped", chest, np.roll(chest, 6, axis=2), {}, {}, each=unnumbered))


def test_one_scan_in_two_parts_is_read_whole(tmp_path: Path, chest: HU) -> None:
    parts = ((chest[:10], 1, ORIGIN), (chest[10:], 2, (*ORIGIN[:2], ORIGIN[2] + 30)))
    for number, (part, acquisition, origin) in enumerate(parts):
        SeriesWriter(part, uid="1.2.3", origin=origin, seed=number, suffix=f"{number}.dcm",
                     tags={"AcquisitionNumber": acquisition}).write(tmp_path / "x")  # fmt: skip
    volume = read_volume(tmp_path / "x")
    np.testing.assert_array_equal(volume.array, chest)
    assert volume.flags == ()


def test_two_kernels_in_two_parts_are_refused(tmp_path: Path, fine: HU) -> None:
    for number, kernel in enumerate(("B30f", "B70f")):
        SeriesWriter(fine[24 * number :][:24], uid="1.2.3", origin=(*ORIGIN[:2], ORIGIN[2] + 72 * number), seed=number,
                     suffix=f"{number}.dcm", tags={"ConvolutionKernel": kernel}).write(tmp_path / "x")  # fmt: skip
    with pytest.raises(UserError, match=r"differ in ConvolutionKernel \(B30F: 24, B70F: 24 slices\)"):
        read_volume(tmp_path / "x")


@pytest.mark.parametrize("ids", [("P1", "P2"), ("", "P2"), ("ANON", "P2"), ("ANON", "ANONYMOUS")])
@pytest.mark.parametrize("uids", [("1.2.3", "1.2.4"), ("1.2.3", "1.2.3")])
def test_two_patients_are_refused(tmp_path: Path, chest: HU, ids: tuple[str, str], uids: tuple[str, str]) -> None:
    for number, (patient, uid) in enumerate(zip(ids, uids, strict=True)):
        SeriesWriter(chest[: 24 - number], uid=uid, seed=number, tags={"PatientID": patient}, suffix=f"{number}.dcm",
                     ).write(tmp_path / "x")  # fmt: skip
    for read in (read_volume, inspect_dicom_folder):
        with pytest.raises(UserError, match=r"CT scans of 2 patients \(by PatientID\): series 1 .*; series 1 "):
            read(tmp_path / "x")


@pytest.mark.parametrize("patient", ["P1", "", "ANON"])
@pytest.mark.parametrize("uids", [("1.2.3", "1.2.4"), ("1.2.3", "1.2.3")])
def test_two_studies_are_refused(tmp_path: Path, chest: HU, patient: str, uids: tuple[str, str]) -> None:
    for number, uid in enumerate(uids):
        tags = {"PatientID": patient, "StudyInstanceUID": f"1.2.{number}"}
        SeriesWriter(chest, uid=uid, seed=number, tags=tags).write(tmp_path / "x" / str(number))
    with pytest.raises(UserError, match=r"CT scans of 2 studies \(by StudyInstanceUID\)"):
        read_volume(tmp_path / "x")


def test_two_visits_under_one_study_are_refused(tmp_path: Path, chest: HU) -> None:
    """Where UIDs were wiped to one value and dates kept; a date in one series alone is not another visit."""
    for name, uid, day in (("a", "1.2.3", "20200101"), ("b", "1.2.4", "20210305")):
        SeriesWriter(chest, uid=uid, tags={"StudyDate": day}).write(tmp_path / "two" / name)
        SeriesWriter(chest, uid=uid, tags={"StudyDate": day if name == "a" else ""}).write(tmp_path / "one" / name)
    with pytest.raises(UserError, match=r"CT scans of 2 days \(by StudyDate\).*give the folder of one visit") as caught:
        read_volume(tmp_path / "two")
    assert "2020" not in str(caught.value)
    assert read_volume(tmp_path / "one").array.shape == chest.shape


@pytest.mark.parametrize("patient", ["", "ANON", "00000"])
def test_two_scans_without_a_patient_are_refused(tmp_path: Path, chest: HU, patient: str) -> None:
    for number in (0, 1):
        tags = {"PatientID": patient, "StudyInstanceUID": ""}
        SeriesWriter(chest, uid=f"1.2.{number}", seed=number, tags=tags).write(tmp_path / "x" / str(number))
    with pytest.raises(UserError, match="2 CT scans without PatientID and StudyInstanceUID"):
        read_volume(tmp_path / "x")


def own(*keywords: str) -> Callable[[int, FileDataset], None]:
    def each(k: int, data: FileDataset) -> None:
        for keyword in keywords:
            setattr(data, keyword, generate_uid())

    return each


@pytest.mark.parametrize(
    "keywords",
    [("SeriesInstanceUID",), ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"), ("StudyInstanceUID",)],
)
def test_a_uid_for_every_file(tmp_path: Path, chest: HU, keywords: tuple[str, ...]) -> None:
    volume = read_volume(SeriesWriter(chest, each=own(*keywords)).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, chest)
    assert any(f"every file has a {keywords[0]} of its own" in flag for flag in volume.flags)


def test_two_scans_with_a_uid_for_every_file_are_refused(tmp_path: Path, chest: HU) -> None:
    for number in (0, 1):
        writer = SeriesWriter(chest + number, each=own("SeriesInstanceUID"), seed=number, suffix=f"{number}.dcm")
        writer.write(tmp_path / "x")
    with pytest.raises(UserError, match=r"every file has a SeriesInstanceUID of its own.*same place"):
        read_volume(tmp_path / "x")


def test_wiped_uids(tmp_path: Path, chest: HU) -> None:
    wiped = {"SeriesInstanceUID": "", "StudyInstanceUID": "", "PatientID": ""}
    volume = read_volume(SeriesWriter(chest, tags=wiped).write(tmp_path / "one"))
    np.testing.assert_array_equal(volume.array, chest)
    assert "the files have no SeriesInstanceUID" in volume.flags[0]
    for number, origin in enumerate((ORIGIN, HALF)):
        SeriesWriter(chest, tags=wiped, origin=origin, seed=number).write(tmp_path / "two" / str(number))
    with pytest.raises(UserError, match="2 CT scans without PatientID and StudyInstanceUID"):
        read_volume(tmp_path / "two")


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_slices_at_one_place(tmp_path: Path, chest: HU, share: float) -> None:
    def one_place(k: int, data: FileDataset) -> None:
        if k < share * len(chest):
            data.ImagePositionPatient = ["0", "0", "0"]

    count = "all" if share == 1 else "17"
    with pytest.raises(UserError, match=f"{count} of its 24 slices have the same ImagePositionPatient"):
        read_volume(SeriesWriter(chest, each=one_place).write(tmp_path / "x"))
