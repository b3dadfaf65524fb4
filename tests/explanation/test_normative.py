"""The normative model: calibrated for held-out subjects, robust, and blind to how features are turned."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest, norm, ortho_group

from anatograph.errors import UserError
from anatograph.explanation.deviation import chances
from anatograph.explanation.normative import calibrate, cross_measure, fit_normative

SUBJECTS, LANDMARKS, FEATURES = 60, 25, 10


def draw(count: int, seed: int) -> NDArray[np.float32]:
    """Subjects with another centre, another covariance and heavier tails than normal at each landmark."""
    places = np.random.default_rng(99)
    centre = places.normal(0, 5, (LANDMARKS, FEATURES))
    mixing = places.normal(0, 1, (LANDMARKS, FEATURES, FEATURES)) + 2 * np.eye(FEATURES)
    random = np.random.default_rng(seed)
    heavy = random.standard_t(8, (count, LANDMARKS, FEATURES))
    return (centre + np.einsum("nfg,png->pnf", mixing, heavy)).astype(np.float32)


def test_p_values_of_held_out_subjects_are_uniform() -> None:
    reference, others = draw(SUBJECTS, 1), draw(200, 2)
    calibrated = calibrate(fit_normative(reference), cross_measure(reference))
    p = norm.sf(np.array([calibrated.deviation(subject) for subject in others])).ravel()
    # 60 x 25 reference regions fix a share near 0.05 to 0.0056 (standard error), near 0.5 to 0.013.
    assert kstest(p, "uniform").statistic < 3 * 0.013
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=3 * 0.0056)
    assert (p < 0.01).mean() == pytest.approx(0.01, abs=3 * 0.0026)
    # And at each landmark alone, where 60 subjects fix a share of a half to 0.065 and 200 others to 0.035.
    at_each = norm.sf(np.array([calibrated.deviation(subject) for subject in others])) < 0.5
    assert np.abs(at_each.mean(axis=0) - 0.5).max() < 4 * np.hypot(0.065, 0.035)
    share, chance = calibrated.burden_of(np.full(LANDMARKS, 3.0))
    assert share == 1
    assert chance == pytest.approx(1 / (SUBJECTS + 1))


def test_what_is_off_is_found_even_if_some_of_the_reference_are_sick() -> None:
    sick = draw(1, 3)[0]
    direction = np.random.default_rng(5).normal(size=FEATURES)
    push = 25 * direction / np.linalg.norm(direction)
    sick[7] += push
    for contaminated in (0, 4):
        reference = draw(SUBJECTS, 4)
        reference[:contaminated, 7] += push
        calibrated = calibrate(fit_normative(reference), cross_measure(reference))
        values = calibrated.deviation(sick)
        assert values.argmax() == 7
        assert values[7] > 3
        assert chances(values)["q"][7] < 0.05


def test_turning_the_features_changes_nothing() -> None:
    half, one = draw(SUBJECTS, 6), draw(1, 7)[0]
    half, one = half - half.mean(axis=0), one - half.mean(axis=0)
    # Symmetric about 0, so that the median of each feature, which does not turn with the axes, is 0 in both.
    reference = np.concatenate([half, -half])
    turn = ortho_group.rvs(FEATURES, random_state=0).astype(np.float32)
    plain, turned = fit_normative(reference), fit_normative(reference @ turn)
    np.testing.assert_allclose(turned.distance(one @ turn), plain.distance(one), rtol=1e-3)


def test_absent_landmarks_and_too_few_subjects() -> None:
    reference = draw(20, 8)
    reference[:, 3] = np.nan  # nobody has it
    reference[:18, 4] = np.nan  # hardly anybody
    reference[0, 5] = np.nan
    one = draw(1, 9)[0]
    one[6] = np.nan
    values = calibrate(fit_normative(reference), cross_measure(reference)).deviation(one)
    assert np.flatnonzero(~np.isfinite(values)).tolist() == [3, 4, 6]
    with pytest.raises(UserError, match="9 reference subjects are too few"):
        fit_normative(draw(9, 0))
    assert np.isfinite(cross_measure(draw(10, 0))).all()  # ten are enough, though nine of them measure each
    with pytest.raises(UserError, match="9 reference subjects are too few"):
        cross_measure(draw(9, 0))
    with pytest.raises(UserError, match="all of one group"):
        cross_measure(draw(12, 0), np.zeros(12, dtype=np.int64))
    with pytest.raises(UserError, match="all the same"):
        fit_normative(np.ones((12, 4, 3), dtype=np.float32))
