"""Patches of lung tissue alone, at a common inflation."""

from __future__ import annotations

import numpy as np
import pytest

from anatograph.anatomy.lung_tissue import COMMON_HU, OUTSIDE_HU, inside_lungs, lung_tissue, parenchyma_hu
from anatograph.imaging.volume import Frame, Mask


def _mask(spacing: tuple[float, float, float] = (0.7, 0.9, 2.5)) -> Mask:
    array = (np.random.default_rng(0).random((20, 50, 60)) < 0.5).astype(np.uint8)
    return Mask(array, Frame(array.shape, spacing, (-11.0, 7.0, 100.0)))


def test_inside_is_the_mask_at_every_voxel_of_a_patch() -> None:
    mask = _mask()
    centres = np.array([[5.0, 20.0, 120.0], [-11.0, 7.0, 100.0], [400.0, 0.0, 0.0]])  # the last lies outside the scan
    inside = inside_lungs(mask, centres, 8)
    steps = np.arange(8) - 3.5
    z, y, x = np.meshgrid(steps, steps, steps, indexing="ij")
    points = centres[:, None, None, None] + np.stack([x, y, z], axis=-1)
    np.testing.assert_array_equal(inside, mask.contains(points))
    assert inside[0].any()
    assert inside[1].any()
    assert not inside[2].any()


def test_an_oblique_mask_is_refused() -> None:
    mask = _mask()
    turned = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="axes"):
        inside_lungs(Mask(mask.array, Frame(mask.array.shape, (1, 1, 1), (0, 0, 0), turned)), np.zeros((1, 3)), 8)


def _lung(density: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    hu = random.normal(density, 40, (70, 8, 8, 8))
    hu[:, :2] = random.normal(-300, 150, (70, 2, 8, 8))  # vessels, consolidation
    inside = np.ones(hu.shape, dtype=bool)
    inside[:, :, :2] = False
    hu[:, :, :2] = 60
    return hu.round().astype(np.int16), inside


@pytest.mark.parametrize("density", [-900, -860, -780, -700])
def test_the_parenchyma_is_the_most_frequent_density_of_the_lungs(density: int) -> None:
    patches, inside = _lung(density)
    assert parenchyma_hu(patches, inside) == pytest.approx(density, abs=6)


def test_without_lung_the_parenchyma_is_the_common_one() -> None:
    patches, inside = _lung(-860)
    assert parenchyma_hu(patches, np.zeros_like(inside)) == COMMON_HU


def test_two_breaths_of_one_lung_become_alike() -> None:
    """Air that is added to a sponge divides 1000 + HU by the expansion."""
    deep = np.random.default_rng(2).integers(-990, -700, (3, 8, 8, 8)).astype(np.int16)
    shallow = np.rint((deep + 1000.0) * 1.25 - 1000).astype(np.int16)
    back = lung_tissue(shallow, None, -825.0, 1.0)  # -860 is -825 there
    assert np.abs(back - deep)[deep < -600].max() <= 1
    np.testing.assert_array_equal(lung_tissue(deep, None, COMMON_HU, 1.0), deep)
    np.testing.assert_array_equal(lung_tissue(shallow, None, -825.0, 0.0), shallow)


@pytest.mark.parametrize("parenchyma", [-990.0, -900.0, -700.0, -400.0])
def test_the_order_of_densities_stays_and_what_holds_no_air_is_unchanged(parenchyma: float) -> None:
    hu = np.arange(-1024, 1024, dtype=np.int16).reshape(4, 8, 8, 8)
    found = lung_tissue(hu, None, parenchyma, 1.0)
    assert (np.diff(found.reshape(-1).astype(int)) >= 0).all()
    np.testing.assert_array_equal(found[hu >= 0], hu[hu >= 0])
    assert found.min() >= -1024


def test_outside_is_soft_tissue() -> None:
    patches, inside = _lung(-800)
    found = lung_tissue(patches, inside, -800.0, 0.5)
    assert (found[~inside] == OUTSIDE_HU).all()
    np.testing.assert_array_equal(found[inside], lung_tissue(patches, None, -800.0, 0.5)[inside])
    assert found.dtype == np.int16
