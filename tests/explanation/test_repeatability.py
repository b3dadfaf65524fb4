"""Test-retest error with a known answer, and the correction for lung volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatograph.errors import UserError
from anatograph.explanation.visits.breath import fit_breath
from anatograph.explanation.visits.repeatability import measure_repeats, repeat_pairs


def test_error_and_smallest_detectable_change_are_those_drawn() -> None:
    """Deviations with an error of 0.3: 95 % of repeat scans differ by less than 1.96 √2 0.3."""
    random = np.random.default_rng(0)
    pairs, landmarks = 400, 6
    truth = np.repeat(random.normal(size=(pairs, landmarks)), 2, axis=0)
    deviations = truth + random.normal(0, 0.3, truth.shape)
    deviations[:, 5] = np.nan  # a landmark that no scan has
    rows = [(2 * k, 2 * k + 1) for k in range(pairs)]
    shifts = np.abs(random.normal(0, 0.5, (pairs, landmarks)))
    vectors = np.repeat(random.normal(size=(pairs, 8)), 2, axis=0) + random.normal(0, 0.5, (2 * pairs, 8))
    found = measure_repeats(rows, deviations, shifts, vectors)
    np.testing.assert_allclose(found.error[:5], 0.3, rtol=0.12)
    np.testing.assert_allclose(found.detectable, 1.96 * np.sqrt(2) * found.error, rtol=1e-3)
    apart = np.abs(deviations[1::2] - deviations[::2])[:, :5]
    assert (apart < found.detectable[:5]).mean() == pytest.approx(0.95, abs=0.02)
    assert (shifts[:, :5] < found.shift_limit[:5]).mean() == pytest.approx(0.95, abs=0.02)
    assert np.isnan(found.error[5])
    assert found.share_beyond == pytest.approx(1 - 0.95**2, abs=0.02)  # two independent limits here
    assert found.vector_icc == pytest.approx(1 / 1.25, abs=0.06)  # variance 1 between, 0.25 within
    assert found.vector_distance == pytest.approx(np.sqrt(0.25 / 1.25), abs=0.06)
    table = found.table(["right upper"] * 6)
    assert list(table.columns[:5]) == ["landmark", "place", "pairs", "deviation_error", "smallest_detectable_change"]


def test_equal_scans_have_no_error() -> None:
    twice = np.repeat(np.random.default_rng(1).normal(size=(10, 3)), 2, axis=0)
    found = measure_repeats([(2 * k, 2 * k + 1) for k in range(10)], twice, np.zeros((10, 3)), twice)
    np.testing.assert_array_equal(found.error, 0)
    assert (found.vector_icc, found.vector_distance) == (1.0, 0.0)


@pytest.mark.parametrize("within", [False, True])
def test_the_effect_of_breath_is_learnt_and_removed(within: bool) -> None:
    """Features that follow the log of the volume with known slopes: from repeat scans, whatever the bodies' sizes."""
    random = np.random.default_rng(2)
    n, landmarks, size = 60, 4, 5
    slope = random.normal(size=(landmarks, size))
    slope[3] = 0  # no effect here
    breath = random.normal(0, 0.2, 2 * n)
    build = np.repeat(random.normal(0, 0.3, n), 2) if within else np.zeros(2 * n)
    noise = random.normal(0, 0.02, (2 * n, landmarks, size))
    # The body's size has another effect on the features than the breath, which between patients cannot be separated.
    features = 1 + breath[:, None, None] * slope - 3 * build[:, None, None] * slope + noise
    features[:5, 2] = np.nan
    volumes = 5000 * np.exp(breath + build)
    pairs = [(2 * k, 2 * k + 1) for k in range(n)] if within else []
    found = fit_breath(features.astype(np.float32), volumes, pairs)
    assert found is not None
    assert ("pairs of repeat scans" in found.source) == within
    np.testing.assert_allclose(found.slope[:3], slope[:3], atol=0.1)
    assert np.abs(found.slope[3]).max() < 0.05
    first, second = features[10].astype(np.float32), features[11].astype(np.float32)
    moved = found.at_volume(second, volumes[11], volumes[10])
    assert np.abs(moved - first).max() < 0.12
    assert np.abs(moved - first).mean() < 0.6 * np.abs(second - first).mean()


def test_without_volumes_nothing_is_corrected() -> None:
    features = np.zeros((20, 3, 2), dtype=np.float32)
    assert fit_breath(features, np.full(20, np.nan)) is None
    assert fit_breath(features, np.full(20, 5000.0)) is None


def test_pairs_come_from_the_column(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(12)]
    table = pd.DataFrame({"subject_id": names, "image": "x", "session": [f"d{i // 2}" for i in range(10)] + ["", ""]})
    table.to_csv(tmp_path / "cohort.csv", index=False)
    found = repeat_pairs(tmp_path / "cohort.csv", "session", names)
    assert found == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    with pytest.raises(UserError, match="has no column 'day'"):
        repeat_pairs(tmp_path / "cohort.csv", "day", names)
    with pytest.raises(UserError, match="'session' has 4 pairs"):
        repeat_pairs(tmp_path / "cohort.csv", "session", names[:9])
    with pytest.raises(UserError, match="Give the cohort table too"):
        repeat_pairs(None, "session", names)
