"""Folders with more than one scan's slices: one is chosen by the rules, or the candidates are named and refused."""

from __future__ import annotations

import gzip
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from anatograph.errors import UserError
from anatograph.imaging.dicom.choice import inspect_dicom_folder
from anatograph.imaging.reading import read_volume
from fixtures.chest import SeriesWriter

HU = NDArray[np.int16]
ORIGIN = (-50.25, -61.5, -310.125)
HALF = (-50.25, -61.5, -308.625)
"""The origin half a step of 3 mm higher."""


@pytest.fixture
def fine(chest: HU) -> HU:
    """The chest with twice the slices: what lies between is needed for a scan half a step apart."""
    return np.repeat(chest, 2, axis=0)


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


def test_two_scans_in_turn_that_no_header_tells_apart_are_refused(tmp_path: Path, chest: HU) -> None:
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


@pytest.mark.parametrize("patient", ["", "ANON", "00000"])
def test_two_scans_of_nobody_are_refused(tmp_path: Path, chest: HU, patient: str) -> None:
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


@pytest.mark.parametrize("keyword", ["RescaleIntercept", "RescaleSlope"])
def test_rescaling_missing_in_some_slices(tmp_path: Path, chest: HU, keyword: str) -> None:
    def drop(k: int, data: FileDataset) -> None:
        if k in (3, 4):
            delattr(data, keyword)

    with pytest.raises(UserError, match=f"{keyword} is missing in 2 of its 24 slices"):
        read_volume(SeriesWriter(chest, each=drop).write(tmp_path / "x"))


def test_rescaling_that_differs_is_applied_and_flagged(tmp_path: Path, chest: HU) -> None:
    def shift(k: int, data: FileDataset) -> None:
        if k % 3 == 0:
            data.RescaleIntercept = -1000
            data.PixelData = (chest[k] + 1000).astype("<i2").tobytes()

    volume = read_volume(SeriesWriter(chest, each=shift).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, chest)
    assert "differ in RescaleIntercept" in volume.flags[0]


@pytest.mark.parametrize("unit", ["OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"])
def test_maps_are_not_scans(tmp_path: Path, chest: HU, fine: HU, unit: str) -> None:
    SeriesWriter(fine, (2.0, 2.5, 1.5), uid="1.2.4", tags={"RescaleType": unit}).write(tmp_path / "x" / "map")
    if unit != "HU_MOD":
        with pytest.raises(UserError, match=f"its numbers are {unit} and not Hounsfield units"):
            read_volume(tmp_path / "x")
    SeriesWriter(chest, uid="1.2.3").write(tmp_path / "x" / "ct")
    volume = read_volume(tmp_path / "x")
    np.testing.assert_array_equal(volume.array, chest)


def test_an_unspecified_unit_is_flagged(tmp_path: Path, chest: HU) -> None:
    volume = read_volume(SeriesWriter(chest, tags={"RescaleType": "US"}).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, chest)
    assert "does not say that the numbers are HU" in volume.flags[0]


def test_iodine_maps_by_their_image_type(tmp_path: Path, chest: HU) -> None:
    with pytest.raises(UserError, match="it is a map"):
        read_volume(SeriesWriter(chest, tags={"ImageType": ["DERIVED", "PRIMARY", "IODINE"]}).write(tmp_path / "x"))


@pytest.mark.parametrize("raw", [4095, 3000, 2024, 1024, 524])
@pytest.mark.parametrize("signed", [0, 1])
def test_declared_padding_around_the_view_is_air(tmp_path: Path, chest: HU, raw: int, signed: int) -> None:
    y, x = np.mgrid[-1 : 1 : 40 * 1j, -1 : 1 : 48 * 1j]
    outside = y**2 + x**2 > 1

    def pad(k: int, data: FileDataset) -> None:
        pixels = np.frombuffer(data.PixelData, "<i2").reshape(outside.shape).copy()
        pixels[outside] = raw
        data.PixelData = pixels.tobytes()
        data.PixelRepresentation = signed
        data.add_new("PixelPaddingValue", "SS" if signed else "US", raw)

    volume = read_volume(SeriesWriter(chest, each=pad).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, np.where(outside, -1024, chest))
    assert volume.flags == ()


def test_a_range_of_padding(tmp_path: Path, chest: HU) -> None:
    rim = np.ones((40, 48), dtype=bool)
    rim[5:-5, 5:-5] = False

    def pad(k: int, data: FileDataset) -> None:
        pixels = np.frombuffer(data.PixelData, "<i2").reshape(rim.shape).copy()
        pixels[rim] = np.random.default_rng(k).integers(3000, 3004, rim.sum())
        data.PixelData = pixels.tobytes()
        data.add_new("PixelPaddingValue", "SS", 3000)
        data.add_new("PixelPaddingRangeLimit", "SS", 3003)

    volume = read_volume(SeriesWriter(chest, each=pad).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, np.where(rim, -1024, chest))


def test_padding_declared_and_not_there_changes_nothing(tmp_path: Path, chest: HU) -> None:
    """De-identified files declare 0 without meaning it: tissue of that value stays."""
    values = chest.copy()
    values[:, 18:22, 20:28] = 0
    volume = read_volume(SeriesWriter(values, intercept=0.0, tags={"PixelPaddingValue": 0}).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, values)


def test_an_overlay_that_gdcm_refuses(tmp_path: Path, chest: HU) -> None:
    def overlay(k: int, data: FileDataset) -> None:
        pixels = (chest[k, :37, :45] + 1024).astype("<u2")
        data.Rows, data.Columns = pixels.shape
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 0
        data.PixelData = (pixels | (np.random.default_rng(k).integers(0, 2, pixels.shape, "<u2") << 12)).tobytes()
        for element, vr, value in ((0x10, "US", 37), (0x11, "US", 45), (0x40, "CS", "G"), (0x50, "SS", [1, 1]),
                                   (0x100, "US", 16), (0x102, "US", 12)):  # fmt: skip
            data.add_new(0x60000000 + element, vr, value)

    volume = read_volume(SeriesWriter(chest, each=overlay).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, chest[:, :37, :45])


def test_deflated_files_are_read(tmp_path: Path, chest: HU) -> None:
    def deflate(k: int, data: FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    folder = SeriesWriter(chest, each=deflate).write(tmp_path / "x")
    np.testing.assert_array_equal(read_volume(folder).array, chest)
    victim = sorted(folder.iterdir())[7]
    victim.write_bytes(victim.read_bytes()[:-200])
    with pytest.raises(UserError, match=f"{victim.name}: its deflated part is cut short"):
        read_volume(folder)


def test_a_deflated_bomb_is_refused(tmp_path: Path, chest: HU) -> None:
    import zlib

    folder = SeriesWriter(chest).write(tmp_path / "x")
    victim = sorted(folder.iterdir())[7]
    data = pydicom.dcmread(victim)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(victim)
    whole = victim.read_bytes()
    pack = zlib.compressobj(wbits=-15)
    bomb = b"".join(pack.compress(bytes(2**20)) for _ in range(200)) + pack.flush()
    end = whole.index(b"1.2.840.10008.1.2.1.99") + 22
    victim.write_bytes(whole[:end] + bomb)
    with pytest.raises(UserError, match=f"{victim.name}: "):
        read_volume(folder)


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble_and_meta_are_read(tmp_path: Path, chest: HU, implicit: bool) -> None:
    folder = SeriesWriter(chest).write(tmp_path / "x")
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        buffer = io.BytesIO()
        stream = DicomFileLike(buffer)
        stream.is_implicit_VR, stream.is_little_endian = implicit, True
        bare = Dataset({element.tag: element for element in data})
        write_dataset(stream, bare)
        file.write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_volume(folder).array, chest)


def test_packed_files_are_named(tmp_path: Path, chest: HU) -> None:
    folder = SeriesWriter(chest).write(tmp_path / "x")
    for file in folder.iterdir():
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    with pytest.raises(UserError, match="24 files are DICOM packed by gzip; unpack them with gunzip"):
        read_volume(folder)
    SeriesWriter(chest, uid="1.2.9").write(tmp_path / "x" / "plain")
    assert "24 files are DICOM packed by gzip" in read_volume(folder).flags[0]


def test_an_archive_is_named(tmp_path: Path, chest: HU) -> None:
    shutil.make_archive(str(tmp_path / "study"), "zip", SeriesWriter(chest).write(tmp_path / "x"))
    shutil.rmtree(tmp_path / "x")
    with pytest.raises(UserError, match=r"unpack study\.zip first"):
        read_volume(tmp_path)


def other(sop_class: str, modality: str, **values: Any) -> FileDataset:
    """An object of another kind, as archives keep beside a scan."""
    data = SeriesWriter(np.zeros((1, 16, 16), dtype=np.int16))._dataset(0, np.zeros((16, 16)), "1.9", np.zeros(3))
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
    data.Modality = modality
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def segmentation() -> FileDataset:
    packed = bytes(16 * 16 * 10 // 8)
    return other("66.4", "SEG", BitsAllocated=1, BitsStored=1, HighBit=0, NumberOfFrames=10, PixelData=packed)


def dose() -> FileDataset:
    return other("481.2", "RTDOSE", BitsAllocated=32, BitsStored=32, HighBit=31, NumberOfFrames=3,
                 PixelData=bytes(16 * 16 * 3 * 4))  # fmt: skip


def radiograph() -> FileDataset:
    data = other("1.1", "DX", PhotometricInterpretation="MONOCHROME1", StudyInstanceUID="1.7")
    del data.ImagePositionPatient
    return data


def without_pixels(sop_class: str, modality: str) -> FileDataset:
    data = other(sop_class, modality)
    del data.PixelData
    return data


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("cut", [0, 60])
def test_a_folder_as_archives_give_it(tmp_path: Path, chest: HU, flat: bool, cut: int) -> None:
    SeriesWriter(chest, uid="1.2.3").write(tmp_path / "x" if flat else tmp_path / "x" / "ct")
    objects = [segmentation(), dose(), radiograph(), without_pixels("88.33", "SR"), without_pixels("481.3", "RTSTRUCT"),
               without_pixels("11.1", "PR"), without_pixels("88.59", "KO")]  # fmt: skip
    for number, data in enumerate(objects):
        place = tmp_path / "x" if flat else tmp_path / "x" / data.Modality
        place.mkdir(exist_ok=True)
        path = place / f"other{number}.dcm"
        data.save_as(path, enforce_file_format=True)
        path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    volume = read_volume(tmp_path / "x")
    np.testing.assert_array_equal(volume.array, chest)
    assert volume.flags == ()


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.4"])
@pytest.mark.parametrize("kind", ["LOCALIZER", "AXIAL"])
def test_a_damaged_localizer_beside_the_scan(tmp_path: Path, chest: HU, uid: str, kind: str) -> None:
    SeriesWriter(chest, uid="1.2.3").write(tmp_path / "x" / "ct")
    coronal = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    scout = SeriesWriter(chest[:1], uid=uid, tags={"ImageType": ["ORIGINAL", "PRIMARY", kind]}, direction=coronal)
    (victim,) = scout.write(tmp_path / "x" / "scout").iterdir()
    victim.write_bytes(victim.read_bytes()[:-500])
    volume = read_volume(tmp_path / "x")
    np.testing.assert_array_equal(volume.array, chest)
    assert f"{victim.name} beside the scan is damaged" in volume.flags[0]


def test_a_damaged_slice_of_another_series(tmp_path: Path, chest: HU) -> None:
    SeriesWriter(chest, uid="1.2.3").write(tmp_path / "x" / "a")
    victim = sorted(SeriesWriter(chest[:18], uid="1.2.4").write(tmp_path / "x" / "b").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:-500])
    assert "beside the scan is damaged" in read_volume(tmp_path / "x").flags[0]


def test_files_named_dicom_that_are_not(tmp_path: Path, chest: HU) -> None:
    folder = SeriesWriter(chest).write(tmp_path / "x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._0001.dcm").write_bytes(b"\0\5\x16\7")
    (folder / "DICOMDIR").write_bytes(b"")
    assert read_volume(folder).flags == ()
    (folder / "error.dcm").write_text("<html>403</html>")
    assert "1 file is not DICOM though named so (such as error.dcm)" in read_volume(folder).flags[0]


def test_objects_keep_their_implicit_syntax(tmp_path: Path, chest: HU) -> None:
    folder = SeriesWriter(chest).write(tmp_path / "x")
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        pydicom.dcmwrite(file, data, implicit_vr=True, little_endian=True, enforce_file_format=True)
    np.testing.assert_array_equal(read_volume(folder).array, chest)
