"""What the scan itself shows of a wrong mask, fluid, a missing lobe, and a scan that is turned or mirrored."""

from __future__ import annotations

import numpy as np
import pytest

from anatograph.imaging.lungs import surroundings
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.phantoms.settings import PhantomSettings
from anatograph.phantoms.subject import PhantomSubject, make_subject
from anatograph.study.quality.chest import chest_figures
from anatograph.study.quality.levels import judge, worst


@pytest.fixture(scope="module")
def phantom() -> PhantomSubject:
    """A chest with ribs."""
    return make_subject(5, 0, PhantomSettings(spacing_mm=3.0))


def test_a_right_mask_is_accepted_and_wrong_ones_are_not(phantom: PhantomSubject) -> None:
    volume, lungs = phantom.volume, phantom.lungs.array
    shift = round(20 / volume.spacing[0])
    for name, array, right in (
        ("right", lungs, True),
        ("mirrored", lungs[:, :, ::-1], False),
        ("front to back", lungs[:, ::-1], False),
        ("shifted", np.roll(lungs, shift, axis=2), False),
    ):
        figures = chest_figures(volume, Mask(np.ascontiguousarray(array), volume.frame), given=True)
        concerns = judge(figures, "given")
        assert bool(concerns) != right, (name, figures)


@pytest.mark.parametrize("sides", [(Mask.RIGHT,), (Mask.LEFT,), (Mask.RIGHT, Mask.LEFT)])
def test_fluid_in_place_of_lung_is_found(phantom: PhantomSubject, sides: tuple[int, ...]) -> None:
    lungs, hu = phantom.lungs.array.copy(), phantom.volume.array.copy()
    part = np.isin(lungs, sides)
    behind = np.arange(lungs.shape[1])[None, :, None] > np.percentile(np.nonzero(part)[1], 70)
    lungs[part & behind], hu[part & behind] = 0, 10
    figures = chest_figures(Volume(hu, phantom.volume.frame), Mask(lungs, phantom.volume.frame), given=False)
    found = {side for side, name in ((Mask.RIGHT, "right"), (Mask.LEFT, "left"))
             if any(f"of the {name} chest" in str(concern) for concern in judge(figures, "threshold"))}  # fmt: skip
    assert found == set(sides), figures


@pytest.mark.parametrize("side", [Mask.RIGHT, Mask.LEFT])
@pytest.mark.parametrize("lower", [True, False])
def test_a_lobe_without_air_is_found(phantom: PhantomSubject, side: int, lower: bool) -> None:
    lungs, hu = phantom.lungs.array.copy(), phantom.volume.array.copy()
    z, y, x = np.nonzero(lungs == side)
    high, back = ((axis - axis.min()) / np.ptp(axis) for axis in (z, y))
    lobe = tuple(axis[(high < 0.05 + 0.75 * back) == lower] for axis in (z, y, x))
    lungs[lobe], hu[lobe] = 0, 30
    figures = chest_figures(Volume(hu, phantom.volume.frame), Mask(lungs, phantom.lungs.frame), given=False)
    assert worst([concern.level for concern in judge(figures, "threshold")]) == "check", figures


@pytest.mark.parametrize("side", [Mask.RIGHT, Mask.LEFT])
def test_a_third_without_air_is_found(phantom: PhantomSubject, side: int) -> None:
    """Upper and middle thirds by the other lung, which has no diaphragm there."""
    heights = np.flatnonzero(phantom.lungs.lungs.any(axis=(1, 2)))
    for name, part in (("middle", 1), ("upper", 2)):
        labels = phantom.lungs.array.copy()
        slab = labels[heights[0] + part * len(heights) // 3 : heights[0] + (part + 1) * len(heights) // 3]
        slab[slab == side] = 0
        figures = chest_figures(phantom.volume, Mask(labels, phantom.lungs.frame), given=False)
        reasons = [str(concern) for concern in judge(figures, "threshold")]
        assert any(f"{name} third has only" in reason for reason in reasons), (name, figures)
    whole = chest_figures(phantom.volume, phantom.lungs, given=False)
    assert not any("third" in str(concern) for concern in judge(whole, "threshold"))


@pytest.mark.parametrize(("factor", "noticed"), [(0.67, True), (1.0, False), (1.5, True)])
def test_a_wrong_voxel_size_is_noticed(phantom: PhantomSubject, factor: float, noticed: bool) -> None:
    x, y, z = (factor * step for step in phantom.volume.spacing)
    frame = Frame(phantom.volume.array.shape, (x, y, z), phantom.volume.frame.origin)
    figures = chest_figures(Volume(phantom.volume.array, frame), Mask(phantom.lungs.array, frame), given=False)
    reasons = [str(concern) for concern in judge(figures, "threshold")]
    assert any("voxel size" in reason for reason in reasons) == noticed, figures


def test_enhanced_blood_in_front_is_not_taken_for_the_spine(phantom: PhantomSubject) -> None:
    """Vena cava, right heart and pulmonary artery full of contrast agent, the rest of the blood without any."""
    labels, hu = phantom.lungs.array, phantom.volume.array.copy()
    (front, back), (low, high) = ((w[0], w[-1]) for w in (np.flatnonzero(labels.any(axis=a)) for a in ((0, 2), (1, 2))))
    columns = [int(np.nonzero(labels == side)[2].mean()) for side in (Mask.RIGHT, Mask.LEFT)]
    height = high - low
    part = (slice(low + height // 8, high - height // 6), slice(front, int(front + 0.45 * (back - front))),
            slice(columns[0] + 3, int(columns[0] + 0.6 * (columns[1] - columns[0]))))  # fmt: skip
    hu[part][(hu[part] > -20) & (hu[part] < 150) & (labels[part] == 0)] += 400
    for turned in (False, True):
        array, lungs = (np.ascontiguousarray(a[:, ::-1] if turned else a) for a in (hu, labels))
        figures = surroundings(Mask(lungs, phantom.lungs.frame), Volume(array, phantom.volume.frame))
        assert abs(float(figures["spine_behind"])) > 0.1, figures
        assert (
            any("spine" in str(concern) for concern in judge({f"scan_{k}": v for k, v in figures.items()}, ""))
            == turned
        )


def test_a_mirrored_scan_is_found_where_the_heart_lies_near_the_midline() -> None:
    """Index 2 of the quality benchmark: the heart's middle lies 1 mm to the left of the spine's."""
    sound = make_subject(21, 2, PhantomSettings(spacing_mm=4.0))
    reasons = []
    for mirrored in (False, True):
        hu, labels = (array[:, :, ::-1] if mirrored else array for array in (sound.volume.array, sound.lungs.array))
        labels = np.array([0, 2, 1], np.uint8)[labels] if mirrored else labels
        frame = sound.volume.frame
        figures = surroundings(Mask(np.ascontiguousarray(labels), frame), Volume(np.ascontiguousarray(hu), frame))
        assert abs(float(figures["laterality"])) > 0.2, figures
        assert abs(float(figures["heart_left_mm"])) < 8.0, figures
        reasons.append([str(concern) for concern in judge({f"scan_{k}": v for k, v in figures.items()}, "")])
    assert not any("mirrored" in reason for reason in reasons[0])
    assert any("mirrored" in reason for reason in reasons[1])


def test_heart_and_liver_decide_nothing_with_one_lung(phantom: PhantomSubject) -> None:
    one = Mask(np.where(phantom.lungs.array == Mask.RIGHT, phantom.lungs.array, np.uint8(0)), phantom.lungs.frame)
    figures = surroundings(one, phantom.volume)
    assert np.isnan(float(figures["laterality"]))
    assert "mirrored" not in str(figures["warnings"])
