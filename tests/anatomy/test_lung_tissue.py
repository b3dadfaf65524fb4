"""Patches of lung tissue alone, at a common inflation."""

from __future__ import annotations

import numpy as np
import pytest

from anatograph.anatomy.lung_tissue import COMMON_HU, OUTSIDE_HU, inside_lungs, lung_tissue, parenchyma
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


def _lung(density: float, patches: int = 70) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    hu = random.normal(density, 40, (patches, 8, 8, 8))
    hu[:, :2] = random.normal(-300, 150, (patches, 2, 8, 8))  # vessels, consolidation
    inside = np.ones(hu.shape, dtype=bool)
    inside[:, :, :2] = False
    hu[:, :, :2] = 60
    return hu.round().astype(np.int16), inside


def _lungs(right: float, left: float, patches_left: int = 70) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    one, other = _lung(right), _lung(left, patches_left)
    on_right = np.arange(70 + patches_left) < 70
    return np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]]), on_right


@pytest.mark.parametrize(("right", "left"), [(-900, -900), (-860, -780), (-770, -905)])
def test_the_parenchyma_is_the_most_frequent_density_of_each_lung(right: int, left: int) -> None:
    patches, inside, on_right = _lungs(right, left)
    found = parenchyma(patches, inside, on_right)
    assert found == pytest.approx((right, left), abs=6)
    np.testing.assert_array_equal(found.at(on_right), np.where(on_right, found.right, found.left))


def test_two_dense_lungs_have_the_density_of_both() -> None:
    """Shallow breath, or disease in both: there is no healthier lung to go by."""
    found = parenchyma(*_lungs(-690, -690))
    assert found == pytest.approx((-690, -690), abs=6)


@pytest.mark.parametrize("ill", [-970, -650, -560])  # emphysema, ground glass
def test_a_lung_whose_density_is_that_of_disease_has_the_density_of_both(ill: float) -> None:
    patches, inside, on_right = _lungs(-850, ill, 50)
    assert parenchyma(patches, inside, on_right) == pytest.approx((-850, -850), abs=8)


def test_without_lung_the_parenchyma_is_the_common_one() -> None:
    patches, inside, on_right = _lungs(-860, -860)
    assert parenchyma(patches, np.zeros_like(inside), on_right) == (COMMON_HU, COMMON_HU)
    found = parenchyma(patches, inside & on_right[:, None, None, None], on_right)  # the left lung is missing
    assert found.left == found.right == pytest.approx(-860, abs=6)


def test_each_patch_is_corrected_by_the_density_of_its_own_lung() -> None:
    patches, inside, on_right = _lungs(-900, -780)
    densities = np.where(on_right, -900.0, -780.0)
    both = lung_tissue(patches, inside, densities, 0.7)
    np.testing.assert_array_equal(both[on_right], lung_tissue(patches[on_right], inside[on_right], -900.0, 0.7))
    np.testing.assert_array_equal(both[~on_right], lung_tissue(patches[~on_right], inside[~on_right], -780.0, 0.7))
    shuffled = np.random.default_rng(3).permutation(len(patches))
    mixed = lung_tissue(patches[shuffled], inside[shuffled], densities[shuffled], 0.7)
    np.testing.assert_array_equal(mixed, both[shuffled])


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
