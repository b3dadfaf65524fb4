"""Probes on features in parts: place is used where it helps, and does not cost where it does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anatograph.errors import UserError
from anatograph.evaluation.cross_validation import cross_validate
from anatograph.evaluation.folds import make_folds
from anatograph.evaluation.metrics import r_squared
from anatograph.evaluation.probes.linear import fit_probe
from anatograph.evaluation.probes.ridge import (
    INNER_FOLDS,
    RIDGE_STRENGTHS,
    Scaling,
    choose_scales,
    plan_errors,
    plans_of,
)
from anatograph.evaluation.targets import Target

Array = NDArray[np.float64]


def made(count: int = 80, width: int = 40, seed: int = 0) -> tuple[Array, Array, Array]:
    """Features of four parts; a value that the first part predicts, and one that the second predicts."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 4 * width))
    weights = random.normal(size=width) / np.sqrt(width)
    noise = 0.3 * random.normal(size=(2, count))
    return features, features[:, :width] @ weights + noise[0], features[:, width : 2 * width] @ weights + noise[1]


def score(features: Array, values: Array, parts: int) -> float:
    target = Target("y", "regression", np.arange(len(values)), values)
    return r_squared(values, cross_validate(features, target, None, 5, 0, parts).predicted)


def test_place_is_used_where_it_helps_and_costs_nothing_elsewhere() -> None:
    features, without, with_place = made()
    alone = score(features[:, :40], without, 1)
    assert score(features, without, 4) > alone - 0.03
    assert score(features, without, 1) < alone - 0.1  # all features alike lose much
    assert score(features[:, :40], with_place, 1) < 0.1
    assert score(features, with_place, 4) > 0.4


def test_one_part_is_the_probe_as_it_was() -> None:
    features, values, _ = made()
    first, second = fit_probe(features, values, 0), fit_probe(features, values, 0, parts=1)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.scales == (1.0,)


def test_unused_parts_have_no_weight() -> None:
    features, values, _ = made()
    probe = fit_probe(features, values, 0, parts=4)
    assert probe.scales[0] == 1
    for part, scale in enumerate(probe.scales):
        used = np.abs(probe.weights[0, 40 * part : 40 * part + 40]).max() > 0
        assert used == (scale > 0)


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_by_place(classes: int) -> None:
    features, _, values = made(150)
    labels = np.searchsorted(np.quantile(values, np.linspace(0, 1, classes + 1)[1:-1]), values).astype(float)
    probe = fit_probe(features[:100], labels[:100], classes, parts=4)
    assert sum(probe.scales[1:]) > 0
    right = (probe.predict(features[100:]) == labels[100:]).mean()
    assert right > 1.4 / classes


def test_features_that_are_no_parts_are_refused() -> None:
    with pytest.raises(UserError, match="not 3 parts"):
        fit_probe(np.zeros((10, 7)), np.arange(10.0), 0, parts=3)


def test_a_regression_is_the_weighted_mean_of_scikit_learns_ridges() -> None:
    features, _, values = made(60, 5)
    scaling, inner = Scaling(4, True), make_folds(values, False, None, INNER_FOLDS, 1)
    errors, plans = plan_errors(features, values, 0, inner, scaling), plans_of(4)
    least = errors.min(axis=1)
    share = np.exp(-(least / least.min() - 1) / 0.1) * (np.exp(-(least / least.min() - 1) / 0.1) >= 0.02)
    assert 1 < np.count_nonzero(share) < len(plans)
    expected = np.zeros(len(values))
    for plan, one, error in zip(plans, share / share.sum(), errors, strict=True):
        given = (features - features.mean(axis=0)) / features.std(axis=0) * np.repeat(plan, 5)
        ridge = Ridge(alpha=float(RIDGE_STRENGTHS[error.argmin()]) * len(values)).fit(given, values)
        expected += one * ridge.predict(given)
    np.testing.assert_allclose(fit_probe(features, values, 0, parts=4).predict(features), expected, atol=1e-8)


def test_an_average_is_better_than_a_choice_where_the_choice_is_uncertain() -> None:
    chosen, averaged = [], []
    for seed in range(8):
        features, without, with_place = made(90, 8, seed)
        values = without + with_place + np.random.default_rng(seed + 100).normal(size=90)
        train, test = np.arange(30), np.arange(30, 90)
        inner = make_folds(values[train], False, None, INNER_FOLDS, 1)
        scales = np.repeat(choose_scales(features[train], values[train], 0, inner, Scaling(4, True)), 8)
        used = features[:, scales > 0] * scales[scales > 0]
        model = make_pipeline(StandardScaler(with_std=False), RidgeCV(RIDGE_STRENGTHS * 24, cv=inner))
        picked = model.fit(used[train] / features[train][:, scales > 0].std(axis=0), values[train])
        chosen.append(r_squared(values[test], picked.predict(used[test] / features[train][:, scales > 0].std(axis=0))))
        averaged.append(
            r_squared(values[test], fit_probe(features[train], values[train], 0, parts=4).predict(features[test]))
        )
    assert np.mean(averaged) > np.mean(chosen)
