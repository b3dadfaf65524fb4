"""`evaluate` from end to end: its tables, kinds of columns, missing labels, small cohorts and faulty files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

from anatograph.embedding.table import read_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.evaluate import evaluate
from fixtures.vectors import metric, save_cohort


def test_metrics_are_those_of_the_written_predictions(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    x = random.normal(0, 1, (90, 16))
    grade = np.clip(np.rint(x[:, 0] + 1.5 + random.normal(0, 0.4, 90)), 0, 3).astype(int)
    embeddings, cohort = save_cohort(tmp_path, x, gold=grade, fev1=x[:, 1] + random.normal(0, 0.3, 90))
    found = evaluate(embeddings, cohort, ["gold", "fev1"], out=tmp_path / "out")
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert list(results.columns) == ["target", "metric", "mean", "std", "folds", "n"]
    pd.testing.assert_frame_equal(results, found.results, check_dtype=False)
    predictions = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    gold = predictions[predictions["target"] == "gold"]
    assert sorted(gold["subject_id"]) == [f"s{i:04d}" for i in range(90)]
    columns = [f"probability_{k}" for k in range(4)]
    by_fold = [part for _, part in gold.groupby("fold")]
    assert len(by_fold) == 5
    truth = [part["truth_class"].astype(int) for part in by_fold]
    expected = [
        roc_auc_score(t, part[columns], multi_class="ovr", average="macro")
        for t, part in zip(truth, by_fold, strict=True)
    ]
    scores = results[results["target"] == "gold"]
    assert metric(scores, "auc") == pytest.approx(np.mean(expected))
    balanced = [
        balanced_accuracy_score(t, p["predicted_class"].astype(int)) for t, p in zip(truth, by_fold, strict=True)
    ]
    assert metric(scores, "balanced_accuracy") == pytest.approx(np.mean(balanced))
    assert scores.loc[scores["metric"] == "balanced_accuracy", "std"].item() == pytest.approx(np.std(balanced, ddof=1))
    fev1 = predictions[predictions["target"] == "fev1"]
    r2 = [r2_score(part["truth"], part["prediction"]) for _, part in fev1.groupby("fold")]
    numbers = results[results["target"] == "fev1"]
    assert metric(numbers, "r2") == pytest.approx(np.mean(r2))
    assert metric(numbers, "r2_pooled") == pytest.approx(r2_score(fev1["truth"], fev1["prediction"]))
    assert metric(numbers, "r2") > 0.8


def test_same_folds_and_numbers_whatever_the_order_and_features(tmp_path: Path) -> None:
    random = np.random.default_rng(13)
    x = random.normal(0, 1, (40, 8))
    y = random.normal(0, 1, 40)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ids = [f"s{i:04d}" for i in range(40)]
    first = evaluate(*save_cohort(tmp_path / "a", x, y=y), "y")
    order = random.permutation(40)
    second = evaluate(*save_cohort(tmp_path / "b", x[order], [ids[i] for i in order], y=y[order]), "y")
    pd.testing.assert_frame_equal(first.results, second.results)
    other = evaluate(*save_cohort(tmp_path / "b", random.normal(0, 1, (40, 3)), y=y), "y")
    assert (first.predictions["fold"] == other.predictions["fold"]).all()
    assert (
        evaluate(*save_cohort(tmp_path / "a", x, y=y), "y", seed=1).predictions["fold"] != first.predictions["fold"]
    ).any()


def test_permutations_say_what_chance_reaches(tmp_path: Path) -> None:
    random = np.random.default_rng(17)
    x = random.normal(0, 1, (40, 6))
    embeddings, cohort = save_cohort(tmp_path, x, y=x[:, 0] + random.normal(0, 0.5, 40))
    evaluate(embeddings, cohort, "y", permutations=19, out=tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "permutations.csv").set_index("metric")
    assert table.loc["r2_pooled", "p"] == pytest.approx(1 / 20)
    assert table.loc["r2_pooled", "chance_mean"] < 0.1
    assert table.loc["mae", "p"] == pytest.approx(1 / 20)


def test_log_scale(tmp_path: Path) -> None:
    random = np.random.default_rng(19)
    x = random.normal(0, 1, (50, 4))
    y = np.exp(x[:, 0])
    embeddings, cohort = save_cohort(tmp_path, x, y=y, z=y - 0.5)
    done = evaluate(embeddings, cohort, "y", log=["y"])
    np.testing.assert_allclose(done.predictions["truth"], np.log(y), atol=1e-6)
    assert metric(done.results, "r2") > 0.99
    with pytest.raises(UserError, match="no logarithm"):
        evaluate(embeddings, cohort, "z", log=["z"])


def test_missing_labels_and_subjects_are_named(tmp_path: Path) -> None:
    random = np.random.default_rng(23)
    x = random.normal(0, 1, (30, 4))
    y = x[:, 0].copy()
    y[:6] = np.nan
    embeddings, cohort = save_cohort(tmp_path, x, y=y)
    table = pd.read_csv(cohort)
    pd.concat([table.iloc[:-1], table.iloc[[-1]].assign(subject_id="stranger")]).to_csv(cohort, index=False)
    done = evaluate(embeddings, cohort, "y", out=tmp_path / "out")
    assert set(done.results["n"]) == {23}
    notes = " ".join(done.notes)
    assert "stranger" in notes
    assert "s0029" in notes
    assert "6 of 29 subjects have no value of y" in notes
    assert "6 of 29" in (tmp_path / "out" / "evaluate.run.json").read_text(encoding="utf-8")


def test_kinds_of_columns(tmp_path: Path) -> None:
    random = np.random.default_rng(29)
    x = random.normal(0, 1, (40, 4))
    columns = {
        "gold": np.arange(40) % 5,
        "age": 40 + np.arange(40),
        "sex": ["F", "M"] * 20,
        "flag": [True, False] * 20,
        "ratio": random.uniform(0, 1, 40),
        "grade_with_gaps": [float(i % 3) if i % 4 else np.nan for i in range(40)],
    }
    done = evaluate(*save_cohort(tmp_path, x, **columns), list(columns))
    kind = {name: "r2" if "r2" in set(part["metric"]) else "accuracy" for name, part in done.results.groupby("target")}
    assert kind == {
        "gold": "accuracy",
        "age": "r2",
        "sex": "accuracy",
        "flag": "accuracy",
        "ratio": "r2",
        "grade_with_gaps": "accuracy",
    }
    graded = done.predictions[done.predictions["target"] == "grade_with_gaps"]
    assert set(graded["truth_class"]) == {"0", "1", "2"}
    regressed = evaluate(*save_cohort(tmp_path, x, **columns), ["gold"], task={"gold": "regression"})
    assert set(regressed.results["metric"]) == {"r2", "r2_pooled", "mae"}


def test_few_subjects_are_evaluated_or_refused_in_a_sentence(tmp_path: Path) -> None:
    x = np.random.default_rng(31).normal(0, 1, (12, 4))
    columns = {
        "same": [1] * 12,
        "alone": ["a"] + ["b"] * 11,
        "rare": ["a"] + ["b"] * 5 + ["c"] * 6,
        "tiny": ["a"] * 2 + ["b"] * 10,
        "number": np.linspace(0, 1, 12),
        "mostly_missing": [0.1, 0.4, 0.7] + [np.nan] * 9,
        "person": ["p", "q", "r"] * 4,
    }
    embeddings, cohort = save_cohort(tmp_path, x, **columns)
    for target, words in {
        "same": "same value",
        "alone": "too few subjects",
        "mostly_missing": "known for 3 subjects and cannot be divided into 5 folds; add subjects",
        "nonsense": "no column 'nonsense'",
    }.items():
        with pytest.raises(UserError, match=words):
            evaluate(embeddings, cohort, target)
    with pytest.raises(UserError, match="did you mean 'number'"):
        evaluate(embeddings, cohort, "numbre")
    with pytest.raises(UserError, match="3 groups"):
        evaluate(embeddings, cohort, "number", group="person")
    rare = evaluate(embeddings, cohort, "rare")
    assert set(rare.results["n"]) == {11}
    assert "fewer than 2 subjects are left out: a" in " ".join(rare.notes)
    tiny = evaluate(embeddings, cohort, "tiny").results.set_index("metric")
    assert tiny.loc["accuracy", "folds"] == 5
    assert tiny.loc["auc", "folds"] == 2
    number = evaluate(embeddings, cohort, "number").results
    assert np.isfinite(metric(number, "r2_pooled"))


def test_faulty_files_are_refused(tmp_path: Path) -> None:
    x = np.random.default_rng(37).normal(0, 1, (20, 4))
    embeddings, cohort = save_cohort(tmp_path, x, y=x[:, 0])
    with pytest.raises(UserError, match="does not exist; `anatograph embed`"):
        evaluate(tmp_path / "absent", cohort, "y")
    table = pd.read_parquet(embeddings)
    table.iloc[[0, 0]].to_parquet(tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="more than one row for s0000"):
        read_embeddings(tmp_path / "twice.parquet")
    for value in (np.nan, np.inf, 1e300):
        table.assign(feature_001=value).to_parquet(tmp_path / "nan.parquet")
        with pytest.raises(UserError, match="not finite numbers"):
            read_embeddings(tmp_path / "nan.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(UserError, match="cannot be read"):
        read_embeddings(tmp_path / "text.parquet")
    table.assign(subject_id=[f"other{i}" for i in range(20)]).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="No subject of"):
        evaluate(tmp_path / "other.parquet", cohort, "y")


def test_numbers_as_subject_ids_keep_their_zeros(tmp_path: Path) -> None:
    x = np.random.default_rng(41).normal(0, 1, (20, 4))
    ids = [f"{i:03d}" for i in range(20)]
    embeddings, cohort = save_cohort(tmp_path, x, ids, y=x[:, 0])
    assert read_embeddings(tmp_path / "emb").subject_ids == ids
    assert set(evaluate(embeddings, cohort, "y").results["n"]) == {20}
