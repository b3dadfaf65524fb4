"""The probe against scikit-learn's own nested cross-validation, and against leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.folds import make_folds
from anatograph.evaluation.probes.linear import LOGISTIC_STRENGTHS, RIDGE_STRENGTHS, fit_probe
from fixtures.vectors import metric, save_cohort

Features = NDArray[np.float64]


@pytest.fixture
def regression() -> tuple[Features, NDArray[np.float64]]:
    random = np.random.default_rng(3)
    x = random.normal(5, 3, (60, 30))
    return x, x[:, 0] * 0.7 - x[:, 1] * 0.3 + random.normal(0, 1.5, 60)


@pytest.mark.parametrize("grouped", [False, True])
def test_ridge_is_sklearns_grid_search(regression: tuple[Features, NDArray[np.float64]], grouped: bool) -> None:
    x, y = regression
    groups = np.arange(60) // 3 if grouped else None
    inner = make_folds(y, False, groups, 5, 1)
    # sklearn's alpha is not per subject, so the fits of the inner folds need their own size: all folds hold 48 here.
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge()),
        {"ridge__alpha": RIDGE_STRENGTHS * 48},
        cv=inner,
        scoring="neg_mean_squared_error",
    ).fit(x, y)
    probe = fit_probe(x, y, 0, groups, seed=0)
    assert {len(train) for train, _ in inner} == {48}
    assert probe.strength * 48 == pytest.approx(search.best_params_["ridge__alpha"])
    refit = make_pipeline(StandardScaler(), Ridge(alpha=probe.strength * 60)).fit(x, y)
    np.testing.assert_allclose(probe.predict(x), refit.predict(x), atol=1e-9)


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_is_sklearns(classes: int) -> None:
    random = np.random.default_rng(5)
    y = random.integers(0, classes, 120)
    x = random.normal(0, 1, (120, 20)) * 4 + 2
    x[:, :classes] += 4 * np.eye(classes)[y]
    probe = fit_probe(x, y.astype(float), classes, seed=0)
    refit = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (probe.strength * 120), max_iter=5000, tol=1e-8))
    np.testing.assert_allclose(probe.probabilities(x), refit.fit(x, y).predict_proba(x), atol=2e-3)
    inner = make_folds(y.astype(float), True, None, 5, 1)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
        {"logisticregression__C": 1 / (LOGISTIC_STRENGTHS * 96)},
        cv=inner,
        scoring="neg_log_loss",
    ).fit(x, y)
    assert 1 / (probe.strength * 96) == pytest.approx(search.best_params_["logisticregression__C"])


def test_random_labels_stay_at_chance(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    x = random.normal(0, 1, (200, 128))
    columns = {"binary": random.integers(0, 2, 200), "number": random.normal(0, 1, 200)}
    embeddings, cohort = save_cohort(tmp_path, x, **columns)
    found = evaluate(embeddings, cohort, ["binary", "number"]).results
    assert abs(metric(found, "auc") - 0.5) < 0.12
    assert abs(metric(found, "balanced_accuracy") - 0.5) < 0.1
    assert -0.1 < metric(found, "r2_pooled") < 0.05


def test_a_patients_scans_share_a_fold(tmp_path: Path) -> None:
    """Ten patients, eight scans each: features identify the patient, the target is a random number of the patient."""
    random = np.random.default_rng(2)
    person = np.repeat(np.arange(10), 8)
    x = random.normal(0, 1, (10, 64))[person] + random.normal(0, 0.05, (80, 64))
    y = random.normal(0, 1, 10)[person]
    embeddings, cohort = save_cohort(tmp_path, x, y=y, person=[f"p{p}" for p in person])
    loose = evaluate(embeddings, cohort, "y")
    together = evaluate(embeddings, cohort, "y", group="person")
    assert metric(loose.results, "r2_pooled") > 0.9  # the leak
    assert -1.0 < metric(together.results, "r2_pooled") < 0.3
    fold_of = together.predictions.assign(person=person).groupby("person")["fold"].nunique()
    assert (fold_of == 1).all()
    # A weak penalty only looks good when a patient's other scans are among those fitted on.
    assert fit_probe(x, y, 0, person).strength > 100 * fit_probe(x, y, 0, None).strength


def test_inner_groups_are_what_keeps_r2_from_exploding() -> None:
    """Outer folds by patient, inner folds by scan: ridge extrapolates wildly; ours does not."""
    person = np.repeat(np.arange(8), 10)
    wild_r2, our_r2 = [], []
    for seed in range(10):
        random = np.random.default_rng(seed)
        x = random.normal(0, 1, (8, 6))[person] + random.normal(0, 0.02, (80, 6))
        y = random.normal(0, 1, 8)[person]
        wild, ours = np.zeros(80), np.zeros(80)
        for train, test in LeaveOneGroupOut().split(x, y, person):
            wild[test] = fit_probe(x[train], y[train], 0, None).predict(x[test])
            ours[test] = fit_probe(x[train], y[train], 0, person[train]).predict(x[test])
        wild_r2.append(r2_score(y, wild))
        our_r2.append(r2_score(y, ours))
    assert np.median(wild_r2) < -2
    assert np.median(our_r2) > -0.8
    assert min(our_r2) > min(wild_r2)


def test_classes_of_a_patient_share_a_fold(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    person = np.repeat(np.arange(24), 4)
    x = random.normal(0, 1, (24, 32))[person] + random.normal(0, 0.05, (96, 32))
    embeddings, cohort = save_cohort(tmp_path, x, sick=random.permutation(np.arange(24) % 2)[person], person=person)
    together = evaluate(embeddings, cohort, "sick", group="person")
    assert (together.predictions.assign(person=person).groupby("person")["fold"].nunique() == 1).all()
    assert metric(evaluate(embeddings, cohort, "sick").results, "auc") > 0.95
    assert metric(together.results, "auc") < 0.8


def test_scale_and_constant_features_do_not_matter(regression: tuple[Features, NDArray[np.float64]]) -> None:
    x, y = regression
    stretched = np.concatenate([x * np.logspace(-4, 4, 30) + 1, np.full((60, 2), 7.3)], axis=1)
    np.testing.assert_allclose(
        fit_probe(stretched, y, 0).predict(stretched), fit_probe(x, y, 0).predict(x), rtol=1e-6, atol=1e-6
    )
