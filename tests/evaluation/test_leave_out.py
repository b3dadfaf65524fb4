"""Left-out values, the correlation within groups, and the non-linear probe, against scikit-learn and known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import LeaveOneGroupOut

from anatograph.embedding.table import write_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.leave_out import leave_out, leave_out_scores
from anatograph.evaluation.probes.nonlinear import fit_nonlinear
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import read_target
from anatograph.evaluation.within_group import within_group_correlation, within_group_score

SUBJECTS = 60


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A feature that follows ``dose`` but is offset by site; two scans of each patient, on two sites."""
    folder = tmp_path_factory.mktemp("leave-out")
    random = np.random.default_rng(0)
    site = np.arange(SUBJECTS) % 3
    dose = random.uniform(0, 1, SUBJECTS)
    features = np.stack([dose + 5.0 * site, random.normal(size=SUBJECTS)], axis=1) + random.normal(0, 0.02, (60, 2))
    table = pd.DataFrame({
        "subject_id": [f"s{k:02d}" for k in range(SUBJECTS)], "image": "x.nii.gz", "dose": dose,
        "site": np.array(["A", "B", "C"])[site], "patient": [f"p{k // 2}" for k in range(SUBJECTS)],
        "sick": np.where(dose > 0.5, "sick", "well"), "device": ["one"] * SUBJECTS,
    })  # fmt: skip
    table.to_csv(folder / "cohort.csv", index=False)
    write_embeddings(folder / "vectors.parquet", list(table["subject_id"]), features.astype(np.float32))
    return folder / "cohort.csv"


def test_splits_are_those_of_scikit_learn_without_members_of_the_tested_groups(cohort: Path) -> None:
    table = pd.read_csv(cohort)
    found = leave_out(table, "site")
    expected = LeaveOneGroupOut().split(table, groups=table["site"])
    for (train, test), (theirs_train, theirs_test) in zip(found.splits, expected, strict=True):
        np.testing.assert_array_equal(train, theirs_train)
        np.testing.assert_array_equal(test, theirs_test)
    groups, site = np.unique(table["patient"], return_inverse=True)[1], table["site"].to_numpy()
    apart = leave_out(table, "site", groups)
    for train, test in apart.splits:
        assert not set(groups[train]) & set(groups[test])
        assert not set(site[train]) & set(site[test])
        assert len(set(site[test])) == 1
    tested = np.concatenate([test for _, test in apart.splits])
    assert sorted(tested) == list(range(SUBJECTS))  # each once


def test_an_offset_between_sites_shows_only_where_a_site_is_left_out(cohort: Path, tmp_path: Path) -> None:
    vectors = cohort.parent / "vectors.parquet"
    found = evaluate(vectors, cohort, ["dose", "sick"], leave_out="site", out=tmp_path / "e", group="patient")
    results = found.results.set_index(["target", "metric"])["mean"]
    assert results["dose", "leave_out_r2"] < 0 < results["dose", "leave_out_mae"]
    assert "r_within_group" in found.results[found.results["target"] == "dose"]["metric"].tolist()
    written = pd.read_parquet(tmp_path / "e" / "leave_out.parquet")
    assert set(written["target"]) == {"dose", "sick"}
    assert (written[written["target"] == "dose"].groupby("subject_id").size() == 1).all()
    assert found.results[found.results["metric"] == "leave_out_r2"]["folds"].tolist() == [3]
    without = evaluate(vectors, cohort, ["dose"])
    assert not without.results["metric"].str.startswith("leave_out").any()


def test_scores_over_left_out_values_are_means_over_them(cohort: Path) -> None:
    from sklearn.metrics import r2_score

    table = pd.read_csv(cohort)
    target, split = read_target(table, "dose"), leave_out(table, "site")
    predicted = target.values + np.random.default_rng(1).normal(0, 0.1, SUBJECTS)
    scores = {s.metric: s for s in leave_out_scores(target, Predictions(split.labels, predicted, None, predicted))}
    by_site = [r2_score(target.values[split.labels == k], predicted[split.labels == k]) for k in range(3)]
    assert scores["leave_out_r2"].mean == pytest.approx(np.mean(by_site))
    assert scores["leave_out_r2"].values == pytest.approx(by_site)
    assert scores["leave_out_r2_pooled"].mean == pytest.approx(r2_score(target.values, predicted))


def test_what_cannot_be_left_out_is_said(cohort: Path) -> None:
    table = pd.read_csv(cohort)
    for column, words in (("device", "1 different values"), ("nowhere", "no column 'nowhere'")):
        with pytest.raises(UserError, match=words):
            leave_out(table, column)
    with pytest.raises(UserError, match="is empty for 1 subjects"):
        leave_out(table.assign(site=table["site"].where(table.index != 3)), "site")
    with pytest.raises(UserError, match="no subject is left"):
        leave_out(table, "site", np.zeros(SUBJECTS, dtype=np.int64))
    split = leave_out(table, "site")
    with pytest.raises(UserError, match="its own values are left out"):
        split.splits_of(read_target(table, "site"))
    only_a = table.assign(dose=table["dose"].where(table["site"] == "A"))
    with pytest.raises(UserError, match=r"too few subjects|single value"):
        split.splits_of(read_target(only_a, "dose"))


def test_the_correlation_within_groups_ignores_differences_between_them() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 6)
    truth = random.normal(size=60)
    offset = 50 * random.normal(size=10)[groups]
    assert within_group_correlation(truth, truth + offset, groups) == pytest.approx(1)
    assert abs(np.corrcoef(truth, truth + offset)[0, 1]) < 0.5
    noisy = truth + random.normal(0, 0.5, 60) + offset
    centred = [np.array([v[groups == g] - v[groups == g].mean() for g in range(10)]).ravel() for v in (truth, noisy)]
    assert within_group_correlation(truth, noisy, groups) == pytest.approx(np.corrcoef(*centred)[0, 1])
    assert np.isnan(within_group_correlation(truth, noisy, np.arange(60)))
    target = read_target(pd.DataFrame({"x": truth, "subject_id": "a"}), "x")
    done = Predictions(groups % 5, noisy, None, noisy)
    (score,) = within_group_score(target, [done, done], groups)
    assert (score.metric, score.folds) == ("r_within_group", 2)
    assert within_group_score(target, [done], None) == []


def test_the_nonlinear_probe_sees_what_a_line_cannot() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 2))
    y = ((x**2).sum(axis=1) > 1.4).astype(np.int64)
    probe = fit_nonlinear(x[:200], y[:200])
    assert (probe.predict(x[200:]) == y[200:]).mean() > 0.9
