"""The same scan from whatever file gives the same volume, and goes back where it came from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.orientation import lps_frame, lps_view, stored_view
from anatograph.imaging.reading import read_mask, read_volume, write_array, write_mask, write_volume
from anatograph.imaging.volume import Frame, Volume, vector

CODES = ["".join(code) for axes in itertools.permutations(("LR", "PA", "SI")) for code in itertools.product(*axes)]
Image = Callable[..., sitk.Image]


def geometry(image: sitk.Image) -> list[Any]:
    return [image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".nii", ".mhd"])
@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "SLP", "ARI"])
def test_same_volume_from_every_orientation_and_format(
    tmp_path: Path, chest: NDArray[np.int16], as_image: Image, code: str, suffix: str
) -> None:
    image = as_image(chest, (0.7, 0.6835938, 1.25))
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.DICOMOrient(image, code), str(path))
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, chest)
    assert volume.array.dtype == np.int16
    assert volume.array.flags.c_contiguous
    assert volume.spacing == (0.7, 0.6835938, 1.25)
    np.testing.assert_array_equal(volume.direction, np.eye(3))
    np.testing.assert_allclose(volume.origin, image.GetOrigin(), atol=1e-4)


@pytest.mark.parametrize("code", CODES)
def test_turning_agrees_with_simpleitk(chest: NDArray[np.int16], as_image: Image, code: str) -> None:
    tilt = np.linalg.qr(np.eye(3) + 0.2 * np.random.default_rng(1).normal(size=(3, 3)))[0]
    tilt *= np.sign(np.diag(tilt))
    image = sitk.DICOMOrient(as_image(chest, direction=tilt), code)
    stored = Frame(
        image.GetSize()[::-1], image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3))
    )
    native = sitk.GetArrayFromImage(image)
    expected = sitk.DICOMOrient(image, "LPS")
    frame = lps_frame(stored)
    turned = lps_view(native, stored.direction)
    np.testing.assert_array_equal(turned, sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(frame.spacing, expected.GetSpacing(), atol=1e-7)
    np.testing.assert_allclose(frame.origin, expected.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(frame.direction.ravel(), expected.GetDirection(), atol=1e-12)
    np.testing.assert_array_equal(stored_view(turned, stored.direction), native)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), code=st.sampled_from(CODES))
def test_a_marked_voxel_keeps_its_place_in_the_patient(as_image: Image, seed: int, code: str) -> None:
    rng = np.random.default_rng(seed)
    array = np.zeros(tuple(rng.integers(3, 7, 3)), dtype=np.int16)
    mark = tuple(int(rng.integers(n)) for n in array.shape)
    array[mark] = 1
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    image = as_image(array, tuple(rng.uniform(0.5, 5, 3)), tuple(rng.uniform(-300, 300, 3)), matrix)
    place = image.TransformIndexToPhysicalPoint(mark[::-1])
    stored = Frame(array.shape, image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
    turned = lps_view(array, stored.direction)
    found = lps_frame(stored).to_lps(np.argwhere(turned)[0][::-1])
    np.testing.assert_allclose(found, place, atol=2e-4)


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIR"])
def test_results_go_back_on_the_grid_of_the_file(
    tmp_path: Path, chest: NDArray[np.int16], as_image: Image, code: str
) -> None:
    image = sitk.DICOMOrient(as_image(chest), code)
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    image = sitk.ReadImage(str(tmp_path / "scan.nii.gz"))
    volume = read_volume(tmp_path / "scan.nii.gz")
    write_volume(tmp_path / "again" / "scan.nii.gz", volume)
    back = sitk.ReadImage(str(tmp_path / "again" / "scan.nii.gz"))
    assert geometry(back) == geometry(image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))
    heat = np.random.default_rng(0).random(volume.array.shape).astype(np.float32)
    write_array(tmp_path / "heat.nrrd", heat, volume)
    turned = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "heat.nrrd")), "LPS")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(turned), heat)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["again", "heat.nrrd", "scan.nii.gz"]


def test_results_of_a_resampled_scan_go_back_too(tmp_path: Path, chest: NDArray[np.int16], as_image: Image) -> None:
    image = sitk.DICOMOrient(as_image(chest, (3.0, 3.0, 4.0)), "RAS")
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))
    scan = read_volume(tmp_path / "scan.nii.gz")
    size = np.ceil(np.multiply(scan.array.shape[::-1], scan.spacing) / 1.5).astype(int) + 3
    fine = Frame((int(size[2]), int(size[1]), int(size[0])), (1.5, 1.5, 1.5), vector(np.asarray(scan.origin) - 1.5))
    volume = replace(scan, array=np.zeros(fine.shape, dtype=np.int16), frame=fine)
    ramp = volume.frame.to_lps(np.stack(np.meshgrid(*map(np.arange, volume.array.shape[::-1]), indexing="ij"), -1))
    heat = (ramp @ [0.3, -0.2, 0.5]).transpose(2, 1, 0).astype(np.float32)
    write_array(tmp_path / "heat.nii.gz", heat, volume)
    back = sitk.ReadImage(str(tmp_path / "heat.nii.gz"))
    np.testing.assert_allclose(back.GetOrigin(), image.GetOrigin(), atol=1e-4)
    assert back.GetSize() == image.GetSize()
    index = (10, 20, 7)
    place = np.asarray(image.TransformIndexToPhysicalPoint(index))
    assert back[index] == pytest.approx(place @ [0.3, -0.2, 0.5], abs=1e-3)


def test_noise_of_single_precision_in_a_direction_is_taken_off(
    tmp_path: Path, chest: NDArray[np.int16], as_image: Image
) -> None:
    direction = np.eye(3) + 3e-6 * np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]])
    sitk.WriteImage(as_image(chest, direction=direction), str(tmp_path / "scan.nrrd"))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nrrd").direction, np.eye(3))


def test_oblique_scan_keeps_its_direction(tmp_path: Path, chest: NDArray[np.int16], as_image: Image) -> None:
    angle = np.radians(10)
    direction = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    sitk.WriteImage(as_image(chest, direction=direction), str(tmp_path / "scan.nii.gz"))
    volume = read_volume(tmp_path / "scan.nii.gz")
    assert not volume.frame.is_axis_aligned
    np.testing.assert_allclose(volume.direction, direction, atol=1e-6)


def test_slope_and_intercept_of_a_nifti_are_applied_once(
    tmp_path: Path, chest: NDArray[np.int16], as_image: Image
) -> None:
    sitk.WriteImage(as_image((chest.astype(np.int32) + 1024).astype(np.int16)), str(tmp_path / "scan.nii"))
    data = bytearray((tmp_path / "scan.nii").read_bytes())
    data[112:120] = np.array([1.0, -1024.0], dtype="<f4").tobytes()  # scl_slope and scl_inter of a NIfTI-1 header
    (tmp_path / "scan.nii").write_bytes(bytes(data))
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, chest)


def test_fractions_are_rounded_and_padding_is_air(tmp_path: Path, chest: NDArray[np.int16], as_image: Image) -> None:
    values = chest + np.random.default_rng(3).uniform(-0.49, 0.49, chest.shape).astype(np.float32)
    values[:, :3] = -3024
    values[:, 3:6] = -2000.7
    sitk.WriteImage(as_image(values.astype(np.float32)), str(tmp_path / "scan.nii.gz"))
    array = read_volume(tmp_path / "scan.nii.gz").array
    assert (array[:, :6] == -1024).all()
    np.testing.assert_array_equal(array[:, 6:], chest[:, 6:])


@pytest.mark.parametrize(
    ("name", "copies"),
    [
        ("normal002", [("RAS", "scan.nii")]),
        ("thick001", [("RAS", "scan.nii"), ("LAS", "scan.mha"), ("SRP", "scan.nrrd")]),
    ],
)
def test_real_dicom_equals_the_same_scan_in_a_file(
    shared: Path, tmp_path: Path, name: str, copies: list[tuple[str, str]]
) -> None:
    folder = shared / "data" / "dicom" / name
    volume = read_volume(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    np.testing.assert_array_equal(volume.array, np.maximum(sitk.GetArrayFromImage(image), -1024))
    np.testing.assert_allclose(volume.origin, image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing(), atol=1e-6)
    for code, file in copies:
        sitk.WriteImage(sitk.DICOMOrient(image, code), str(tmp_path / file))
        other = read_volume(tmp_path / file)
        np.testing.assert_array_equal(other.array, volume.array)
        assert other.spacing == volume.spacing
        np.testing.assert_allclose(other.origin, volume.origin, atol=1.1e-4)
        np.testing.assert_array_equal(other.direction, np.eye(3))
        (tmp_path / file).unlink()


@pytest.mark.parametrize(
    "name", ["dicom/covid002", "nifti/lung1.nii.gz", "nifti/small001.nii.gz", "nifti/small002.nii.gz"]
)
def test_real_scans_are_read(shared: Path, name: str) -> None:
    volume = read_volume(shared / "data" / name)
    assert volume.array.min() >= -1024
    assert volume.frame.is_axis_aligned
    assert volume.notes == ()
    middle = volume.array[len(volume.array) // 2]
    assert (middle < -1000).mean() < 0.8


def test_written_mask_reads_back(tmp_path: Path, shared: Path) -> None:
    scan = read_volume(shared / "data" / "nifti" / "small002.nii.gz")
    mask = read_mask(shared / "data" / "nifti" / "small002_lungs.nii.gz", scan)
    write_mask(tmp_path / "lungs.nii.gz", mask)
    again = read_mask(tmp_path / "lungs.nii.gz", scan)
    np.testing.assert_array_equal(again.array, mask.array)
    assert again.frame is scan.frame


def test_write_needs_a_known_ending(tmp_path: Path) -> None:
    volume = Volume(np.zeros((2, 2, 2), np.int16), Frame((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    with pytest.raises(UserError, match="end it with one of"):
        write_volume(tmp_path / "scan.xyz", volume)
