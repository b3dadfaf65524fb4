"""Masked backgrounds, lungs cut out of their chest, and two scans slice by slice in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from fixtures.chest import chest_array

HU = NDArray[np.int16]
Save = Callable[[HU], Path]


@pytest.fixture
def save(tmp_path: Path, as_image: Callable[..., sitk.Image]) -> Save:
    def write(array: HU) -> Path:
        sitk.WriteImage(as_image(np.ascontiguousarray(array)), str(tmp_path / "scan.nii"))
        return tmp_path / "scan.nii"

    return write


def parts(hu: HU) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Lungs and body (z, y, x) of the drawn chest."""
    _, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in hu.shape), indexing="ij")
    body = (x / 0.9) ** 2 + (y / 0.8) ** 2 < 1
    return body & (hu < -600), body


@pytest.mark.parametrize("value", [-1024, -2000, -3024, 0, 40, -500, 1000])
def test_outside_the_body_any_value_is_air(save: Save, value: int) -> None:
    hu = chest_array()
    _, body = parts(hu)
    volume = read_volume(save(np.where(body, hu, value).astype(np.int16)))
    air = read_volume(save(np.where(body, hu, -1024).astype(np.int16)))
    assert (volume.array != air.array).mean() < 2e-3
    assert air.flags == ()
    assert bool(volume.flags) == (value > -1024)
    if volume.flags:
        assert f"hold exactly {value} HU (a masked background)" in volume.flags[0]


@pytest.mark.parametrize("value", [-1024, -2000, -3024, -1000, -500, 1000])
@pytest.mark.parametrize("vessels", [0.005, 0.1])
def test_lungs_alone_are_refused(save: Save, value: int, vessels: float) -> None:
    hu = chest_array()
    lungs, _ = parts(hu)
    hu[lungs & (np.random.default_rng(0).random(hu.shape) < vessels)] = 30
    with pytest.raises(UserError, match=r"everything but the lungs seems|clipping to a window"):
        read_volume(save(np.where(lungs, hu, value).astype(np.int16)))


@pytest.mark.parametrize("value", [0, 40, -100])
def test_lungs_in_a_background_like_tissue_are_flagged(save: Save, value: int) -> None:
    hu = chest_array()
    lungs, _ = parts(hu)
    masked = np.where(lungs, hu, value).astype(np.int16)
    volume = read_volume(save(masked))
    np.testing.assert_array_equal(volume.array, masked)
    assert f"all but the lungs, hold exactly {value} HU (a masked background)" in volume.flags[0]


def test_the_intercept_subtracted_twice_is_named(save: Save) -> None:
    with pytest.raises(UserError, match="subtracted twice"):
        read_volume(save(chest_array() - 1024))


def test_two_scans_in_turn_are_refused(save: Save) -> None:
    first = np.repeat(chest_array(), 2, axis=0)
    second = np.roll(first, 6, axis=2)
    mixed = first.copy()
    mixed[1::2] = second[1::2]
    with pytest.raises(UserError, match="alternate between two images \\(neighbours differ"):
        read_volume(save(mixed))


def test_two_kernels_in_turn_are_refused(save: Save) -> None:
    rng = np.random.default_rng(0)
    fine = np.repeat(np.repeat(np.repeat(chest_array(), 2, axis=0), 3, axis=1), 3, axis=2)
    fine = np.clip(fine + rng.normal(0, 15, fine.shape), -1024, None)
    fine[1::2] += rng.normal(0, 60, fine[1::2].shape)
    with pytest.raises(UserError, match="the noise of odd and even slices differs"):
        read_volume(save(np.clip(np.rint(fine), -1024, None).astype(np.int16)))


def test_noise_alone_is_not_taken_for_two_scans(save: Save) -> None:
    rng = np.random.default_rng(1)
    noisy = np.repeat(chest_array(), 2, axis=0) + rng.normal(0, 150, (48, 40, 48))
    read_volume(save(np.clip(np.rint(noisy), -1024, 3000).astype(np.int16)))
