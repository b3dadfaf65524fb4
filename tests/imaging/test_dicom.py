"""DICOM folders written by pydicom: order, choice among series, repairs and refusals."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from anatograph.errors import UserError
from anatograph.imaging.dicom.choice import list_series, read_dicom_folder
from anatograph.imaging.dicom.codestream import picture_size
from anatograph.imaging.dicom.headers import read_headers
from anatograph.imaging.reading import read_volume
from fixtures.chest import Writer, wide

HU = NDArray[np.int16]


def test_slices_are_ordered_by_position_whatever_their_names(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    for seed, suffix in [(0, ".dcm"), (1, ""), (2, ".IMA")]:
        folder = series_writer(chest, seed=seed, suffix=suffix).write(tmp_path / f"s{seed}" / "deeper")
        (folder / "notes.txt").write_text("nothing")
        (folder / ".DS_Store").write_bytes(bytes(5000))
        volume = read_volume(tmp_path / f"s{seed}")
        np.testing.assert_array_equal(volume.array, chest)
        assert volume.spacing == (2.0, 2.5, 3.0)
        np.testing.assert_allclose(volume.origin, (-50.25, -61.5, -310.125), atol=1e-4)
        assert volume.notes == ()


@pytest.mark.parametrize("name", ["feet first", "prone", "coronal slices", "sagittal slices"])
def test_any_slice_orientation_gives_the_same_volume(
    tmp_path: Path, chest: HU, series_writer: Writer, name: str
) -> None:
    code = {"feet first": "LAI", "prone": "RAS", "coronal slices": "LIP", "sagittal slices": "PIL"}[name]
    image = sitk.GetImageFromArray(chest)
    image.SetSpacing((2.0, 2.5, 3.0))
    image = sitk.DICOMOrient(image, code)
    direction = np.reshape(image.GetDirection(), (3, 3))
    # The sign of a slice normal is that of rows × columns, so where the turned index runs against it, step back.
    writer = series_writer(
        sitk.GetArrayFromImage(image),
        image.GetSpacing(),
        image.GetOrigin(),
        direction,
        step=direction[:, 2] * image.GetSpacing()[2],
    )
    volume = read_volume(writer.write(tmp_path / "series"))
    np.testing.assert_array_equal(volume.array, chest)
    np.testing.assert_allclose(volume.spacing, (2.0, 2.5, 3.0))
    np.testing.assert_allclose(volume.origin, 0, atol=1e-4)
    assert ("not axial" in " ".join(volume.notes)) == ("slices" in name)


def test_slope_and_intercept_once_and_per_slice(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    volume = read_volume(series_writer(chest, intercept=-1000.0, slope=1.0).write(tmp_path / "a"))
    np.testing.assert_array_equal(volume.array, chest)

    def vary(k: int, data: FileDataset) -> None:
        intercept, slope = -1024 - 7 * k, 1 if k % 3 else 0.5
        data.RescaleIntercept, data.RescaleSlope = intercept, slope
        data.PixelData = np.rint((chest[k].astype(float) - intercept) / slope).astype("<i2").tobytes()

    volume = read_volume(series_writer(chest, each=vary).write(tmp_path / "b"))
    np.testing.assert_array_equal(volume.array, chest)


def test_fractional_slope_is_rounded(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    volume = read_volume(series_writer(chest, slope=0.7).write(tmp_path / "a"))
    raw = np.rint((chest + 1024.0) / 0.7)
    np.testing.assert_array_equal(volume.array, np.rint(raw * 0.7 - 1024))


def test_padding_is_air(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    low = chest.copy()
    low[:, :4] = -3024
    volume = read_volume(series_writer(low, tags={"PixelPaddingValue": -2000}).write(tmp_path / "low"))
    assert (volume.array[:, :4] == -1024).all()
    high = chest.copy()
    high[:, :4] = 8000
    volume = read_volume(series_writer(high, tags={"PixelPaddingValue": 9024}).write(tmp_path / "high"))
    assert (volume.array[:, :4] == -1024).all()
    np.testing.assert_array_equal(volume.array[:, 4:], chest[:, 4:])
    water = series_writer(chest, intercept=0.0, tags={"PixelPaddingValue": 40}).write(tmp_path / "tissue")
    np.testing.assert_array_equal(read_volume(water).array, chest)


def test_the_best_axial_ct_series_is_chosen_and_all_are_named(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    thin = wide(chest)

    order = ("thin is best", "thick", "coronal view", "short", "scout image", "dose screenshot", "magnet")
    numbers = {name: number for number, name in enumerate(order, start=1)}

    def series(name: str, array: HU, spacing: float, **tags: Any) -> None:
        series_writer(
            array,
            (2.0, 2.5, spacing),
            seed=len(name),
            uid=f"1.2.{sum(map(ord, name))}",
            tags={"SeriesDescription": name, "SeriesNumber": numbers[name]} | tags,
        ).write(tmp_path / "study" / name.replace(" ", "_"))

    series("thick", chest, 6.0)
    series("thin is best", thin, 3.0)
    series("short", thin[:20], 1.0)
    series("coronal view", thin, 2.8, ImageType=["DERIVED", "SECONDARY", "MPR"])
    series("scout image", chest[:2], 6.0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series("dose screenshot", chest[:1], 6.0, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    series("magnet", chest, 3.0, Modality="MR")
    volume = read_dicom_folder(tmp_path / "study")
    np.testing.assert_array_equal(volume.array, thin)
    (note,) = volume.notes
    assert note.startswith("series 1 (48 images, 3 mm apart) was chosen out of 7")
    for text in (
        "2 (24 images, 6 mm apart)",
        "4 (20 images, 1 mm apart)",
        "localizer",
        "screen captures",
        "modality is MR",
        "3 (48 images, 2.8 mm apart)",
    ):
        assert text in note
    assert not any(name in note for name in order)  # descriptions are free text and may name a patient
    assert [one.slices[0].value("SeriesNumber") for one in list_series(tmp_path / "study")][:4] == ["1", "2", "3", "4"]


def test_equal_series_are_ordered_by_kernel_and_then_by_uid(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    series_writer(chest, uid="1.2.3.1", tags={"ConvolutionKernel": "B70f"}).write(tmp_path / "x" / "a")
    series_writer(chest + 1, uid="1.2.3.2", tags={"ConvolutionKernel": "B31f"}).write(tmp_path / "x" / "b")
    series_writer(chest + 2, uid="1.2.3.3", tags={"ConvolutionKernel": "B31f"}).write(tmp_path / "x" / "c")
    assert [one.uid for one in list_series(tmp_path / "x")] == ["1.2.3.2", "1.2.3.3", "1.2.3.1"]
    np.testing.assert_array_equal(read_volume(tmp_path / "x").array, np.maximum(chest + 1, -1024))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "MR"}, "the modality is MR, not CT"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "screen captures"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "inverted"),
        ({"ImagePositionPatient": None}, "do not say where they lie"),
        ({"PixelSpacing": None}, "do not say where they lie"),
    ],
)
def test_series_that_are_no_ct_scan(
    tmp_path: Path, chest: HU, series_writer: Writer, tags: dict[str, Any], reason: str
) -> None:
    folder = series_writer(chest, tags=tags).write(tmp_path / "series")
    with pytest.raises(UserError, match=reason) as error:
        read_volume(folder)
    assert str(folder) in str(error.value)
    assert "series 1 (24 images)" in str(error.value)


def test_colour_and_multi_frame(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    def colour(k: int, data: FileDataset) -> None:
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PixelData = np.zeros((*chest[k].shape, 3), np.uint8).tobytes()

    with pytest.raises(UserError, match="colour"):
        read_volume(series_writer(chest, each=colour).write(tmp_path / "colour"))

    def frames(k: int, data: FileDataset) -> None:
        data.NumberOfFrames = 4
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
        data.PixelData = np.repeat(chest[k][None], 4, axis=0).astype("<i2").tobytes()

    with pytest.raises(UserError, match="4 frames"):
        read_volume(series_writer(chest[:1], each=frames).write(tmp_path / "frames"))


def test_numbers_that_are_no_hu(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    folder = series_writer(chest, tags={"RescaleIntercept": 0}).write(tmp_path / "series")
    with pytest.raises(UserError, match="without the rescale intercept"):
        read_volume(folder)


def test_one_file_of_a_series_and_several_patients(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    folder = series_writer(chest, uid="1.2.3").write(tmp_path / "x" / "a")
    with pytest.raises(UserError, match="give the folder that holds the whole series"):
        read_volume(next(folder.iterdir()))
    series_writer(chest, uid="1.2.4", tags={"PatientID": "P2"}).write(tmp_path / "x" / "b")
    with pytest.raises(UserError, match="2 patients") as error:
        read_volume(tmp_path / "x")
    assert "P1" not in str(error.value)


def test_linked_folders_are_followed_once(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    folder = series_writer(chest).write(tmp_path / "archive")
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "ct").symlink_to(folder)
    (folder / "loop").symlink_to(tmp_path / "patient")
    volume = read_volume(tmp_path / "patient")
    np.testing.assert_array_equal(volume.array, chest)
    assert volume.notes == ()


def test_notes_and_order_do_not_depend_on_names(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "dicom" / "thick001"
    rng = np.random.default_rng(0)
    files = sorted(source.iterdir())
    for number, path in zip(rng.permutation(len(files)), files, strict=True):
        shutil.copy(path, tmp_path / f"{number}")
    a, b = read_volume(source), read_volume(tmp_path)
    np.testing.assert_array_equal(a.array, b.array)
    assert a.frame.same_grid(b.frame, 1e-9)


def test_real_compressed_slices_whose_bytes_were_changed(shared: Path, tmp_path: Path) -> None:
    """A size in the compressed picture that is not the header's is found before a decoder allocates by it."""
    whole = sorted((shared / "data" / "dicom" / "normal002").iterdir())[60].read_bytes()
    at = whole.index(b"\xff\xc3")
    for place, change in ((at + 5, b"\xff\xff"), (at + 7, b"\x7f\xff"), (at - 30, b""), (at + 1, b"\xd9")):
        (tmp_path / "x.dcm").write_bytes(whole[:place] + change + whole[place + len(change or b"1234") :])
        headers = read_headers(tmp_path)
        assert not headers.slices
        assert "compressed picture" in headers.damaged[0].reason or "beyond its end" in headers.damaged[0].reason
    (tmp_path / "x.dcm").write_bytes(whole)
    assert len(read_headers(tmp_path).slices) == 1


def test_sizes_of_compressed_pictures() -> None:
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08\x01\x00\x02\x00\x01\x01\x11\x00"
    assert picture_size(jpeg) == (512, 256)
    assert picture_size(jpeg.replace(b"\xff\xc0", b"\xff\xf7")) == (512, 256)
    assert picture_size(b"\xff\x4f\xff\x51\x00\x29\x00\x00" + np.array([512, 256, 0, 0], ">u4").tobytes()) == (512, 256)
    for broken in (b"", jpeg[:12], b"\xff\xd8" + b"\xff" * 50, b"no picture at all", b"\xff\xd8\xff\xe0\xff\xff" * 3):
        assert picture_size(broken) is None
