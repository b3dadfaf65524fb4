"""Slices of one DICOM series: missing, double, uneven, tilted, of several sizes, damaged."""

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
from anatograph.imaging.dicom.choice import read_dicom_folder
from anatograph.imaging.reading import read_volume, write_array
from fixtures.chest import Writer, rotation, wide

HU = NDArray[np.int16]


def test_one_missing_slice_is_interpolated_and_said(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    volume = read_volume(series_writer(chest, skip=(9,)).write(tmp_path / "series"))
    keep = np.arange(len(chest)) != 9
    np.testing.assert_array_equal(volume.array[keep], chest[keep])
    np.testing.assert_allclose(volume.array[9], (chest[8].astype(float) + chest[10]) / 2, atol=0.51)
    assert volume.spacing[2] == 3.0
    assert len(volume.notes) == 1
    assert "1 missing slice (between -286.12 and -280.12 mm)" in volume.notes[0]


@pytest.mark.parametrize("skip", [(9, 10), (5, 15), (3, 4, 5, 6)])
def test_more_missing_slices_are_refused(tmp_path: Path, chest: HU, series_writer: Writer, skip: Any) -> None:
    with pytest.raises(UserError, match=f"{len(skip)} slices missing between"):
        read_volume(series_writer(chest, skip=skip).write(tmp_path / "series"))


def test_missing_thick_slice_is_refused(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    with pytest.raises(UserError, match="1 slice missing between"):
        read_volume(series_writer(chest, (2.0, 2.5, 8.0), skip=(9,)).write(tmp_path / "series"))


def test_the_same_slice_twice_is_dropped_and_said(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    folder = series_writer(chest).write(tmp_path / "series")
    for path in sorted(folder.iterdir())[:3]:
        shutil.copy(path, path.with_name("copy_" + path.name))
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, chest)
    assert volume.notes == ("3 slices found twice, pixel for pixel, and dropped once",)


def test_different_slices_at_one_place_are_refused(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    series_writer(chest, uid="1.2.3").write(tmp_path / "both" / "a")
    series_writer(chest[:4] + 5, uid="1.2.3").write(tmp_path / "both" / "b")
    with pytest.raises(UserError, match="two different slices lie at the same place"):
        read_volume(tmp_path / "both")


def test_two_acquisitions_in_one_series_are_separated(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    series_writer(chest, uid="1.2.3", tags={"AcquisitionNumber": 1}).write(tmp_path / "both" / "a")
    series_writer(chest + 5, uid="1.2.3", tags={"AcquisitionNumber": 2}).write(tmp_path / "both" / "b")
    volume = read_volume(tmp_path / "both")
    np.testing.assert_array_equal(volume.array, chest)
    assert "chosen out of 2" in volume.notes[0]


def move(index: int, by: float) -> Any:
    def each(k: int, data: FileDataset) -> None:
        if k == index:
            position = [float(v) for v in data.ImagePositionPatient]
            data.ImagePositionPatient = [position[0], position[1], position[2] + by]

    return each


def test_uneven_slices_are_refused_or_if_barely_so_evened(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    with pytest.raises(UserError, match=r"unevenly spaced, from 1.8 to 4.2 mm"):
        read_volume(series_writer(chest, each=move(10, 1.2)).write(tmp_path / "far"))
    volume = read_volume(series_writer(chest, each=move(10, 0.1)).write(tmp_path / "near"))
    np.testing.assert_array_equal(volume.array, chest)
    assert "from an even spacing of 3 mm" in volume.notes[0]
    assert read_volume(series_writer(chest, each=move(10, 0.002)).write(tmp_path / "even")).notes == ()


def test_two_spacings_in_one_series_are_refused(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    def each(k: int, data: FileDataset) -> None:
        position = [float(v) for v in data.ImagePositionPatient]
        data.ImagePositionPatient = [*position[:2], 1.5 * k if k < 12 else 18 + 5.0 * (k - 12)]

    with pytest.raises(UserError, match="unevenly spaced"):
        read_volume(series_writer(chest, each=each).write(tmp_path / "series"))


def test_positions_rounded_to_a_digit_are_even(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    def each(k: int, data: FileDataset) -> None:
        data.ImagePositionPatient = [-50.25, -61.5, round(-310 + 0.625 * k, 1)]

    volume = read_volume(series_writer(wide(chest), (2.0, 2.5, 0.625), each=each).write(tmp_path / "series"))
    np.testing.assert_array_equal(volume.array, wide(chest))
    assert volume.spacing[2] == pytest.approx(0.625, abs=5e-4)


def test_slices_moved_sideways_are_refused(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    def each(k: int, data: FileDataset) -> None:
        position = [float(v) for v in data.ImagePositionPatient]
        data.ImagePositionPatient = [position[0] + (8.0 if k > 11 else 0.0), *position[1:]]

    with pytest.raises(UserError, match="beside one another"):
        read_volume(series_writer(chest, each=each).write(tmp_path / "series"))


@pytest.mark.parametrize("degrees", [-12.0, 20.0])
def test_gantry_tilt_is_undone(tmp_path: Path, series_writer: Writer, degrees: float) -> None:
    """A smooth patient sampled by a tilted gantry: every voxel read lies where the patient has that number."""

    def patient(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = np.moveaxis(points, -1, 0)
        return -400 + 300 * np.sin(x / 12) + 250 * np.cos(y / 14 + 0.5) + 100 * np.sin(z / 20)

    direction = rotation(0, degrees)
    spacing, step = (1.5, 1.5, 3.0), np.array([0, 0, 3.0])
    origin = np.array([-40.0, -40.0, 100.0])
    x, y, k = np.meshgrid(np.arange(50), np.arange(48), np.arange(30), indexing="ij")
    points = origin + x[..., None] * 1.5 * direction[:, 0] + y[..., None] * 1.5 * direction[:, 1] + k[..., None] * step
    array = np.rint(patient(points)).transpose(2, 1, 0)
    # the table moves along the patient, the slices are tilted: positions shear against the slice normal
    folder = series_writer(array, spacing, tuple(origin), direction, step, tags={"GantryDetectorTilt": degrees}).write(
        tmp_path / "series"
    )
    volume = read_volume(folder)
    assert f"tilted by {abs(degrees):.1f} degrees" in volume.notes[0]
    assert not volume.frame.is_axis_aligned
    index = np.argwhere(volume.array > -1024)[:, ::-1]
    inner = volume.array[4:-4, 8:-8, 4:-4] > -1024
    assert inner.mean() > 0.6
    found = volume.array[tuple(index[:, ::-1].T)]
    error = np.abs(found - patient(volume.frame.to_lps(index)))
    assert np.quantile(error, 0.95) < 2.0
    assert len(index) > 0.95 * array.size
    write_array(tmp_path / "back.nii.gz", volume.array, volume)
    assert sitk.ReadImage(str(tmp_path / "back.nii.gz")).GetSize()[2] == 30


def test_a_tilt_in_the_header_alone_is_said(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    volume = read_volume(series_writer(chest, tags={"GantryDetectorTilt": 15.0}).write(tmp_path / "series"))
    np.testing.assert_array_equal(volume.array, chest)
    assert "positions and orientation show none" in volume.notes[0]


def test_mixed_sizes(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    series_writer(chest, uid="1.2.3").write(tmp_path / "half" / "a")
    series_writer(chest[:12, :20], uid="1.2.3", origin=(-50.25, -61.5, 0.0)).write(tmp_path / "half" / "b")
    with pytest.raises(UserError, match="images of different kinds are mixed"):
        read_volume(tmp_path / "half")
    series_writer(chest, uid="1.2.3").write(tmp_path / "few" / "a")
    series_writer(chest[:1, :20], uid="1.2.3", origin=(-50.25, -61.5, 0.0)).write(tmp_path / "few" / "b")
    volume = read_volume(tmp_path / "few")
    np.testing.assert_array_equal(volume.array, chest)
    assert "(1 image): only 1 slice," in volume.notes[0]


def test_a_scout_inside_the_series_is_left_out(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    series_writer(chest, uid="1.2.3").write(tmp_path / "x" / "a")
    scout = series_writer(chest[:1], uid="1.2.3", direction=np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
    scout.write(tmp_path / "x" / "b")
    volume = read_volume(tmp_path / "x")
    np.testing.assert_array_equal(volume.array, chest)
    assert "1 image" in volume.notes[0]


def test_thin_coarse_and_empty_folders(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    with pytest.raises(UserError, match="only 15 slices"):
        read_volume(series_writer(chest[:15]).write(tmp_path / "thin"))
    with pytest.raises(UserError, match="12 mm apart"):
        read_volume(series_writer(chest, (2.0, 2.5, 12.0)).write(tmp_path / "coarse"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no DICOM files"):
        read_volume(tmp_path / "empty")
    (tmp_path / "nifti").mkdir()
    (tmp_path / "nifti" / "scan.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"such as scan\.nii\.gz"):
        read_volume(tmp_path / "nifti")
    with pytest.raises(UserError, match="does not exist"):
        read_dicom_folder(tmp_path / "nothing")


def test_damaged_slices(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    folder = series_writer(chest).write(tmp_path / "series")
    victim = sorted(folder.iterdir())[5]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) - 700])
    with pytest.raises(UserError, match=victim.name):
        read_volume(folder)
    victim.write_bytes(whole[:300])
    with pytest.raises(UserError, match=victim.name):
        read_volume(folder)


def test_pixels_without_a_size_are_refused(tmp_path: Path, chest: HU, series_writer: Writer) -> None:
    with pytest.raises(UserError, match="do not say where they lie"):
        read_volume(series_writer(chest, tags={"PixelSpacing": [0, 0]}).write(tmp_path))
