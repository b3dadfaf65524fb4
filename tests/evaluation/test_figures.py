"""Figures, folds for several targets, and comparisons: against scikit-learn, scipy, and arithmetic done another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, r2_score, roc_auc_score

from anatograph.embedding.table import write_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.comparison import corrected_t_test, holm
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.folds import make_folds, make_shared_folds
from anatograph.evaluation.metrics import area_under_curve, balanced_accuracy, quadratic_kappa
from anatograph.evaluation.scores import Predictions, score
from anatograph.evaluation.targets import Target


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_figures_are_scikit_learns(classes: int) -> None:
    random = np.random.default_rng(classes)
    for _ in range(20):
        truth = random.integers(0, classes, 40).astype(float)
        truth[:classes] = np.arange(classes)
        chance = np.round(random.dirichlet(np.ones(classes), 40), 1) + 0.01  # many ties
        chance /= chance.sum(axis=1, keepdims=True)
        predicted = chance.argmax(axis=1).astype(float)
        if classes == 2:
            area = roc_auc_score(truth, chance[:, 1])
        else:
            area = roc_auc_score(truth, chance, multi_class="ovr", average="macro")
        assert area_under_curve(truth, chance) == pytest.approx(area)
        assert balanced_accuracy(truth, predicted) == pytest.approx(balanced_accuracy_score(truth, predicted))
        kappa = cohen_kappa_score(truth, predicted, weights="quadratic", labels=range(classes))
        assert quadratic_kappa(truth, predicted) == pytest.approx(kappa)


def test_a_class_that_a_fold_lacks_leaves_the_others_their_area() -> None:
    truth = np.array([0.0, 0, 1, 1])
    chance = np.array([[0.6, 0.3, 0.1], [0.5, 0.2, 0.3], [0.3, 0.5, 0.2], [0.2, 0.7, 0.1]])
    assert area_under_curve(truth, chance) == 1.0
    assert np.isnan(area_under_curve(np.zeros(4), chance))
    assert np.isnan(quadratic_kappa(np.ones(4), np.ones(4)))


def _predictions(target: Target, random: np.random.Generator, noise: float) -> Predictions:
    predicted = target.values + random.normal(0, noise, len(target.values))
    return Predictions(np.arange(len(predicted)) % 5, predicted, None, np.full(len(predicted), target.values.mean()))


def test_bootstrap_interval_is_scipys() -> None:
    random = np.random.default_rng(1)
    target = Target("y", "regression", np.arange(80), random.normal(0, 1, 80))
    done = _predictions(target, random, 0.6)
    scores = {one.metric: one for one in score(target, done, None, 0, 2000, intervals=True)}
    witness = stats.bootstrap(
        (target.values, done.predicted), r2_score, paired=True, vectorized=False, n_resamples=2000,
        method="percentile", rng=np.random.default_rng(5),
    )  # fmt: skip
    assert scores["r2"].pooled == pytest.approx(r2_score(target.values, done.predicted))
    assert scores["r2"].low == pytest.approx(witness.confidence_interval.low, abs=0.03)
    assert scores["r2"].high == pytest.approx(witness.confidence_interval.high, abs=0.03)
    assert scores["r2_pooled"].std == pytest.approx(witness.standard_error, rel=0.15)
    # The subjects of a group are drawn together: each four times, so the interval is that of a quarter of them.
    groups = np.arange(80) // 4
    wider = {one.metric: one for one in score(_repeated(target), _fourfold(done), groups, 0, 1000, intervals=True)}
    loose = {one.metric: one for one in score(_repeated(target), _fourfold(done), None, 0, 1000, intervals=True)}
    assert wider["r2"].high - wider["r2"].low > 1.5 * (loose["r2"].high - loose["r2"].low)


def _repeated(target: Target) -> Target:
    return Target("y", "regression", np.arange(80), np.repeat(target.values[:20], 4))


def _fourfold(done: Predictions) -> Predictions:
    return Predictions(done.fold, np.repeat(done.predicted[:20], 4), None, done.majority)


def test_rounds_are_averaged_over_all_their_folds() -> None:
    random = np.random.default_rng(2)
    target = Target("y", "regression", np.arange(50), random.normal(0, 1, 50))
    rounds = [_predictions(target, random, 0.5) for _ in range(3)]
    scores = {one.metric: one for one in score(target, rounds, bootstraps=10)}
    each = [
        r2_score(target.values[one.fold == k], one.predicted[one.fold == k]) for one in rounds for k in range(5)
    ]  # fmt: skip
    assert scores["r2"].values == pytest.approx(tuple(each))
    assert scores["r2"].mean == pytest.approx(np.mean(each))
    assert scores["r2"].std == pytest.approx(np.std(each, ddof=1))
    assert scores["r2"].folds == 15


def test_the_corrected_t_test_by_another_way() -> None:
    """Nadeau and Bengio's statistic from the plain t-test's, and its p by integrating the density."""
    random = np.random.default_rng(3)
    a, b = random.normal(0.7, 0.05, 15), random.normal(0.66, 0.05, 15)
    plain = stats.ttest_rel(a, b)
    found = corrected_t_test(a, b, 0.25)
    t = plain.statistic * np.sqrt((1 / 15) / (1 / 15 + 0.25))
    x = np.linspace(abs(t), 400, 2_000_001)
    p = 2 * np.trapezoid(stats.t(14).pdf(x), x)
    assert found.t == pytest.approx(t)
    assert found.p == pytest.approx(p, rel=1e-4)
    assert (found.degrees, found.folds) == (14, 15)
    assert found.p > plain.pvalue
    assert corrected_t_test(a, b, 0.0).p == pytest.approx(plain.pvalue)
    assert corrected_t_test(b, a, 0.25).t == pytest.approx(-t)
    a[3] = np.nan
    assert corrected_t_test(a, b, 0.25).folds == 14
    assert corrected_t_test(b, b, 0.25).p == 1.0
    assert np.isnan(corrected_t_test([0.5], [0.4], 0.25).p)


def test_equal_methods_rarely_differ_significantly() -> None:
    """Two regressions on noise, five folds: the plain t-test cries wolf more often than the corrected one."""
    random = np.random.default_rng(4)
    plain, corrected = 0, 0
    for _ in range(150):
        x, y = random.normal(size=(2, 40, 3)), random.normal(size=40)
        folds = [np.flatnonzero(np.arange(40) % 5 == k) for k in range(5)]
        errors = np.zeros((2, 5))
        for k, test in enumerate(folds):
            train = np.setdiff1d(np.arange(40), test)
            for m in range(2):
                weights = np.linalg.lstsq(x[m][train], y[train], rcond=None)[0]
                errors[m, k] = ((y[test] - x[m][test] @ weights) ** 2).mean()
        plain += stats.ttest_rel(*errors).pvalue < 0.05
        corrected += corrected_t_test(*errors, 0.25).p < 0.05
    assert corrected <= 0.05 * 150
    assert corrected < plain


def test_holm_by_its_definition() -> None:
    p = [0.01, 0.04, 0.03, 0.005, np.nan]
    # Sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04 × 1, each at least the one before.
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02, np.nan])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("grouped", [False, True])
def test_shared_folds_hold_the_classes_of_all_targets(grouped: bool) -> None:
    random, spread = np.random.default_rng(5), np.zeros(2)
    for trial in range(10):
        subjects = 97
        rare = (random.random(subjects) < 0.08).astype(int)
        grade = random.integers(0, 4, subjects)
        part = np.where(random.random(subjects) < 0.3, -1, random.integers(0, 2, subjects))
        groups = np.arange(subjects) // 2 if grouped else None
        folds = make_shared_folds([rare, grade, part], groups, 5, trial)
        tests = np.concatenate([test for _, test in folds])
        assert sorted(tests) == list(range(subjects))
        sizes = [len(test) for _, test in folds]
        assert max(sizes) - min(sizes) <= (5 if grouped else 3)
        for train, test in folds:
            assert not set(train) & set(test)
            if groups is not None:
                assert not set(groups[train]) & set(groups[test])
        by_chance = [test for _, test in make_folds(np.zeros(subjects), False, groups, 5, trial)]
        for label, value in ((rare, 1), (part, 0), (part, 1), *((grade, k) for k in range(4))):
            spread[0] += np.var([(label[test] == value).sum() for _, test in folds])
            spread[1] += np.var([(label[test] == value).sum() for test in by_chance])
        again = make_shared_folds([rare, grade, part], groups, 5, trial)
        assert all(np.array_equal(a[1], b[1]) for a, b in zip(folds, again, strict=True))
    assert spread[0] < (0.5 if grouped else 0.25) * spread[1]  # the classes lie far more evenly than by chance
    rare_by_fold = [int(rare[test].sum()) for _, test in make_shared_folds([rare, grade], None, 5, 0)]
    assert max(rare_by_fold) - min(rare_by_fold) <= 1  # the rarest is dealt out first
    assert make_shared_folds([np.zeros(1, dtype=int)], None, 5, 0) == []
    assert len(make_shared_folds([np.zeros(3, dtype=int)], None, 5, 0)) == 3


def test_evaluate_repeats_and_bootstraps(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    x = random.normal(0, 1, (30, 4)).astype(np.float32)
    ids = [f"s{i:02d}" for i in range(30)]
    embeddings = write_embeddings(tmp_path / "e", ids, x)
    table = pd.DataFrame({"subject_id": ids, "image": ids, "y": x[:, 0] + random.normal(0, 0.5, 30)})
    table["grade"] = np.digitize(x[:, 1], [-0.5, 0.5])
    table.to_csv(tmp_path / "c.csv", index=False)
    once = evaluate(embeddings, tmp_path / "c.csv", ["y", "grade"], folds=3)
    found = evaluate(
        embeddings, tmp_path / "c.csv", ["y", "grade"], folds=3, repeats=2, bootstrap=100, out=tmp_path / "out"
    )
    results = found.results.set_index(["target", "metric"])
    assert results.loc[("y", "r2"), "folds"] == 6
    assert {"pooled", "low", "high"} <= set(results.columns)
    assert "kappa_quadratic" in set(found.results["metric"])
    assert ((results["low"] <= results["pooled"]) & (results["pooled"] <= results["high"])).all()
    first = found.predictions[found.predictions["repeat"] == 0].drop(columns="repeat").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, once.predictions)  # the first round is what one round gives
    by_repeat = found.predictions.groupby("repeat")["fold"].apply(tuple)
    assert by_repeat.nunique() == 2
    for wrong, words in (({"repeats": 0}, "at least once"), ({"bootstrap": 9}, "at least 100")):
        with pytest.raises(UserError, match=words):
            evaluate(embeddings, tmp_path / "c.csv", "y", **wrong)
