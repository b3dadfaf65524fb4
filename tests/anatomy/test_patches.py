"""Patches against analytic images and against SimpleITK's resampling."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.anatomy.patches import cut_patches
from anatograph.imaging.volume import Frame, Volume


def scan(seed: int = 0) -> Volume:
    """A smooth random scan with voxels of 0.8 x 0.9 x 2 mm away from the origin of space."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1000, 200, (8, 12, 12))
    image = sitk.Resample(sitk.GetImageFromArray(coarse), (60, 70, 40), sitk.Transform(), sitk.sitkBSpline,
                          (2, 2, 1), (0.1, 0.1, 0.1))  # fmt: skip
    array = np.rint(sitk.GetArrayFromImage(image)).astype(np.int16)
    return Volume(array, Frame((40, 70, 60), (0.8, 0.9, 2.0), (-31.0, 12.5, -400.25)))


def by_itk(volume: Volume, centre: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    image = sitk.GetImageFromArray(volume.array.astype(np.float64))
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    corner = (centre - (size - 1) / 2).tolist()
    found = sitk.Resample(
        image, (size,) * 3, sitk.Transform(), sitk.sitkBSpline, corner, (1, 1, 1), np.eye(3).ravel().tolist(), -1024.0
    )
    array: NDArray[np.float64] = sitk.GetArrayFromImage(found)
    return array


def test_patches_are_what_itk_samples_at_the_exact_centres() -> None:
    volume = scan()
    centres = np.array([[-8.3, 40.77, -360.0], [-5.0, 45.123, -370.9], [-29.0, 14.0, -399.0]])
    patches, present = cut_patches(volume, centres, 16)
    assert patches.dtype == np.int16
    assert present.all()
    for patch, centre in zip(patches, centres, strict=True):
        expected = np.clip(by_itk(volume, centre, 16), -1024, None)
        np.testing.assert_allclose(patch, expected, atol=0.51)


def test_a_patch_over_the_border_is_padded_with_air_and_not_shifted() -> None:
    array = np.full((20, 20, 20), 40, dtype=np.int16)
    volume = Volume(array, Frame((20, 20, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    patches, present = cut_patches(volume, [[0.5, 9.5, 9.5], [9.5, 9.5, 21.5]], 8)
    assert present.all()
    assert (patches[0][:, :, :3] == -1024).all()  # x from -3 to -1
    assert (patches[0][:, :, 3:] == 40).all()
    assert (patches[1][:2] == 40).all()  # z from 18 to 25, of which 18 and 19 lie in the scan
    assert (patches[1][2:] == -1024).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_patch_wholly_outside_is_air_and_absent(axis: int, side: int) -> None:
    volume = Volume(np.zeros((20, 20, 20), dtype=np.int16), Frame((20, 20, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    outside = np.full(3, 9.5)
    outside[axis] += side * (10 + 3.5 + 0.01)  # half the scan, half the patch
    touching = np.full(3, 9.5)
    touching[axis] += side * (10 + 3.5 - 0.01)
    patches, present = cut_patches(volume, [outside, touching], 8)
    assert present.tolist() == [False, True]
    assert (patches[0] == -1024).all()
    assert (patches[1] == 0).any()


def test_patches_move_with_the_scan() -> None:
    volume = scan(1)
    centres = np.array([[-8.3, 40.77, -360.0], [-3.0, 38.0, -365.5]])
    shift = np.array([13.37, -240.2, 88.8])
    frame = volume.frame
    moved = Volume(volume.array, Frame(frame.shape, frame.spacing, tuple(np.asarray(frame.origin) + shift)))
    here, _ = cut_patches(volume, centres, 16)
    there, _ = cut_patches(moved, centres + shift, 16)
    assert np.abs(here.astype(int) - there).max() <= 1


def test_no_landmark_inside_the_scan() -> None:
    patches, present = cut_patches(scan(), [[900.0, 0.0, 0.0]], 8)
    assert not present.any()
    assert (patches == -1024).all()
