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
from anatograph.learning.model.pooling import Parts

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
    return r_squared(values, cross_validate(features, target, None, 5, 0, Parts(parts)).predicted)


def test_place_is_used_where_it_helps_and_costs_nothing_elsewhere() -> None:
    features, without, with_place = made()
    alone = score(features[:, :40], without, 1)
    assert score(features, without, 4) > alone - 0.03
    assert score(features, without, 1) < alone - 0.1  # all features alike lose much
    assert score(features[:, :40], with_place, 1) < 0.1
    assert score(features, with_place, 4) > 0.4


def test_one_part_is_the_probe_as_it_was() -> None:
    features, values, _ = made()
    first, second = fit_probe(features, values, 0), fit_probe(features, values, 0, parts=Parts(1))
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.scales == (1.0,)


def test_unused_parts_have_no_weight() -> None:
    features, values, _ = made()
    probe = fit_probe(features, values, 0, parts=Parts(4))
    assert probe.scales[0] == 1
    for part, scale in enumerate(probe.scales):
        used = np.abs(probe.weights[0, 40 * part : 40 * part + 40]).max() > 0
        assert used == (scale > 0)


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_by_place(classes: int) -> None:
    features, _, values = made(150)
    labels = np.searchsorted(np.quantile(values, np.linspace(0, 1, classes + 1)[1:-1]), values).astype(float)
    probe = fit_probe(features[:100], labels[:100], classes, parts=Parts(4))
    assert sum(probe.scales[1:]) > 0
    right = (probe.predict(features[100:]) == labels[100:]).mean()
    assert right > 1.4 / classes


def test_features_that_are_no_parts_are_refused() -> None:
    with pytest.raises(UserError, match="not 3 parts"):
        fit_probe(np.zeros((10, 7)), np.arange(10.0), 0, parts=Parts(3))


def test_a_regression_is_the_weighted_mean_of_scikit_learns_ridges() -> None:
    features, _, values = made(60, 5)
    scaling, inner = Scaling(Parts(4), True), make_folds(values, False, None, INNER_FOLDS, 1)
    errors, plans = plan_errors(features, values, 0, inner, scaling), plans_of(Parts(4))
    least = errors.min(axis=1)
    share = np.exp(-(least / least.min() - 1) / 0.1) * (np.exp(-(least / least.min() - 1) / 0.1) >= 0.02)
    assert 1 < np.count_nonzero(share) < len(plans)
    expected = np.zeros(len(values))
    for plan, one, error in zip(plans, share / share.sum(), errors, strict=True):
        given = (features - features.mean(axis=0)) / features.std(axis=0) * np.repeat(plan, 5)
        ridge = Ridge(alpha=float(RIDGE_STRENGTHS[error.argmin()]) * len(values)).fit(given, values)
        expected += one * ridge.predict(given)
    np.testing.assert_allclose(fit_probe(features, values, 0, parts=Parts(4)).predict(features), expected, atol=1e-8)


def test_an_average_is_better_than_a_choice_where_the_choice_is_uncertain() -> None:
    chosen, averaged = [], []
    for seed in range(8):
        features, without, with_place = made(90, 8, seed)
        values = without + with_place + np.random.default_rng(seed + 100).normal(size=90)
        train, test = np.arange(30), np.arange(30, 90)
        inner = make_folds(values[train], False, None, INNER_FOLDS, 1)
        scales = np.repeat(choose_scales(features[train], values[train], 0, inner, Scaling(Parts(4), True)), 8)
        used = features[:, scales > 0] * scales[scales > 0]
        model = make_pipeline(StandardScaler(with_std=False), RidgeCV(RIDGE_STRENGTHS * 24, cv=inner))
        picked = model.fit(used[train] / features[train][:, scales > 0].std(axis=0), values[train])
        chosen.append(r_squared(values[test], picked.predict(used[test] / features[train][:, scales > 0].std(axis=0))))
        averaged.append(
            r_squared(
                values[test], fit_probe(features[train], values[train], 0, parts=Parts(4)).predict(features[test])
            )
        )
    assert np.mean(averaged) > np.mean(chosen)


def test_densities_are_scaled_apart_from_learnt_features() -> None:
    """Sixty learnt features that vary more between subjects than the value does must not drown four that say it."""
    alike, apart = [], []
    for seed in range(3):
        random = np.random.default_rng(seed)
        features = random.normal(size=(60, 2 * 64))
        features[:, :60] = random.normal(size=(60, 3)) @ random.normal(size=(3, 60)) + 0.3 * features[:, :60]
        values = features[:, 60:64].sum(axis=1) + 0.3 * random.normal(size=60)
        target = Target("y", "regression", np.arange(60), values)
        for parts, found in ((Parts(2), alike), (Parts(2, 60), apart)):
            found.append(r_squared(values, cross_validate(features, target, None, 5, 0, parts).predicted))
    assert np.mean(apart) > np.mean(alike) + 0.02
    assert np.mean(apart) > 0.9


def test_each_part_is_two_blocks_where_learnt_features_are_apart() -> None:
    assert Parts(2, 3).widths(10) == (3, 2, 3, 2)
    assert Parts(2).widths(10) == (5, 5)
    plans = plans_of(Parts(2, 3))
    assert {plan[:2] for plan in plans} == {(x, 1.0) for x in (0.0, 0.1, 0.3, 1.0)}
    assert all(plan[2] == pytest.approx(plan[0] * plan[3]) for plan in plans)
    assert len(set(plans)) == len(plans)


@pytest.mark.parametrize("count", [30, 300])
def test_errors_from_products_of_rows_or_features_are_those_of_scikit_learn(count: int) -> None:
    features, values, _ = made(count, 20)
    parts = Parts(4, 12)
    inner = make_folds(values, False, None, 3, 1)
    errors, widths = plan_errors(features, values, 0, inner, Scaling(parts, True)), parts.widths(80)
    for number in (0, 7, len(errors) - 1):
        size, expected = np.repeat(plans_of(parts)[number], widths), 0.0
        for train, test in inner:
            mean, std = features[train].mean(axis=0), features[train].std(axis=0)
            ridge = Ridge(alpha=float(RIDGE_STRENGTHS[20]) * len(train)).fit(
                (features[train] - mean) / std * size, values[train]
            )
            expected += ((ridge.predict((features[test] - mean) / std * size) - values[test]) ** 2).sum()
        assert errors[number, 20] == pytest.approx(expected, rel=1e-6)
