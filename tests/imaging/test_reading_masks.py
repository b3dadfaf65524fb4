"""Lung masks from files: sides by place and not by number, on the scan's grid, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.imaging.volume import Frame, Volume

Image = Callable[..., sitk.Image]


def lungs(bridge: bool = False) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The right and the left lung, z, y, x, on a grid of 60 × 60 × 80 voxels of 3 mm."""
    z, y, x = np.meshgrid(np.arange(60) - 30, np.arange(60) - 30, np.arange(80) - 40, indexing="ij")
    right = ((x + 19) / 16) ** 2 + (y / 22) ** 2 + (z / 26) ** 2 < 1
    left = ((x - 20) / 14) ** 2 + (y / 20) ** 2 + (z / 24) ** 2 < 1
    if bridge:
        right |= (np.abs(x) < 10) & (np.abs(y) < 2) & (np.abs(z) < 6) & ~left
    return right, left


def save(path: Path, as_image: Image, labels: NDArray[np.uint8], code: str = "LPS") -> Path:
    image = as_image(labels, (3.0, 3.0, 3.0))
    sitk.WriteImage(sitk.DICOMOrient(image, code), str(path))
    return path


@pytest.mark.parametrize("code", ["LPS", "RAS", "SAR"])
@pytest.mark.parametrize("numbers", [(1, 2), (2, 1), (10, 20), (100, 50), (1, 1), (255, 255)])
def test_sides_come_from_the_place(tmp_path: Path, as_image: Image, numbers: tuple[int, int], code: str) -> None:
    right, left = lungs()
    labels = (right * numbers[0] + left * numbers[1]).astype(np.uint8)
    mask = read_mask(save(tmp_path / "m.nii.gz", as_image, labels, code))
    np.testing.assert_array_equal(mask.array, right * 1 + left * 2)
    assert mask.frame.is_axis_aligned


def test_a_tumour_with_its_own_label_joins_the_nearer_lung(tmp_path: Path, as_image: Image) -> None:
    right, left = lungs()
    labels = (right + 2 * left).astype(np.uint8)
    labels[28:33, 28:33, 18:23] = 3
    labels[28:33, 28:33, 62:66] = 3
    mask = read_mask(save(tmp_path / "m.nrrd", as_image, labels))
    np.testing.assert_array_equal(mask.array, right * 1 + left * 2)


def test_five_lobes_become_two_lungs(tmp_path: Path, as_image: Image) -> None:
    right, left = lungs()
    z = np.arange(60)[:, None, None]
    labels = np.where(right, np.select([z < 20, z < 40], [3, 4], 5), 0) + np.where(left, np.where(z < 30, 2, 1), 0)
    mask = read_mask(save(tmp_path / "m.nii.gz", as_image, labels.astype(np.uint8)))
    np.testing.assert_array_equal(mask.array, right * 1 + left * 2)


def test_lungs_that_touch_are_parted(tmp_path: Path, as_image: Image) -> None:
    right, left = lungs(bridge=True)
    mask = read_mask(save(tmp_path / "m.nii.gz", as_image, (right | left).astype(np.uint8)))
    np.testing.assert_array_equal(mask.lungs, right | left)
    wrong = (mask.array == 2) & right & (np.arange(80) < 36)
    assert not wrong.any()
    assert (mask.array[left & ~right] == 2).mean() > 0.99


def test_one_lung_has_no_side(tmp_path: Path, as_image: Image) -> None:
    right, _ = lungs()
    mask = read_mask(save(tmp_path / "m.nii.gz", as_image, right.astype(np.uint8)))
    np.testing.assert_array_equal(mask.array, right * 3)


def test_a_mask_on_another_grid_is_laid_on_the_scan(tmp_path: Path, as_image: Image) -> None:
    right, left = lungs()
    path = save(tmp_path / "m.nii.gz", as_image, (right + 2 * left).astype(np.uint8))
    whole = read_mask(path)
    frame = Frame((70, 80, 100), (2.0, 2.0, 2.5), (-40.0, -55.0, -305.0))
    scan = Volume(np.zeros(frame.shape, np.int16), frame)
    mask = read_mask(path, scan)
    assert mask.frame is frame
    points = frame.to_lps(np.argwhere(mask.lungs)[::50, ::-1])
    index = np.rint(whole.frame.to_index(points)).astype(int)
    np.testing.assert_array_equal(whole.array[tuple(index[:, ::-1].T)], mask.array[mask.lungs][::50])


def test_masks_that_are_refused(tmp_path: Path, as_image: Image, chest: NDArray[np.int16]) -> None:
    right, left = lungs()
    path = save(tmp_path / "m.nii.gz", as_image, (right | left).astype(np.uint8))
    away = Volume(np.zeros((20, 20, 20), np.int16), Frame((20, 20, 20), (1.0, 1.0, 1.0), (900.0, 0.0, 0.0)), source="S")
    with pytest.raises(UserError, match="only 0% of the mask lies on the scan S"):
        read_mask(path, away)
    save(tmp_path / "empty.nii.gz", as_image, np.zeros((20, 20, 20), np.uint8))
    with pytest.raises(UserError, match="the mask is empty"):
        read_mask(tmp_path / "empty.nii.gz")
    sitk.WriteImage(as_image(chest), str(tmp_path / "scan.nii.gz"))
    with pytest.raises(UserError, match="more than 100 different values"):
        read_mask(tmp_path / "scan.nii.gz")
    with pytest.raises(UserError, match="not a folder"):
        read_mask(tmp_path)


@pytest.mark.parametrize("name", ["lung1", "small001", "small002"])
def test_real_masks(shared: Path, name: str) -> None:
    folder = shared / "data" / "nifti"
    scan = read_volume(folder / f"{name}.nii.gz")
    mask = read_mask(folder / f"{name}_lungs.nii.gz", scan)
    drawn = sitk.DICOMOrient(sitk.ReadImage(str(folder / f"{name}_lungs.nii.gz")), "LPS")
    np.testing.assert_array_equal(mask.lungs, sitk.GetArrayFromImage(drawn) > 0)
    columns = np.arange(mask.array.shape[2]) * scan.spacing[0]
    right, left = (np.average(columns, weights=(mask.array == side).sum((0, 1))) for side in (1, 2))
    assert 100 < left - right < 220
    # lung is dark on both sides, so mask and scan were turned alike
    assert np.median(scan.array[mask.array == 1]) < -600
    assert np.median(scan.array[mask.array == 2]) < -600
