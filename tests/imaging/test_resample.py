"""Resampling and patches against SimpleITK, SciPy and first principles."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.reading import read_volume
from anatograph.imaging.resample import axis_aligned, resample_labels
from anatograph.imaging.spline import SplineSampler
from anatograph.imaging.volume import Frame, Volume

HU = NDArray[np.int16]
Interpolation = Literal["bspline", "linear"]
ITK = {"bspline": sitk.sitkBSpline, "linear": sitk.sitkLinear}


def volume_of(array: HU, spacing: tuple[float, float, float] = (0.8, 1.3, 2.5), direction: object = None) -> Volume:
    turn = np.eye(3) if direction is None else np.asarray(direction, dtype=np.float64)
    return Volume(array, Frame(array.shape, spacing, (-20.3, 31.7, -150.2), turn))


def resampled_by_itk(volume: Volume, target: Frame, interpolation: Interpolation) -> NDArray[np.float64]:
    image = volume.frame.to_image(volume.array.astype(np.float64))
    result = sitk.Resample(
        image,
        target.shape[::-1],
        sitk.Transform(),
        ITK[interpolation],
        target.origin,
        target.spacing,
        target.direction.ravel().tolist(),
        -1024.0,
    )
    return np.maximum(sitk.GetArrayFromImage(result), -1024)


def rotated() -> NDArray[np.float64]:
    matrix = np.linalg.qr(np.eye(3) + 0.15 * np.random.default_rng(2).normal(size=(3, 3)))[0]
    return np.asarray(matrix * np.sign(np.diag(matrix)))


def tilted(axis: int) -> np.ndarray:
    """Turned by 14° about one axis, as by a tilted gantry."""
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(0.25)
    matrix[first, second], matrix[second, first] = -np.sin(0.25), np.sin(0.25)
    return matrix


@pytest.mark.parametrize("turned", [rotated(), *(tilted(axis) for axis in range(3))], ids=["any", "x", "y", "z"])
@pytest.mark.parametrize("interpolation", ["bspline", "linear"])
def test_oblique_scans_equal_simpleitk(chest: HU, interpolation: Interpolation, turned: np.ndarray) -> None:
    volume = volume_of(chest, direction=turned)
    result = axis_aligned(volume, interpolation)
    assert result.frame.is_axis_aligned
    assert result.spacing == volume.spacing
    expected = resampled_by_itk(volume, result.frame, interpolation)
    index = volume.frame.to_index(result.frame.to_lps(np.argwhere(np.ones(result.array.shape))[:, ::-1]))
    edge = np.abs(np.abs(index - (np.array(chest.shape[::-1]) - 1) / 2) - np.array(chest.shape[::-1]) / 2).min(1)
    error = np.abs(result.array - expected).ravel()
    assert error[edge > 1e-6].max() <= 0.51
    assert result.notes[-1].startswith("the scan's axes are oblique")


def test_a_grid_already_right_is_left_as_it_is(chest: HU) -> None:
    volume = volume_of(chest, (1.0, 1.0, 1.0))
    assert axis_aligned(volume) is volume


def test_the_new_grid_lies_centred_in_the_old_one(chest: HU) -> None:
    volume = volume_of(chest, direction=rotated())
    result = axis_aligned(volume)
    size, new = np.asarray(chest.shape[::-1]), np.asarray(result.array.shape[::-1])
    np.testing.assert_allclose(volume.frame.to_lps((size - 1) / 2), result.frame.to_lps((new - 1) / 2), atol=1e-9)
    corners = volume.frame.to_lps([[x, y, z] for x in (0, size[0]) for y in (0, size[1]) for z in (0, size[2])])
    slack = np.ptp(corners, axis=0) - new * np.asarray(volume.spacing)
    assert (slack > -1e-3).all()
    assert (slack < volume.spacing).all()


@pytest.mark.parametrize("turned", [rotated(), tilted(0)], ids=["any", "gantry"])
def test_memory_of_resampling_is_bounded(turned: np.ndarray) -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, (96, 160, 160), dtype=np.int16)
    volume = volume_of(array, (0.75, 0.75, 1.0), turned)
    tracemalloc.start()
    result = axis_aligned(volume, "linear")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Beside the scan itself: the result, and blocks whose size does not grow with the scan.
    assert peak - result.array.nbytes < 220 * 2**20


def test_patches_of_a_real_scan_equal_simpleitk(shared: Path) -> None:
    volume = read_volume(shared / "data" / "nifti" / "small002.nii.gz")
    sampler = SplineSampler(volume)
    for index in ([40, 50, 30], [64.3, 64.8, 32.1], [90, 70, 2]):
        centre = volume.frame.to_lps(index)
        frame = Frame((20,) * 3, (2.9,) * 3, tuple(centre - 9.5 * 2.9))
        expected = resampled_by_itk(volume, frame, "bspline")
        assert np.abs(sampler.grid(centre, 20, 2.9) - expected).max() <= 0.51


@pytest.mark.parametrize("interpolation", ["bspline", "linear"])
def test_patches_equal_simpleitk(chest: HU, interpolation: Interpolation) -> None:
    volume = volume_of(chest)
    sampler = SplineSampler(volume, interpolation=interpolation)
    middle = volume.frame.to_lps((np.asarray(chest.shape[::-1]) - 1) / 2)
    for offset in ([0, 0, 0], [3.21, -4.4, 7.77], [-22.5, 30, -28], [40, 0, 0], [500, 0, 0]):
        for size, spacing in ((12, 1.0), (7, 1.7)):
            centre = middle + offset
            corner = centre - (size - 1) / 2 * spacing
            frame = Frame((size,) * 3, (spacing,) * 3, tuple(corner))
            expected = resampled_by_itk(volume, frame, interpolation)
            assert np.abs(sampler.grid(centre, size, spacing) - expected).max() <= 0.51


@settings(max_examples=30, deadline=None)
@given(
    slope=st.tuples(*[st.floats(-4, 4)] * 3),
    shift=st.tuples(*[st.floats(-4, 4)] * 3),
    interpolation=st.sampled_from(["bspline", "linear"]),
)
def test_linear_ramps_are_kept(
    slope: tuple[float, ...], shift: tuple[float, ...], interpolation: Interpolation
) -> None:
    frame = Frame((40, 40, 40), (0.9, 1.2, 1.5), (5.0, -7.0, 11.0))
    points = frame.to_lps(np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1)[..., ::-1])
    middle = frame.to_lps([19.5, 19.5, 19.5])
    volume = Volume(np.rint((points - middle) @ slope).astype(np.int16), frame)
    centre = middle + shift
    patch = SplineSampler(volume, interpolation=interpolation).grid(centre, 10)
    offset = np.arange(10) - 4.5
    z, y, x = np.meshgrid(offset, offset, offset, indexing="ij")
    expected = (np.stack([x, y, z], -1) + shift) @ np.asarray(slope)
    # the voxels were rounded to whole HU before, which a cubic spline can amplify by up to 1.5³ at the worst
    assert np.abs(patch - expected).max() <= (2.2 if interpolation == "bspline" else 1.01)


def test_steep_linear_ramp_is_exact() -> None:
    frame = Frame((40, 40, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    z, y, x = np.meshgrid(*[np.arange(40)] * 3, indexing="ij")
    volume = Volume((8 * x + 16 * y - 4 * z).astype(np.int16), frame)
    for interpolation in ("bspline", "linear"):
        patch = SplineSampler(volume, interpolation=interpolation).grid([19.25, 18.5, 20.75], 10)
        z, y, x = np.meshgrid(*[np.arange(10) - 4.5] * 3, indexing="ij")
        np.testing.assert_array_equal(patch, 8 * (x + 19.25) + 16 * (y + 18.5) - 4 * (z + 20.75))


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (137.123, -91.7, 1000.3)])
def test_patches_move_with_the_scan(chest: HU, shift: tuple[float, float, float]) -> None:
    volume = volume_of(chest)
    origin = np.asarray(volume.origin) + shift
    moved = Volume(chest, replace(volume.frame, origin=(origin[0], origin[1], origin[2])))
    centre = volume.frame.to_lps([20.3, 18.8, 11.4])
    a, b = SplineSampler(volume).grid(centre, 16), SplineSampler(moved).grid(centre + shift, 16)
    assert np.abs(a.astype(int) - b).max() <= 1
    assert (a != b).mean() < 1e-3


def test_cropping_and_padding_with_whole_voxels_changes_nothing_inside(chest: HU) -> None:
    volume = volume_of(chest)
    padded = np.pad(chest, ((20, 5), (19, 6), (18, 0)), mode="reflect")
    wide = Volume(padded, volume.frame.crop((-20, -19, -18), padded.shape))
    centre = volume.frame.to_lps([24, 20, 12])
    a, b = SplineSampler(volume).grid(centre, 8), SplineSampler(wide).grid(centre, 8)
    assert np.abs(a.astype(int) - b).max() <= 1


def test_outside_is_air(chest: HU) -> None:
    volume = volume_of(np.full((20, 20, 20), 500, dtype=np.int16), (1.0, 1.0, 1.0))
    sampler = SplineSampler(volume)
    origin = np.asarray(volume.origin)
    patch = sampler.grid(origin, 8)
    inside = np.arange(8) - 3.5 >= -0.5
    expected = np.where(inside[:, None, None] & inside[None, :, None] & inside[None, None, :], 500, -1024)
    np.testing.assert_array_equal(patch, expected)
    assert (sampler.grid(origin - 100, 8) == -1024).all()
    assert (sampler.grid(volume.frame.to_lps([5, 5, 200]), 8) == -1024).all()


@pytest.mark.parametrize("interpolation", ["bspline", "linear"])
def test_a_region_saves_work_and_changes_nothing(interpolation: Interpolation) -> None:
    rng = np.random.default_rng(5)
    array = rng.integers(-1000, 1000, (60, 70, 80), dtype=np.int16)
    volume = volume_of(array, (1.1, 0.9, 1.4))
    whole = SplineSampler(volume, interpolation=interpolation)
    low, high = volume.frame.to_lps([25, 25, 20]), volume.frame.to_lps([50, 45, 40])
    part = SplineSampler(volume, (low, high), interpolation)
    for centre in (volume.frame.to_lps(rng.uniform(0, 80, 3)) for _ in range(30)):
        difference = whole.grid(centre, 9).astype(int) - part.grid(centre, 9)
        assert np.abs(difference).max() <= 1
        assert (difference != 0).mean() < 1e-2


def test_sampler_wants_an_aligned_scan(chest: HU) -> None:
    with pytest.raises(ValueError, match="axis_aligned"):
        SplineSampler(volume_of(chest, direction=rotated()))


@pytest.mark.parametrize("direction", [np.eye(3), rotated()])
def test_labels_equal_simpleitk(direction: NDArray[np.float64]) -> None:
    rng = np.random.default_rng(4)
    labels = ndimage.zoom(rng.integers(0, 4, (6, 7, 8)), 4, order=0).astype(np.uint8)
    frame = Frame(labels.shape, (1.5, 1.7, 2.1), (3.0, 4.0, 5.0), direction)
    target = Frame((50, 45, 40), (1.03, 1.11, 1.19), (0.2, 0.3, 0.4))
    image = frame.to_image(labels)
    expected = sitk.Resample(
        image, target.shape[::-1], sitk.Transform(), sitk.sitkNearestNeighbor, target.origin, target.spacing
    )
    difference = resample_labels(labels, frame, target) != sitk.GetArrayFromImage(expected)
    inside = resample_labels(np.ones_like(labels), frame, target) > 0
    assert difference[inside].mean() < 2e-3
    assert (difference & ~inside).mean() < 2e-3
