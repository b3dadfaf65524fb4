"""Lungs on a drawn chest whose truth is known: what goes in, what stays out, and that nothing depends on the frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.lungs import lung_quality, segment_lungs
from anatograph.imaging.volume import Frame, Mask, Volume

SPACING = (3.0, 3.0, 3.5)
SHAPE = (94, 100, 125)  # z, y, x


@dataclass
class Chest:
    """A drawn scan and the truth."""

    hu: NDArray[np.float64]
    lungs: NDArray[np.uint8]
    trachea: NDArray[np.bool_]
    gas: NDArray[np.bool_]
    z: NDArray[np.float64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]

    def volume(self, noise: float = 20.0) -> Volume:
        rng = np.random.default_rng(3)
        hu = np.clip(self.hu + rng.normal(0, noise, self.hu.shape), -1024, 3000).round().astype(np.int16)
        return Volume(hu, frame_of(hu.shape), source="the drawn chest")


def frame_of(shape: tuple[int, ...], origin: tuple[float, float, float] = (-187.0, -150.0, -165.0)) -> Frame:
    return Frame((shape[0], shape[1], shape[2]), SPACING, origin)


def ellipsoid(
    chest: Chest, centre_xyz: tuple[float, float, float], radii: tuple[float, float, float]
) -> NDArray[np.bool_]:
    offsets = [(axis - c) / r for axis, c, r in zip((chest.x, chest.y, chest.z), centre_xyz, radii, strict=True)]
    return np.asarray(offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2 < 1)


def draw(touching: bool = False) -> Chest:
    """A body on a table, two lungs with vessels, a trachea that opens into both, a stomach bubble under the left."""
    index = np.indices(SHAPE, dtype=np.float64)
    z, y, x = (index[2 - k] * SPACING[k] + frame_of(SHAPE).origin[k] for k in (2, 1, 0))
    blank = np.zeros(SHAPE, dtype=bool)
    chest = Chest(np.full(SHAPE, -1000.0), np.zeros(SHAPE, dtype=np.uint8), blank, blank, z, y, x)
    body = (x / 170) ** 2 + (y / 115) ** 2 < 1
    chest.hu[body] = 40
    shell = (np.abs(y - 126) < 2.6) & (np.abs(x) < 180)
    chest.hu[shell] = 300
    half = 62 if touching else 58
    for side, sign in ((Mask.RIGHT, -1), (Mask.LEFT, 1)):
        lung = ellipsoid(chest, (sign * 68.0, 0.0, 10.0), (half + (7.0 if touching else 0.0), 82.0, 115.0))
        heart = ellipsoid(chest, (25.0, -25.0, -40.0), (55.0, 50.0, 50.0))
        dome = ellipsoid(chest, (sign * 70.0, 0.0, -120.0), (70.0, 90.0, 60.0))
        lung &= ~heart & ~dome & body
        chest.hu[lung] = -850
        vessels = lung & (
            ((np.abs(np.sin(x / 9)) < 0.18) & (np.abs(np.sin(z / 11)) < 0.18)) | (np.hypot(y - 5, z - 10) < 5)
        )
        chest.hu[vessels] = 30
        chest.lungs[lung & (chest.lungs == 0)] = side
    trachea = (np.hypot(x, y - 30) < 9) & (z > 40)
    wall = (np.hypot(x, y - 30) < 12) & (z > 36)
    for sign in (-1, 1):
        along = np.clip((40 - z) / 25, 0, 1)
        branch = (np.hypot(x - sign * (8 + 40 * along), y - 30) < 7) & (z <= 46) & (z > 15)
        trachea |= branch
        wall |= (np.hypot(x - sign * (8 + 40 * along), y - 30) < 10) & (z <= 46) & (z > 15)
    chest.hu[wall & ~trachea] = 30
    chest.hu[trachea] = -1000
    chest.lungs[wall] = 0
    chest.trachea = trachea
    chest.gas = ellipsoid(chest, (60.0, -25.0, -100.0), (32.0, 28.0, 22.0)) & (chest.lungs == 0)
    chest.hu[chest.gas] = -1000
    return chest


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def overlap(found: Mask, chest: Chest) -> tuple[float, float]:
    return tuple(dice(found.array == side, chest.lungs == side) for side in (Mask.RIGHT, Mask.LEFT))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def chest() -> Chest:
    return draw()


@pytest.fixture(scope="module")
def plain(chest: Chest) -> Mask:
    return segment_lungs(chest.volume(), "threshold").mask


def test_lungs_with_vessels_and_without_airway_gas_and_table(chest: Chest, plain: Mask) -> None:
    assert min(overlap(plain, chest)) > 0.97
    vessels = (chest.lungs > 0) & (chest.hu > 0)
    assert (plain.lungs & vessels).sum() > 0.93 * vessels.sum()
    assert (plain.lungs & chest.gas).sum() < 0.01 * chest.gas.sum()
    assert (plain.lungs & chest.trachea & (chest.z > 50)).sum() == 0
    assert not (plain.lungs & (chest.y > 115)).any()


def test_right_is_at_smaller_x_in_lps(chest: Chest, plain: Mask) -> None:
    assert chest.x[plain.array == Mask.RIGHT].mean() < -30
    assert chest.x[plain.array == Mask.LEFT].mean() > 30


@pytest.mark.parametrize("axis", [1, 2])
def test_sides_come_from_place_not_from_anatomy(chest: Chest, axis: int) -> None:
    """Heart on the right, or a patient lying prone: the right lung is still the one at smaller x."""
    volume = chest.volume()
    flipped = replace(volume, array=np.ascontiguousarray(np.flip(volume.array, axis)))
    mask = segment_lungs(flipped, "threshold").mask
    columns = np.arange(SHAPE[2])
    right, left = ((mask.array == side).sum(axis=(0, 1)) for side in (Mask.RIGHT, Mask.LEFT))
    assert np.average(columns, weights=right) < np.average(columns, weights=left) - 20
    truth = np.flip(chest.lungs > 0, axis)
    assert dice(mask.lungs, truth) > 0.97


@pytest.mark.parametrize("pads", [((3, 0), (0, 5), (1, 2)), ((0, 4), (7, 0), (0, 9))])
def test_air_around_the_scan_changes_nothing(chest: Chest, plain: Mask, pads: tuple[tuple[int, int], ...]) -> None:
    padded = np.pad(chest.volume().array, pads, constant_values=-1024)
    mask = segment_lungs(Volume(padded, frame_of(padded.shape)), "threshold").mask
    inner = tuple(slice(before, n - after) for (before, after), n in zip(pads, padded.shape, strict=True))
    np.testing.assert_array_equal(mask.array[inner], plain.array)
    assert mask.lungs.sum() == plain.lungs.sum()


def test_repeats_bit_for_bit(chest: Chest, plain: Mask) -> None:
    np.testing.assert_array_equal(segment_lungs(chest.volume(), "threshold").mask.array, plain.array)


def test_touching_lungs_are_separated() -> None:
    chest = draw(touching=True)
    mask = segment_lungs(chest.volume(), "threshold").mask
    assert min(overlap(mask, chest)) > 0.96


def test_lung_cut_by_a_narrow_view(chest: Chest) -> None:
    columns = np.flatnonzero((chest.lungs > 0).any(axis=(0, 1)))
    cut = slice(columns[0] + 8, columns[-1] - 8)
    volume = chest.volume().array[:, :, cut]
    mask = segment_lungs(Volume(np.ascontiguousarray(volume), frame_of(volume.shape)), "threshold").mask
    assert dice(mask.array == 1, chest.lungs[:, :, cut] == 1) > 0.96
    assert dice(mask.array == 2, chest.lungs[:, :, cut] == 2) > 0.96


def test_round_view_with_padding_outside(chest: Chest) -> None:
    array = chest.volume().array.copy()
    outside = np.hypot(chest.x, chest.y) > 122
    array[outside] = -1024
    truth = np.where(outside, 0, chest.lungs)
    mask = segment_lungs(Volume(array, frame_of(array.shape)), "threshold").mask
    assert dice(mask.lungs, truth > 0) > 0.96


def test_consolidation_at_the_ribs_is_lung(chest: Chest) -> None:
    sick = draw()
    patch = ellipsoid(sick, (125.0, 10.0, 10.0), (28.0, 28.0, 30.0)) & (sick.lungs == Mask.LEFT)
    sick.hu[patch] = 20
    mask = segment_lungs(sick.volume(), "threshold").mask
    # What bulges beyond the straight line between the patch's edges cannot be known.
    assert (mask.array[patch] == Mask.LEFT).mean() > 0.75
    assert min(overlap(mask, sick)) > 0.96


def test_ground_glass_and_emphysema_are_lung(chest: Chest) -> None:
    for hu in (-550.0, -940.0):
        sick = draw()
        sick.hu[(sick.lungs > 0) & (sick.hu < -800)] = hu
        assert min(overlap(segment_lungs(sick.volume(), "threshold").mask, sick)) > 0.96


def test_confluent_emphysema_of_one_lung_is_not_gas() -> None:
    """Dark lung with the chest wall around it, and lung of usual density only in between."""
    sick = draw()
    left = sick.lungs == Mask.LEFT
    septa = np.indices(SHAPE)[0] % 5 >= 3
    sick.hu[left] = np.where(septa[left], -850, -985)
    mask = segment_lungs(sick.volume(), "threshold").mask
    assert min(overlap(mask, sick)) > 0.96
    assert (mask.lungs & sick.gas).sum() < 0.02 * sick.gas.sum()


def test_offset_of_the_scanner(chest: Chest) -> None:
    for offset in (-50.0, 50.0):
        shifted = draw()
        shifted.hu += offset
        mask = segment_lungs(shifted.volume(), "threshold").mask
        assert min(overlap(mask, shifted)) > 0.96
        assert (mask.lungs & shifted.gas).sum() < 0.02 * shifted.gas.sum()


def test_noise_of_a_sharp_kernel_hides_no_gas(chest: Chest) -> None:
    """White noise of 120 HU makes single blocks of the airway far darker than its air is."""
    opened = draw()
    opened.hu[(np.hypot(opened.x - 60, opened.y + 25) < 14) & (opened.z > -95) & (opened.z < -50)] = -850
    mask = segment_lungs(opened.volume(noise=120.0), "threshold").mask
    assert (mask.lungs & opened.gas).sum() < 0.05 * opened.gas.sum()
    assert min(overlap(mask, opened)) > 0.95


def test_one_lung_only_is_said(chest: Chest) -> None:
    single = draw()
    single.hu[single.lungs == Mask.RIGHT] = 20
    result = segment_lungs(single.volume(), "threshold")
    assert dice(result.mask.array == Mask.LEFT, single.lungs == Mask.LEFT) > 0.96
    assert not (result.mask.array == Mask.RIGHT).any()
    assert any("right lung is missing" in note for note in result.notes)
    assert "one lung missing" in str(result.quality["warnings"])


def test_no_lungs_no_body(chest: Chest) -> None:
    dense = draw()
    dense.hu[(dense.lungs > 0) | dense.trachea] = 30
    with pytest.raises(UserError, match="No lungs were found in the drawn chest"):
        segment_lungs(dense.volume(), "threshold")
    empty = np.full(SHAPE, -1000, dtype=np.int16)
    with pytest.raises(UserError, match="nothing but air"):
        segment_lungs(Volume(empty, frame_of(SHAPE)), "threshold")
    with pytest.raises(UserError, match="No lungs were found"):
        segment_lungs(Volume(np.full(SHAPE, 30, dtype=np.int16), frame_of(SHAPE)), "threshold")


def test_quality_figures_against_the_drawing(chest: Chest) -> None:
    volume = chest.volume()
    quality = lung_quality(Mask(chest.lungs, volume.frame), volume)
    voxel_ml = np.prod(SPACING) / 1000
    right, left = ((chest.lungs == side).sum() * voxel_ml for side in (1, 2))
    assert quality["right_ml"] == pytest.approx(right)
    assert quality["left_ml"] == pytest.approx(left)
    assert quality["volume_ml"] == pytest.approx(right + left)
    assert quality["left_right_ratio"] == pytest.approx(left / right)
    assert quality["truncated_top"] is False
    assert quality["truncated_base"] is False
    assert quality["mean_hu"] == pytest.approx(volume.array[chest.lungs > 0].mean())
    assert quality["components"] == 2


def test_quality_sees_cuts_and_holes(chest: Chest) -> None:
    middle = chest.lungs[32:64]
    array = chest.volume().array[32:64]
    volume = Volume(np.ascontiguousarray(array), frame_of(middle.shape))
    quality = lung_quality(Mask(np.ascontiguousarray(middle), volume.frame), volume)
    assert quality["truncated_top"] is True
    assert quality["truncated_base"] is True
    whole = ellipsoid(chest, (-75.0, 0.0, 10.0), (58.0, 82.0, 115.0))
    hole = ellipsoid(chest, (-75.0, 20.0, 20.0), (20.0, 20.0, 20.0))
    volume = chest.volume()
    found = lung_quality(Mask((whole & ~hole).astype(np.uint8), volume.frame), volume)
    assert found["holes_fraction"] == pytest.approx(hole.sum() / whole.sum())


def test_quality_refuses_other_grids_and_empty_masks(chest: Chest) -> None:
    volume = chest.volume()
    with pytest.raises(UserError, match="different grids"):
        lung_quality(Mask(chest.lungs, frame_of(SHAPE, (0.0, 0.0, 0.0))), volume)
    with pytest.raises(UserError, match="is empty"):
        lung_quality(Mask(np.zeros(SHAPE, dtype=np.uint8), volume.frame), volume)


def test_a_gap_in_a_thin_chest_wall_lets_no_room_into_the_lung(chest: Chest) -> None:
    thin = draw()
    gap = (np.abs(thin.y) < 4.5) & (np.abs(thin.x) > 100) & (np.abs(thin.z) < 60) & (thin.lungs == 0)
    thin.hu[gap] = -1000
    mask = segment_lungs(thin.volume(), "threshold").mask
    assert min(overlap(mask, thin)) > 0.96
    assert (mask.lungs & gap).sum() < 0.2 * gap.sum()


def test_the_pad_between_body_and_table_is_not_lung(chest: Chest) -> None:
    padded = draw()
    beneath = (padded.hu < -900) & (padded.y > 60) & (padded.y < 124) & (np.abs(padded.x) < 150)
    padded.hu[beneath & (padded.lungs == 0) & ~padded.trachea & ~padded.gas] = -900
    mask = segment_lungs(padded.volume(), "threshold").mask
    assert min(overlap(mask, padded)) > 0.96
    assert not (mask.lungs & beneath & (padded.lungs == 0)).any()


def test_the_mediastinum_between_two_junctions_is_not_filled() -> None:
    joined = draw()
    for y in (-60.0, 62.0):
        bridge = (np.abs(joined.y - y) < 2.6) & (np.abs(joined.x) < 30) & (joined.z > -10) & (joined.z < 12)
        joined.hu[bridge] = -850
    middle = (np.abs(joined.x) < 5) & (np.abs(joined.y) < 40) & (joined.z > -5) & (joined.z < 8) & (joined.hu > 0)
    mask = segment_lungs(joined.volume(), "threshold").mask
    assert (mask.lungs & middle).sum() < 0.02 * middle.sum()
    assert min(overlap(mask, joined)) > 0.95
