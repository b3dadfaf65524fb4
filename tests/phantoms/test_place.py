"""Place counts: distributions, columns by side and third, lung function, normal variants, findings by comparison."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anatograph.phantoms import SCANNERS, PhantomSettings, PhantomSubject
from anatograph.phantoms.disease.description import EMPHYSEMA, GROUND_GLASS, Bias, Disease
from anatograph.phantoms.disease.extent import THIRDS, LungZones, extent_columns
from anatograph.phantoms.disease.lesions import MASKS
from anatograph.phantoms.disease.mimics import NormalVariants
from anatograph.phantoms.disease.sampling import sample_disease
from anatograph.phantoms.events import event_columns, follow_from_first_visit
from anatograph.phantoms.profile import sample_profile
from anatograph.phantoms.settings import RANGES, sample_scanner
from anatograph.phantoms.subject import draw_subject
from anatograph.phantoms.thorax.lobes import LOBES
from anatograph.phantoms.variables import FEV1_BY_THIRD, clinical_variables

COARSE = PhantomSettings(spacing_mm=3.0)
PARR_2004 = (3.8, 16.0)
"""95 % confidence interval of the difference in FEV1 (% of predicted) between basal and apical emphysema at the same
extent."""


def drawn(disease: Disease, variants: NormalVariants | None = None, **changes: object) -> PhantomSubject:
    """The same subject on scanner A with a given disease and given variants."""
    streams = [np.random.default_rng([9, k]) for k in range(6)]
    profile = sample_profile(streams[0], COARSE)
    given = {"disease": disease, "variants": variants or NormalVariants(), "scanner": SCANNERS[0], **changes}
    return draw_subject(replace(profile, **given), COARSE, streams[1:])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def healthy() -> PhantomSubject:
    return drawn(Disease())


def emphysema(bias: Bias) -> Disease:
    return Disease("COPD", emphysema=0.15, emphysema_bias=bias)


def ground_glass(bias: Bias) -> Disease:
    return Disease("COVID-19", ground_glass=0.2, ground_glass_bias=bias)


@pytest.mark.parametrize(
    ("disease", "mask", "larger", "smaller"),
    [
        (emphysema(Bias(upper=4.0)), "emphysema", "upper", "lower"),
        (emphysema(Bias(upper=-4.0)), "emphysema", "lower", "upper"),
        (emphysema(Bias(left=1.6)), "emphysema", "left", "right"),
        (ground_glass(Bias(upper=-2.5, peripheral=1.5)), "ground_glass", "lower", "upper"),
        (ground_glass(Bias(left=-2.0)), "ground_glass", "right", "left"),
    ],
)
def test_disease_lies_where_its_distribution_says(disease: Disease, mask: str, larger: str, smaller: str) -> None:
    row = drawn(disease).variables
    assert float(row[f"{mask}_{larger}"]) > 2 * float(row[f"{mask}_{smaller}"])
    axis = {"upper": 1, "right": 1, "lower": -1, "left": -1}[larger]
    name = "upper_minus_lower" if larger in THIRDS else "right_minus_left"
    assert axis * float(row[f"{mask}_{name}"]) > 0.08


def test_central_and_dependent_ground_glass_lie_there(healthy: PhantomSubject) -> None:
    lungs = healthy.lungs.lungs
    central = drawn(ground_glass(Bias(peripheral=-1.2, central=3.2))).diseases["ground_glass"] > 0
    dependent = drawn(ground_glass(Bias(dependent=3.5))).diseases["ground_glass"] > 0
    hilum = np.array([healthy.lungs.frame.to_index(np.asarray(healthy.profile.shift_mm) + p) for p in HILA])[:, ::-1]

    def hilar_mm(mask: np.ndarray) -> float:
        return float(np.mean(np.min([np.linalg.norm(np.argwhere(mask) - h, axis=1) for h in hilum], axis=0)) * 3.0)

    assert hilar_mm(central) < 0.75 * hilar_mm(lungs)
    assert np.argwhere(dependent)[:, 1].mean() > np.argwhere(lungs)[:, 1].mean() + 8


HILA = ((-42.0, 6.0, 0.0), (46.0, 8.0, 0.0))


def test_columns_are_the_shares_of_the_masks() -> None:
    lungs = np.zeros((9, 4, 8), dtype=np.uint8)
    lungs[0:9, 1:3, 1:3] = 1
    lungs[3:9, 1:3, 5:7] = 2
    masks = {name: np.zeros_like(lungs) for name in MASKS}
    masks["emphysema"][6:9, 1, 1:3] = 1  # half of the upper third of the right lung
    masks["ground_glass"][3:5, 1:3, 5:7] = 1  # the lower third of the left lung
    row = extent_columns(masks, lungs)
    assert row["emphysema_extent"] == pytest.approx(6 / 60, abs=1e-6)
    assert row["emphysema_right_upper"] == pytest.approx(0.5)
    assert row["emphysema_upper"] == pytest.approx(6 / 20)
    assert row["emphysema_upper_minus_lower"] == pytest.approx(6 / 20)
    assert row["emphysema_right_minus_left"] == pytest.approx(6 / 36, abs=1e-6)
    assert row["ground_glass_left_lower"] == pytest.approx(1.0)
    assert row["ground_glass_lower"] == pytest.approx(8 / 20)
    assert row["ground_glass_right_minus_left"] == pytest.approx(-8 / 24, abs=1e-6)
    assert LungZones(lungs).of_lungs(masks["ground_glass"]) == pytest.approx({"upper": 0, "middle": 0, "lower": 8 / 60})


def test_basal_emphysema_costs_more_fev1_at_the_same_extent_and_apical_more_oxygen() -> None:
    basal, apical = {"upper": 0.02, "middle": 0.05, "lower": 0.11}, {"upper": 0.11, "middle": 0.05, "lower": 0.02}
    none = dict.fromkeys(MASKS, 0.0)
    rng = np.random.default_rng(0)
    low, high = ([clinical_variables(60, place, none, rng) for _ in range(2000)] for place in (basal, apical))
    difference = {n: np.mean([r[n] for r in high]) - np.mean([r[n] for r in low]) for n in ("FEV1pp", "PaO2_kPa")}
    assert PARR_2004[0] < difference["FEV1pp"] < PARR_2004[1]
    assert difference["FEV1pp"] == pytest.approx(0.09 * (FEV1_BY_THIRD["lower"] - FEV1_BY_THIRD["upper"]), abs=0.7)
    assert difference["PaO2_kPa"] == pytest.approx(-0.5, abs=0.1)


def test_every_distribution_occurs_and_none_predicts_the_extent() -> None:
    rng = np.random.default_rng(0)
    diseases = [sample_disease(rng, PhantomSettings()) for _ in range(1500)]
    assert {d.emphysema_distribution for d in diseases} == set(EMPHYSEMA)
    assert {d.ground_glass_distribution for d in diseases} == set(GROUND_GLASS)
    assert {d.dark_lobe for d in diseases} == {None, *range(len(LOBES))}
    holes = [d for d in diseases if d.emphysema and d.emphysema_distribution != "paraseptal"]
    upper = np.array([d.emphysema_bias.upper for d in holes])
    assert abs(np.corrcoef(upper, [d.emphysema for d in holes])[0, 1]) < 0.1
    assert all(d.ground_glass == 0 for d in diseases if d.ground_glass_distribution == "absent")


def test_dependent_density_is_in_no_mask_and_grows_at_shallow_breath(healthy: PhantomSubject) -> None:
    with_density = drawn(Disease(), NormalVariants(dependent_mm=20.0, dependent_hu=200.0))
    added = with_density.noise_free.astype(int) - healthy.noise_free
    hazy = (added > 100) & healthy.lungs.lungs
    assert 0.01 < hazy.sum() / healthy.lungs.lungs.sum() < 0.25
    assert np.argwhere(hazy)[:, 1].mean() > np.percentile(np.argwhere(healthy.lungs.lungs)[:, 1], 85)
    assert not any(mask.any() for mask in with_density.diseases.values())
    rng = np.random.default_rng(0)
    profiles = [sample_profile(rng, PhantomSettings()) for _ in range(300)]
    depth = np.corrcoef([p.breath for p in profiles], [p.variants.dependent_mm for p in profiles])
    assert depth[0, 1] < -0.5


def test_hila_caps_and_heart_motion_change_normal_lungs(healthy: PhantomSubject) -> None:
    lungs = healthy.lungs.lungs
    top = np.flatnonzero(lungs.any(axis=(1, 2)))[-6:]
    capped = drawn(Disease(), NormalVariants(caps_mm=(7.0, 0.0)))
    added = capped.noise_free.astype(int) - healthy.noise_free
    right, left = (added[top][healthy.lungs.array[top] == side] for side in (1, 2))
    assert (right > 150).mean() > 0.1
    assert (left > 150).mean() < 0.01
    crowded = drawn(Disease(), NormalVariants(hilar_hu=120.0)).noise_free.astype(int) - healthy.noise_free
    assert 0.005 < (crowded[lungs] > 50).mean() < 0.15
    moved = drawn(Disease(), NormalVariants(motion_mm=6.0)).noise_free.astype(int) - healthy.noise_free
    assert np.abs(moved[lungs]).max() > 100
    assert 0.001 < (np.abs(moved[lungs]) > 30).mean() < 0.2


def test_air_trapping_and_a_dark_lobe_show_only_by_comparison(healthy: PhantomSubject) -> None:
    trapping = drawn(Disease("COPD", air_trapping=0.2))
    mask = trapping.diseases["air_trapping"] > 0
    assert mask.sum() / trapping.lungs.lungs.sum() == pytest.approx(0.2, abs=0.06)
    change = trapping.noise_free.astype(int) - healthy.noise_free
    assert -85 < np.median(change[mask]) < -40
    dark = drawn(Disease("COPD", dark_lobe=4, dark_lobe_hu=35.0))
    assert dark.variables["dark_lobe"] == "left lower"
    change = dark.noise_free.astype(int) - healthy.noise_free
    assert -40 < np.median(change[(change < -10) & dark.lungs.lungs]) < -25
    assert 0.1 < ((change < -10) & dark.lungs.lungs).sum() / dark.lungs.lungs.sum() < 0.35
    assert not (dark.noise_free[dark.lungs.lungs] < -970).mean() > 0.02
    # Healthy subjects differ by as much, so that the density itself is no evidence.
    rng = np.random.default_rng(0)
    base = [sample_profile(rng, COARSE) for _ in range(200)]
    assert np.std([95.0 * (1 - p.breath) - p.hyperinflation for p in base]) > 15


def test_random_scanners_fill_their_ranges() -> None:
    settings = PhantomSettings(ranges=RANGES)
    rng = np.random.default_rng(0)
    scanners = [sample_scanner(rng, settings) for _ in range(300)]
    for name in ("noise_hu", "blur_mm", "slice_mm", "in_plane_mm", "offset_hu"):
        low, high = getattr(RANGES, name)
        values = np.array([getattr(s, name) for s in scanners])
        assert low <= values.min() + 1e-3
        assert values.max() <= high + 1e-3
        assert values.max() - values.min() > 0.85 * (high - low)
    assert 0.3 < np.mean([s.sharpening > 0 for s in scanners]) < 0.8
    assert {s.site for s in scanners} == {"random"}


def test_a_later_visit_has_the_event_of_the_first() -> None:
    rows = [{"person": "a", "visit": 1, "years": 0.0, "event": 1, "event_years": 3.5},
            {"person": "a", "visit": 2, "years": 2.0},
            {"person": "a", "visit": 3, "years": 4.0}]  # fmt: skip
    follow_from_first_visit(rows)
    assert [(row["event"], row["event_years"]) for row in rows] == [(1, 3.5), (1, 1.5), (None, None)]
    plain = [{"person": "a", "visit": 1, "years": 0.0}, {"person": "a", "visit": 2, "years": 0.0}]
    follow_from_first_visit(plain)
    assert "event" not in plain[1]


def test_events_follow_their_hazard() -> None:
    rng = np.random.default_rng(0)
    rows = [{"FEV1pp": fev1, "age": 60.0, "ground_glass_extent": 0.0} for fev1 in (80.0, 40.0)]
    rates = []
    for row in rows:
        events = [event_columns(row, rng) for _ in range(4000)]
        rates.append(sum(e["event"] for e in events) / sum(e["event_years"] for e in events))
    assert rates[0] == pytest.approx(0.035, rel=0.12)
    assert rates[1] / rates[0] == pytest.approx(np.exp(0.035 * 40), rel=0.15)
