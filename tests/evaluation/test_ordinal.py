"""Proportional odds against published coefficients, scikit-learn for two classes, and what an order is worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from anatograph.errors import UserError
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.folds import make_folds
from anatograph.evaluation.probes.linear import LOGISTIC_STRENGTHS, fit_probe
from anatograph.evaluation.probes.ordinal import ProportionalOdds, _loss, all_steps
from fixtures.vectors import save_cohort

HOUSING = (
    "21 21 28 34 22 36 10 11 36 61 23 17 43 35 40 26 18 54 13 9 10 8 8 12 6 7 9 18 6 7 15 13 13 7 5 11 "
    "14 19 37 17 23 40 3 5 23 78 46 43 48 45 86 15 25 62 20 23 20 10 22 24 7 10 21 57 23 13 31 21 13 5 6 13"
)
"""Satisfaction of 1,681 tenants of Copenhagen (Madsen 1976), as Venables and Ripley give it (MASS, data set housing):
satisfaction low, medium, high; within influence low, medium, high; within tower, apartment, atrium, terrace; within
contact low, high."""


def housing() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    features, steps = [], []
    counts = iter(map(int, HOUSING.split()))
    for contact in range(2):
        for kind in range(4):
            for influence in range(3):
                row = [influence == 1, influence == 2, kind == 1, kind == 2, kind == 3, contact == 1]
                for satisfaction in range(3):
                    count = next(counts)
                    features += [row] * count
                    steps += [satisfaction] * count
    return np.array(features, dtype=np.float64), np.array(steps)


def steps_of(subjects: int, features: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(subjects, features))
    hidden = x[:, 0] + 0.5 * x[:, 1] + random.logistic(scale=0.3, size=subjects)
    return x, np.searchsorted([-1.0, 0.0, 0.4, 1.2], hidden)


def test_published_coefficients() -> None:
    """`polr(Sat ~ Infl + Type + Cont, weights = Freq)` in Venables and Ripley, Modern Applied Statistics with S."""
    x, y = housing()
    assert len(y) == 1681
    found = ProportionalOdds(C=1e12).fit(x, y)
    published = [0.5663937, 1.2888191, -0.5723501, -0.3661866, -1.0910149, 0.3602841]
    np.testing.assert_allclose(found.coef_[0], published, atol=2e-6)
    np.testing.assert_allclose(-found.intercept_, [-0.4961353, 0.6907083], atol=2e-6)


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_two_steps_are_scikit_learns_logistic_regression(strength: float) -> None:
    x, y = steps_of(150, 12)
    ours = ProportionalOdds(C=strength).fit(x, (y > 2).astype(int))
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(x, y > 2)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-4)


def test_gradient_and_that_no_other_place_is_better() -> None:
    x, y = steps_of(80, 5)
    counts = np.bincount(y).astype(float)
    at = np.random.default_rng(1).normal(size=9)
    numeric = approx_fprime(at, lambda p: _loss(p, x, y, counts, 0.7)[0], 1e-7)
    np.testing.assert_allclose(_loss(at, x, y, counts, 0.7)[1], numeric, rtol=1e-4, atol=1e-4)
    fits = [ProportionalOdds(C=c).fit(x, y).set_params(C=1 / 0.7).fit(x, y) for c in (1e-4, 1e4)]
    np.testing.assert_allclose(fits[0].coef_, fits[1].coef_, atol=1e-4)  # wherever it begins


def test_probabilities_and_steps_absent_from_the_training_subjects() -> None:
    x, y = steps_of(200, 6)
    few = y != 2
    probe = fit_probe(x[few], y[few].astype(float), 5, ordered=True)
    chance = probe.probabilities(x)
    assert chance.shape == (200, 5)
    np.testing.assert_allclose(chance.sum(axis=1), 1)
    assert (chance >= 0).all()
    np.testing.assert_allclose(chance[:, 2], 0, atol=1e-12)
    assert probe.weights.shape == (1, 6)
    assert probe.intercept.shape == (4,)
    np.testing.assert_array_equal(all_steps(np.array([0.5]), np.array([1, 3]), 6), [1e3, 0.5, 0.5, -1e3, -1e3])


def test_the_penalty_is_that_of_the_least_held_out_loss() -> None:
    x, y = steps_of(100, 40)
    probe = fit_probe(x, y.astype(float), 5, ordered=True)
    losses = []
    for strength in LOGISTIC_STRENGTHS:
        losses.append(0.0)
        for train, test in make_folds(y.astype(float), True, None, 5, 1):
            mean, std = x[train].mean(axis=0), x[train].std(axis=0)
            fitted = ProportionalOdds(C=1 / (strength * len(train))).fit((x[train] - mean) / std, y[train])
            chance = fitted.predict_proba((x[test] - mean) / std)[np.arange(len(test)), y[test]]
            losses[-1] -= np.log(chance).sum()
    assert probe.strength == LOGISTIC_STRENGTHS[np.argmin(losses)]
    mean, std = x.mean(axis=0), x.std(axis=0)
    again = ProportionalOdds(C=1 / (probe.strength * 100)).fit((x - mean) / std, y)
    np.testing.assert_allclose(probe.probabilities(x), again.predict_proba((x - mean) / std), atol=1e-4)


def test_few_subjects_with_many_features_gain_by_the_order(tmp_path: Path) -> None:
    x, y = steps_of(150, 60)
    embeddings, cohort = save_cohort(tmp_path, x, grade=y, half=y * 0.5 + 1)
    right = {}
    for task in ("classification", "ordinal"):
        found = evaluate(embeddings, cohort, ["grade", "half"], task=task, repeats=3).results
        figures = found[found["metric"] == "accuracy"].set_index("target")["mean"]
        assert figures["grade"] == figures["half"]  # steps are steps, however they are numbered
        right[task] = figures["grade"]
    assert right["ordinal"] > right["classification"] + 0.05
    assert "kappa_quadratic" in set(found["metric"])


def test_text_and_long_scales_are_refused_in_a_sentence(tmp_path: Path) -> None:
    x, y = steps_of(60, 3)
    columns = {"words": np.array(["mild", "none", "severe", "worse", "worst"])[y], "long": np.arange(60) // 2}
    embeddings, cohort = save_cohort(tmp_path, x, **columns)
    with pytest.raises(UserError, match="which has no order to go by; give its steps as numbers"):
        evaluate(embeddings, cohort, "words", task="ordinal")
    with pytest.raises(UserError, match="30 different values, too many for steps; use --task long=regression"):
        evaluate(embeddings, cohort, "long", task="ordinal")
