"""The benchmark: one division for all rows, nothing leaks, nothing done twice, a failing row loses no other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, r2_score
from synthetic_study import (
    SUBJECTS,
    TARGETS,
    Centred,
    Faulty,
    MeanHU,
    Nearest,
    SyntheticStudy,
    Unavailable,
)

from anatograph.baselines.benchmark import BenchmarkResult, benchmark
from anatograph.baselines.method import Scans
from anatograph.evaluation.evaluate import evaluate


@pytest.fixture(scope="module")
def done(synthetic: SyntheticStudy, tmp_path_factory: pytest.TempPathFactory) -> tuple[BenchmarkResult, Path]:
    out = tmp_path_factory.mktemp("out") / "bench"
    rows = [MeanHU(), Centred(), Nearest(), Unavailable(), Faulty()]
    found = benchmark(synthetic.study, synthetic.cohort, [*TARGETS, "rare"], out, rows, folds=4, bootstrap=100,
                      log=["FEV1pp"], region_truth=True)  # fmt: skip
    return found, out


def test_all_rows_are_judged_on_the_same_folds(done: tuple[BenchmarkResult, Path]) -> None:
    predictions = pd.read_parquet(done[1] / "predictions.parquet")
    assert set(predictions["method"]) == {"majority", "covariates", "mean-hu", "centred", "nearest"}
    by_subject = predictions.groupby("subject_id")["fold"].nunique()
    assert (by_subject == 1).all()  # of every method and every target
    assert (predictions.groupby(["method", "target", "subject_id"]).size() == 1).all()
    grades = predictions[(predictions["method"] == "nearest") & (predictions["target"] == "grade")]
    counts = grades.groupby(["fold", "truth_class"]).size().unstack()
    assert (counts.max() - counts.min() <= 1).all()  # the classes in proportion, though the folds serve all targets


def test_scores_match_scikit_learn_on_the_predictions(done: tuple[BenchmarkResult, Path]) -> None:
    results = pd.read_csv(done[1] / "results.csv")
    assert list(results.columns[:5]) == ["method", "target", "metric", "mean", "std"]
    predictions = pd.read_parquet(done[1] / "predictions.parquet")
    for method in ("majority", "covariates", "mean-hu", "centred", "nearest"):
        mine = predictions[predictions["method"] == method]
        scores = results[results["method"] == method].set_index(["target", "metric"])
        fev1 = mine[mine["target"] == "FEV1pp"]
        r2 = [r2_score(part["truth"], part["prediction"]) for _, part in fev1.groupby("fold")]
        assert scores.loc[("FEV1pp", "r2"), "mean"] == pytest.approx(np.mean(r2))
        assert scores.loc[("FEV1pp", "r2"), "std"] == pytest.approx(np.std(r2, ddof=1))
        pooled = r2_score(fev1["truth"], fev1["prediction"])
        assert scores.loc[("FEV1pp", "r2"), "pooled"] == pytest.approx(pooled)
        assert scores.loc[("FEV1pp", "r2"), "low"] < pooled < scores.loc[("FEV1pp", "r2"), "high"]
        grade = mine[mine["target"] == "grade"]
        by_fold = [part for _, part in grade.groupby("fold")]
        right = [accuracy_score(p["truth_class"], p["predicted_class"]) for p in by_fold]
        kappa = [
            cohen_kappa_score(p["truth_class"].astype(int), p["predicted_class"].astype(int), weights="quadratic",
                              labels=range(4))
            for p in by_fold
        ]  # fmt: skip
        assert scores.loc[("grade", "accuracy"), "mean"] == pytest.approx(np.mean(right))
        assert scores.loc[("grade", "kappa_quadratic"), "mean"] == pytest.approx(np.mean(kappa), abs=1e-9)
    means = results.set_index(["method", "target", "metric"])["mean"]
    assert means["majority", "FEV1pp", "r2"] <= 0
    assert means["majority", "sick", "auc"] == 0.5
    assert means["nearest", "FEV1pp", "r2"] > 0.6 > means["covariates", "FEV1pp", "r2"]
    assert means["mean-hu", "sick", "accuracy"] > 0.8 > means["covariates", "sick", "accuracy"]


def test_missing_labels_and_rare_classes_are_reported(done: tuple[BenchmarkResult, Path]) -> None:
    found, out = done
    some = found.results[found.results["target"] == "some"]
    assert set(some["n"]) == {30}
    account = json.loads((out / "benchmark.run.json").read_text(encoding="utf-8"))
    notes = " ".join(account["notes"])
    assert "10 of 40 subjects have no value of some" in notes
    assert "rare: fewer members than folds, so not every fold tests odd (3)" in notes
    assert "10 of 40 subjects have no value of some" in found.table
    auc = found.results[(found.results["target"] == "rare") & (found.results["metric"] == "auc")]
    assert (auc["folds"] <= 3).all()


def test_a_failing_row_does_not_stop_the_others(done: tuple[BenchmarkResult, Path]) -> None:
    found, out = done
    assert found.account.exit_status == 1
    assert [f.subject_id for f in found.account.failures] == ["no-weights", "faulty"]
    assert "## Unavailable" in found.table
    assert "give --weights no-weights=FILE" in found.table
    assert "ZeroDivisionError: division by zero" in found.table
    stored = json.loads((out / "methods" / "faulty" / "failed.json").read_text(encoding="utf-8"))
    assert "raise ZeroDivisionError" in stored["trace"]
    assert "nearest" in set(found.results["method"])


def test_the_table_has_the_shape_of_the_papers(done: tuple[BenchmarkResult, Path]) -> None:
    lines = (done[1] / "table.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| Method | Supervised | log FEV1pp | grade | sick | some | rare |")
    assert lines[start + 2] == "|  |  | R² | % accuracy | % accuracy | % accuracy | % accuracy |"
    rows = {line.split("|")[1].strip(): line.split("|") for line in lines[start + 3 : start + 8]}
    assert list(rows)[:2] == ["Majority class, mean", "Covariates alone (age, sex, site)"]
    assert rows["Nearest"][2].strip() == "✓"
    assert rows["Mean HU"][2].strip() == "✗"
    assert "±" in rows["Mean HU"][3]
    assert "paper" not in "\n".join(lines).replace("laid out as the paper", "")
    text = "\n".join(lines)
    for heading in ("% balanced accuracy", "AUC", "Quadratic kappa", "Region by region", "Effort", "Subjects"):
        assert f"## {heading}" in text


def test_region_scores_locate_disease(done: tuple[BenchmarkResult, Path]) -> None:
    regions = pd.read_csv(done[1] / "regions.csv").set_index(["method", "metric"])
    assert set(regions.index.get_level_values(0)) == {"patch-density", "mean-hu"}
    assert regions.loc[("mean-hu", "r2_pooled"), "mean"] > 0.5
    assert regions.loc[("mean-hu", "r2"), "folds"] == 4
    assert (regions["subjects"] == SUBJECTS).all()
    assert set(regions["target"]) == {"holes"}


def test_labels_of_test_subjects_are_not_used(synthetic: SyntheticStudy) -> None:
    """Shuffled labels of a fold's test subjects do not change their predictions, for every kind of row."""
    from dataclasses import replace

    from anatograph.baselines.design import CrossValidation, make_design
    from anatograph.baselines.floors.covariates import Covariates
    from anatograph.baselines.floors.majority import Majority
    from anatograph.baselines.row_runner import RowRunner
    from anatograph.study.cohort import read_cohort
    from anatograph.study.store import Study

    study = Study.open(synthetic.study)
    design = make_design(
        study, read_cohort(synthetic.cohort), dict.fromkeys(TARGETS), ["FEV1pp"], CrossValidation(folds=4)
    )
    scans = Scans(study, design.table, synthetic.study)
    split = design.rounds[0][1]
    random = np.random.default_rng(0)
    shuffled = []
    for target in design.targets:
        values = target.values.copy()
        test = design.split_of(target, split)[1]
        values[test] = random.permutation(values[test])
        assert (values != target.values).any()
        shuffled.append(replace(target, values=values))
    other = replace(design, targets=tuple(shuffled))
    features = MeanHU().embed(scans)
    for row in (Majority(), Covariates(["age", "sex", "site"]), MeanHU(), Centred(), Nearest()):
        one, two = (RowRunner(d, scans, print).predict(row, split, features, 0) for d in (design, other))
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
    centred = Centred()
    RowRunner(design, scans, print).predict(centred, split, None, 0)
    assert centred.fitted_on == [tuple(split[0])]


def test_supervised_rows_see_whole_folds_and_only_subjects_with_a_value(
    synthetic: SyntheticStudy, tmp_path: Path
) -> None:
    row = Nearest()
    benchmark(
        synthetic.study, synthetic.cohort, ["some", "sick"], tmp_path / "b", [row], folds=3, repeats=2, group="person"
    )
    assert len(row.calls) == 2 * 2 * 3
    table = pd.read_csv(synthetic.cohort)
    person = table["person"].to_numpy()
    for name, train, test in row.calls:
        assert not set(train) & set(test)
        assert not set(person[list(train)]) & set(person[list(test)])
        assert table[name].notna().to_numpy()[list(train) + list(test)].all()
    # One division for both targets: subjects without "some" are missing from its folds, the others stay.
    sick = [test for name, _, test in row.calls if name == "sick"]
    some = [test for name, _, test in row.calls if name == "some"]
    for whole, part in zip(sick, some, strict=True):
        assert set(part) <= set(whole)
    results = pd.read_csv(tmp_path / "b" / "results.csv")
    assert set(results.loc[results["metric"] == "accuracy", "folds"]) == {6}


def test_subjects_and_probes_match_evaluate(
    synthetic: SyntheticStudy, done: tuple[BenchmarkResult, Path], tmp_path: Path
) -> None:
    """The stored embedding is a table that `evaluate` reads; other folds, the same answer."""
    embedding = done[1] / "methods" / "mean-hu" / "embeddings.parquet"
    apart = evaluate(embedding, synthetic.cohort, "FEV1pp", folds=4, log=["FEV1pp"]).results.set_index("metric")
    mine = done[0].results
    mine = mine[(mine["method"] == "mean-hu") & (mine["target"] == "FEV1pp")].set_index("metric")
    assert mine.loc["r2_pooled", "mean"] == pytest.approx(apart.loc["r2_pooled", "mean"], abs=0.1)
