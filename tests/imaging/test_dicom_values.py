"""What the numbers of DICOM slices mean: rescaling, maps that are not scans, padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from fixtures.chest import SeriesWriter

HU = NDArray[np.int16]


@pytest.mark.parametrize("keyword", ["RescaleIntercept", "RescaleSlope"])
def test_rescaling_missing_in_some_slices(tmp_path: Path, chest: HU, keyword: str) -> None:
    def drop(k: int, data: FileDataset) -> None:
        if k in (3, 4):
            delattr(data, keyword)

    with pytest.raises(UserError, match=f"{keyword} is missing in 2 of its 24 slices"):
        read_volume(SeriesWriter(chest, each=drop).write(tmp_path / "x"))


def test_a_slope_of_zero_is_no_rescaling(tmp_path: Path, chest: HU) -> None:
    with pytest.raises(UserError, match="RescaleSlope is 0 in 24 of its 24 slices"):
        read_volume(SeriesWriter(chest, tags={"RescaleSlope": 0}).write(tmp_path / "x"))


def test_rescaling_that_differs_is_applied_and_flagged(tmp_path: Path, chest: HU) -> None:
    def shift(k: int, data: FileDataset) -> None:
        if k % 3 == 0:
            data.RescaleIntercept = -1000
            data.PixelData = (chest[k] + 1000).astype("<i2").tobytes()

    volume = read_volume(SeriesWriter(chest, each=shift).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, chest)
    assert "differ in RescaleIntercept" in volume.flags[0]


def test_blocks_one_above_the_other_are_one_scan_with_a_flag(tmp_path: Path, fine: HU) -> None:
    def upper(k: int, data: FileDataset) -> None:
        data.AcquisitionNumber = 1 + (k >= 20)

    volume = read_volume(SeriesWriter(fine, (2.0, 2.5, 1.5), each=upper).write(tmp_path / "x"))
    np.testing.assert_array_equal(volume.array, fine)
    assert len(volume.flags) == 1
    assert "acquired in 2 blocks, one above the other" in volume.flags[0]

    def each(k: int, data: FileDataset) -> None:  # a sequence, slice by slice
        data.AcquisitionNumber = k

    assert not read_volume(SeriesWriter(fine, (2.0, 2.5, 1.5), each=each).write(tmp_path / "y")).flags


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


@pytest.mark.parametrize("kind", ["MIP", "MINIP", "MIN IP"])
def test_projections_are_not_a_scan(tmp_path: Path, chest: HU, kind: str) -> None:
    with pytest.raises(UserError, match=f"projections through several slices .ImageType {kind}"):
        read_volume(SeriesWriter(chest, tags={"ImageType": ["DERIVED", "SECONDARY", "AXIAL", kind]}).write(tmp_path))


@pytest.mark.parametrize("kind", ["VMI", "VNC"])
def test_images_computed_from_two_energies_are_flagged(tmp_path: Path, chest: HU, kind: str) -> None:
    series = SeriesWriter(chest, tags={"ImageType": ["DERIVED", "PRIMARY", "AXIAL", kind]}).write(tmp_path)
    assert any("computed from two energies" in flag for flag in read_volume(series).flags)


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
