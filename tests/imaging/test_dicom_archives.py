"""Folders and files as archives give them: deflated, packed, without preamble, other objects beside the scan."""

from __future__ import annotations

import gzip
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from fixtures.chest import SeriesWriter

HU = NDArray[np.int16]


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
