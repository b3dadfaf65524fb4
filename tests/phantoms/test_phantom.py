"""The phantom's truth is true: masks, extents, HU, seeds, sites."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import label
from scipy.stats import spearmanr

from anatograph.errors import UserError
from anatograph.imaging.volume import Mask
from anatograph.phantoms import SCANNERS, PhantomSettings, PhantomSubject, make_subject, reference_lungs
from anatograph.phantoms.disease.description import Bias, Disease
from anatograph.phantoms.disease.extent import THIRDS
from anatograph.phantoms.disease.lesions import MASKS
from anatograph.phantoms.disease.mimics import NormalVariants
from anatograph.phantoms.drawing.parenchyma import base_hu
from anatograph.phantoms.profile import sample_profile
from anatograph.phantoms.scanner import noise_gain, scan
from anatograph.phantoms.settings import scanners_of
from anatograph.phantoms.subject import draw_subject
from anatograph.phantoms.variables import clinical_variables

SMALL = PhantomSettings(spacing_mm=2.5)
LOW_COVID = Disease(
    "COVID-19",
    ground_glass=0.25,
    consolidation=0.05,
    ground_glass_bias=Bias(upper=-2.2, peripheral=1.5, dependent=0.5),
)


def drawn(disease: Disease, seed: int = 5, settings: PhantomSettings = SMALL, **changes: object) -> PhantomSubject:
    """The same subject with a given disease."""
    streams = [np.random.default_rng([seed, k]) for k in range(6)]
    changes = {"disease": disease, "variants": NormalVariants(), **changes}
    profile = replace(sample_profile(streams[0], settings), **changes)  # type: ignore[arg-type]
    return draw_subject(profile, settings, streams[1:])


@pytest.fixture(scope="module")
def healthy() -> PhantomSubject:
    return drawn(Disease(), scanner=SCANNERS[0])


@pytest.fixture(scope="module")
def emphysema() -> PhantomSubject:
    return drawn(Disease("COPD", emphysema=0.2, paraseptal=0.015, emphysema_bias=Bias(upper=4.2)), scanner=SCANNERS[0])


@pytest.fixture(scope="module")
def covid() -> PhantomSubject:
    return drawn(LOW_COVID, scanner=SCANNERS[0])


@pytest.fixture(scope="module")
def reference() -> Mask:
    return reference_lungs()


def heights(subject: PhantomSubject, mask: np.ndarray) -> float:
    """Mean height of a mask between the lowest (0) and highest (1) slice of the lungs."""
    slices = np.flatnonzero(subject.lungs.lungs.any(axis=(1, 2)))
    return float((np.argwhere(mask)[:, 0].mean() - slices[0]) / (slices[-1] - slices[0]))


def test_reference_lungs_are_two_connected_lungs_of_an_adult(reference: Mask) -> None:
    lungs = reference
    assert lungs.frame.spacing == (1.0, 1.0, 1.0)
    for side in (1, 2):
        assert label(lungs.array == side)[1] == 1
    litres = [(lungs.array == side).sum() / 1e6 for side in (1, 2)]
    assert 5.5 < sum(litres) < 6.8
    assert 1.05 < litres[0] / litres[1] < 1.35
    x = [lungs.frame.to_lps(np.argwhere(lungs.array == side)[:, ::-1])[:, 0].mean() for side in (1, 2)]
    assert x[0] < -40 < 40 < x[1]
    assert hashlib.sha256(lungs.array.tobytes()).hexdigest()[:12] == "575ba398f4a3"
    assert not lungs.array[[0, -1]].any()
    assert not lungs.array[:, [0, -1]].any()
    assert not lungs.array[:, :, [0, -1]].any()


def test_reference_lungs_hold_about_as_many_landmarks_as_the_papers_atlas(reference: Mask) -> None:
    inside = reference.lungs
    low = np.argwhere(inside).min(axis=0)
    high = np.argwhere(inside).max(axis=0) + 1
    total = np.pad(np.cumsum(np.cumsum(np.cumsum(inside, 0, dtype=np.int64), 1), 2), ((1, 0),) * 3)
    count = 0
    for corner in np.ndindex(*np.ceil((high - low) / 26).astype(int)):
        start = low + 26 * np.asarray(corner)
        a, b = start, np.minimum(start + 32, inside.shape)
        filled = sum((-1) ** (3 - sum(pick)) * total[tuple(np.where(pick, b, a))] for pick in np.ndindex(2, 2, 2))
        count += filled > 0.1 * 32**3
    assert 540 <= count <= 625


def test_masks_lie_in_the_lungs_and_columns_are_their_share(emphysema: PhantomSubject, covid: PhantomSubject) -> None:
    for subject in (emphysema, covid):
        lungs = subject.lungs.lungs
        together = np.zeros(lungs.shape, dtype=int)
        for name, mask in subject.diseases.items():
            assert not (mask.astype(bool) & ~lungs).any()
            assert subject.variables[f"{name}_extent"] == pytest.approx(mask.sum() / lungs.sum(), abs=1e-6)
            together += mask
        assert together.max() == 1


def test_drawn_extent_is_near_what_was_asked(emphysema: PhantomSubject, covid: PhantomSubject) -> None:
    assert covid.variables["ground_glass_extent"] == pytest.approx(0.25, abs=0.03)
    assert covid.variables["consolidation_extent"] == pytest.approx(0.05, abs=0.015)
    assert 0.1 < float(emphysema.variables["emphysema_extent"]) < 0.3
    assert 0.004 < float(emphysema.variables["paraseptal_extent"]) < 0.03


def test_holes_are_air_and_healthy_lung_is_not(healthy: PhantomSubject, emphysema: PhantomSubject) -> None:
    for name in ("emphysema", "paraseptal"):
        assert np.percentile(emphysema.noise_free[emphysema.diseases[name] > 0], 75) < -950
        assert emphysema.noise_free[emphysema.diseases[name] > 0].max() <= -940
    assert (healthy.noise_free[healthy.lungs.lungs] < -950).mean() < 0.005


def test_disease_is_where_it_belongs(emphysema: PhantomSubject, covid: PhantomSubject) -> None:
    lung = heights(emphysema, emphysema.lungs.lungs)
    assert heights(emphysema, emphysema.diseases["emphysema"]) > lung + 0.1
    assert heights(emphysema, emphysema.diseases["paraseptal"]) > lung + 0.05
    assert heights(covid, covid.diseases["ground_glass"]) < heights(covid, covid.lungs.lungs) - 0.05
    assert heights(covid, covid.diseases["consolidation"]) < heights(covid, covid.lungs.lungs) - 0.05


def test_ground_glass_is_haze_and_consolidation_is_solid(healthy: PhantomSubject, covid: PhantomSubject) -> None:
    # The same subject without disease, voxel by voxel.
    added = covid.noise_free.astype(int) - healthy.noise_free
    assert 100 < np.median(added[covid.diseases["ground_glass"] > 0]) < 400
    assert np.median(covid.noise_free[covid.diseases["consolidation"] > 0]) > -60
    free = covid.lungs.lungs & (sum(covid.diseases.values()) == 0)
    assert abs(np.median(added[free])) < 5
    # Vessels remain visible in the haze.
    vessels = (healthy.noise_free > -100) & (covid.diseases["ground_glass"] > 0)
    assert np.median(covid.noise_free[vessels]) > np.median(covid.noise_free[covid.diseases["ground_glass"] > 0]) + 200


def test_lung_density_and_form_are_plausible(healthy: PhantomSubject) -> None:
    lungs = healthy.lungs.array
    assert -890 < healthy.volume.array[lungs > 0].mean() < -740
    for side, sign in ((1, -1), (2, 1)):
        assert label(lungs == side)[1] <= 3
        x = healthy.lungs.frame.to_lps(np.argwhere(lungs == side)[:, ::-1])[:, 0]
        assert sign * (x.mean() - healthy.profile.shift_mm[0]) > 40
    # Gravity: the back is denser than the front.
    y = np.argwhere(lungs > 0)[:, 1]
    values = healthy.noise_free[lungs > 0]
    front, back = y < np.percentile(y, 25), y > np.percentile(y, 75)
    assert np.median(values[back]) > np.median(values[front]) + 5
    assert healthy.volume.array.min() >= -1024


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    settings = PhantomSettings(spacing_mm=4.0)
    first, again, other = make_subject(3, 1, settings), make_subject(3, 1, settings), make_subject(3, 2, settings)
    assert np.array_equal(first.volume.array, again.volume.array)
    assert first.variables == again.variables
    for name, mask in first.diseases.items():
        assert np.array_equal(mask, again.diseases[name])
    assert first.profile != other.profile


def test_subjects_are_the_same_whatever_the_voxels() -> None:
    coarse, fine = (make_subject(3, 1, PhantomSettings(spacing_mm=mm)) for mm in (4.0, 3.0))
    assert coarse.profile == fine.profile
    assert float(coarse.variables["lung_volume_l"]) == pytest.approx(float(fine.variables["lung_volume_l"]), rel=0.02)


def test_subjects_differ() -> None:
    profiles = [sample_profile(np.random.default_rng([1, k]), PhantomSettings()) for k in range(300)]
    assert {p.scanner.site for p in profiles} == {"A", "B", "C", "D"}
    assert {p.disease.diagnosis for p in profiles} == {"healthy", "COPD", "COVID-19", "COPD+COVID-19"}
    assert np.std([p.scale[2] for p in profiles]) > 0.03
    assert np.std([p.breath for p in profiles]) > 0.1
    assert {p.sex for p in profiles} == {"F", "M"}


def test_scanners_have_the_noise_they_promise_and_differ() -> None:
    flat = np.zeros((4, 96, 96), dtype=np.float32)
    grain = {}
    for scanner in SCANNERS:
        spacing = np.array([scanner.slice_mm, scanner.in_plane_mm, scanner.in_plane_mm])
        noise = scan(flat.copy(), replace(scanner, offset_hu=0.0), spacing, 26.0, np.random.default_rng(0))
        middle = noise[:, 40:56, 40:56].astype(float)
        # Water everywhere: the rays cross more than in a chest, by the same factor for all.
        grain[scanner.site] = middle.std() / scanner.noise_hu
        assert noise_gain(scanner, scanner.in_plane_mm) > 0
    assert max(grain.values()) / min(grain.values()) < 1.2
    sharp, soft = (next(s for s in SCANNERS if s.site == site) for site in ("C", "B"))
    white = np.random.default_rng(0)
    correlation = {}
    for scanner in (sharp, soft):
        spacing = np.array([1.0, scanner.in_plane_mm, scanner.in_plane_mm])
        noise = scan(flat.copy(), scanner, spacing, 26.0, white).astype(float)
        noise -= noise.mean()
        correlation[scanner.site] = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    assert correlation["C"] < correlation["B"] - 0.2


def test_calibration_error_moves_tissue_but_not_air() -> None:
    hu = np.full((2, 32, 32), -850.0, dtype=np.float32)
    hu[:, :, 16:] = -1000.0
    scanner = replace(SCANNERS[0], offset_hu=12.0)
    image = scan(hu, scanner, np.ones(3), 26.0, None)
    assert image[0, 5, 3] == -838
    assert image[0, 5, 28] == -1000


def test_density_alone_does_not_predict_emphysema_across_sites_and_breaths() -> None:
    rng = np.random.default_rng(0)
    profiles = [sample_profile(rng, PhantomSettings()) for _ in range(200)]
    offset = [base_hu(p) + p.scanner.offset_hu for p in profiles]
    assert np.std(offset) > 15


def test_breathing_worsens_with_the_drawn_disease() -> None:
    rng = np.random.default_rng(0)
    profiles = [sample_profile(rng, PhantomSettings()) for _ in range(400)]
    none = dict.fromkeys(MASKS, 0.0)
    extent = [p.disease.emphysema for p in profiles]
    rows = [
        clinical_variables(p.age, dict.fromkeys(THIRDS, e / 3), none, rng)
        for p, e in zip(profiles, extent, strict=True)
    ]
    assert spearmanr(extent, [r["FEV1pp"] for r in rows]).statistic < -0.5
    assert spearmanr(extent, [r["FEV1_FVC"] for r in rows]).statistic < -0.5
    assert spearmanr(extent, [r["CLE"] for r in rows]).statistic > 0.9
    assert {r["GOLD"] for r in rows} >= {0, 1, 2, 3}
    for row in rows:
        assert row["GOLD"] in range(5)
        assert row["CLE"] in range(6)
        assert row["mMRC"] in range(5)
        assert row["exacerbation"] in (0, 1)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="voxel size"):
        PhantomSettings(spacing_mm=20.0)
    with pytest.raises(UserError, match="A, B, C, D"):
        scanners_of("A,Z")
    assert [s.site for s in scanners_of("C,A")] == ["C", "A"]
