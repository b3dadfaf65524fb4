"""The benchmark: one division for all rows, nothing leaks, nothing done twice, a failing row loses no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from judged_study import PEOPLE, Centred, Faulty, Judged, MeanHU, Nearest, NotToBeHad, make_judged
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, r2_score

from anatograph.baselines.benchmark import Benchmarked, benchmark
from anatograph.baselines.method import Scans
from anatograph.errors import UserError
from anatograph.evaluation.evaluate import evaluate

TARGETS = ["FEV1pp", "grade", "sick", "some"]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return make_judged(tmp_path_factory.mktemp("judged"))


@pytest.fixture(scope="module")
def done(judged: Judged, tmp_path_factory: pytest.TempPathFactory) -> tuple[Benchmarked, Path]:
    out = tmp_path_factory.mktemp("out") / "bench"
    rows = [MeanHU(), Centred(), Nearest(), NotToBeHad(), Faulty()]
    found = benchmark(judged.study, judged.cohort, [*TARGETS, "rare"], out, rows, folds=4, bootstrap=100,
                      log=["FEV1pp"], region_truth=True)  # fmt: skip
    return found, out


def test_all_rows_are_judged_on_the_same_folds(done: tuple[Benchmarked, Path]) -> None:
    predictions = pd.read_parquet(done[1] / "predictions.parquet")
    assert set(predictions["method"]) == {"majority", "covariates", "mean-hu", "centred", "nearest"}
    by_person = predictions.groupby("subject_id")["fold"].nunique()
    assert (by_person == 1).all()  # of every method and every target
    assert (predictions.groupby(["method", "target", "subject_id"]).size() == 1).all()
    grades = predictions[(predictions["method"] == "nearest") & (predictions["target"] == "grade")]
    counts = grades.groupby(["fold", "truth_class"]).size().unstack()
    assert (counts.max() - counts.min() <= 1).all()  # the classes in proportion, though the folds serve all targets


def test_figures_are_those_of_the_predictions_by_scikit_learn(done: tuple[Benchmarked, Path]) -> None:
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
    told = results.set_index(["method", "target", "metric"])["mean"]
    assert told["majority", "FEV1pp", "r2"] <= 0
    assert told["majority", "sick", "auc"] == 0.5
    assert told["nearest", "FEV1pp", "r2"] > 0.6 > told["covariates", "FEV1pp", "r2"]
    assert told["mean-hu", "sick", "accuracy"] > 0.8 > told["covariates", "sick", "accuracy"]


def test_missing_labels_and_rare_classes_are_said(done: tuple[Benchmarked, Path]) -> None:
    found, out = done
    some = found.results[found.results["target"] == "some"]
    assert set(some["n"]) == {30}
    account = json.loads((out / "benchmark.run.json").read_text(encoding="utf-8"))
    told = " ".join(account["notes"])
    assert "10 of 40 people have no value of some" in told
    assert "rare: fewer members than folds, so not every fold tests odd (3)" in told
    assert "10 of 40 people have no value of some" in found.table
    auc = found.results[(found.results["target"] == "rare") & (found.results["metric"] == "auc")]
    assert (auc["folds"] <= 3).all()


def test_a_row_that_fails_loses_no_other(done: tuple[Benchmarked, Path]) -> None:
    found, out = done
    assert found.account.exit_status == 1
    assert [f.subject_id for f in found.account.failures] == ["no-weights", "faulty"]
    assert "## Not there" in found.table
    assert "give --weights no-weights=FILE" in found.table
    assert "ZeroDivisionError: division by zero" in found.table
    kept = json.loads((out / "methods" / "faulty" / "failed.json").read_text(encoding="utf-8"))
    assert "raise ZeroDivisionError" in kept["trace"]
    assert "nearest" in set(found.results["method"])


def test_the_table_has_the_shape_of_the_papers(done: tuple[Benchmarked, Path]) -> None:
    lines = (done[1] / "table.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| Method | Supervised | log FEV1pp | grade | sick | some | rare |")
    assert lines[start + 2] == "|  |  | R² | % accuracy | % accuracy | % accuracy | % accuracy |"
    rows = {line.split("|")[1].strip(): line.split("|") for line in lines[start + 3 : start + 8]}
    assert list(rows)[:2] == ["Majority class, mean", "Covariates alone (age, sex, site)"]
    assert rows["Nearest"][2].strip() == "✓"
    assert rows["Mean HU"][2].strip() == "✗"
    assert "±" in rows["Mean HU"][3]
    assert "paper" not in "\n".join(lines).replace("laid out as the paper", "")
    told = "\n".join(lines)
    for heading in ("% balanced accuracy", "AUC", "Quadratic kappa", "Region by region", "Time", "People"):
        assert f"## {heading}" in told


def test_regions_tell_where_it_is(done: tuple[Benchmarked, Path]) -> None:
    regions = pd.read_csv(done[1] / "regions.csv").set_index(["method", "metric"])
    assert set(regions.index.get_level_values(0)) == {"patch-density", "mean-hu"}
    assert regions.loc[("mean-hu", "r2_pooled"), "mean"] > 0.5
    assert regions.loc[("mean-hu", "r2"), "folds"] == 4
    assert (regions["people"] == PEOPLE).all()
    assert set(regions["target"]) == {"holes"}


def test_labels_of_the_people_to_be_predicted_have_no_part(judged: Judged) -> None:
    """Shuffled labels of a fold's test people leave what is said of them as it was, for every kind of row."""
    from dataclasses import replace

    from anatograph.baselines.methods.floors import Covariates, Majority
    from anatograph.baselines.plan import make_plan
    from anatograph.baselines.rows import _predict
    from anatograph.study.cohort import read_cohort
    from anatograph.study.store import Study

    study = Study.open(judged.study)
    plan = make_plan(study, read_cohort(judged.cohort), dict.fromkeys(TARGETS), ["FEV1pp"], 4, 1, None, 0)
    scans = Scans(study, plan.table, judged.study)
    split = plan.rounds[0][1]
    random = np.random.default_rng(0)
    shuffled = []
    for target in plan.targets:
        values = target.values.copy()
        test = plan.split_of(target, split)[1]
        values[test] = random.permutation(values[test])
        assert (values != target.values).any()
        shuffled.append(replace(target, values=values))
    other = replace(plan, targets=tuple(shuffled))
    features = MeanHU().embed(scans)
    for row in (Majority(), Covariates(["age", "sex", "site"]), MeanHU(), Centred(), Nearest()):
        one, two = (_predict(row, p, scans, split, features, 0) for p in (plan, other))
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
    centred = Centred()
    _predict(centred, plan, scans, split, None, 0)
    assert centred.fitted_on == [tuple(split[0])]


def test_supervised_rows_see_whole_folds_and_only_people_with_a_value(judged: Judged, tmp_path: Path) -> None:
    row = Nearest()
    benchmark(judged.study, judged.cohort, ["some", "sick"], tmp_path / "b", [row], folds=3, repeats=2, group="person")
    assert len(row.asked) == 2 * 2 * 3
    table = pd.read_csv(judged.cohort)
    person = table["person"].to_numpy()
    for name, train, test in row.asked:
        assert not set(train) & set(test)
        assert not set(person[list(train)]) & set(person[list(test)])
        assert table[name].notna().to_numpy()[list(train) + list(test)].all()
    # One division for both targets: people who lack "some" are missing from its folds, nobody else moves.
    sick = [test for name, _, test in row.asked if name == "sick"]
    some = [test for name, _, test in row.asked if name == "some"]
    for whole, part in zip(sick, some, strict=True):
        assert set(part) <= set(whole)
    results = pd.read_csv(tmp_path / "b" / "results.csv")
    assert set(results.loc[results["metric"] == "accuracy", "folds"]) == {6}


def run(judged: Judged, out: Path, rows: list[Any], **more: Any) -> Benchmarked:
    return benchmark(judged.study, judged.cohort, ["FEV1pp", "grade"], out, rows, folds=3, **more)


def test_goes_on_where_it_stopped_and_refuses_other_settings(judged: Judged, tmp_path: Path) -> None:
    class Interrupted(Centred):
        def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
            if len(self.fitted_on) == 2:
                raise KeyboardInterrupt
            return super().embed_fold(scans, train, test)

    whole = run(judged, tmp_path / "whole", [MeanHU(), Centred()])
    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        run(judged, out, [MeanHU(), Interrupted()])
    assert json.loads((out / "benchmark.run.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    assert "mean-hu" in set(pd.read_csv(out / "results.csv")["method"])  # what was done is usable already
    mean, centred = MeanHU(), Centred()
    again = run(judged, out, [mean, centred])
    assert mean.asked == 0
    assert len(centred.fitted_on) == 1
    pd.testing.assert_frame_equal(again.results, whole.results)
    pd.testing.assert_frame_equal(again.comparisons, whole.comparisons)

    more = run(judged, out, [Nearest()])  # a row more, the others stay
    assert {"mean-hu", "centred", "nearest"} <= set(more.results["method"])
    with pytest.raises(UserError, match="other settings \\(seed 0, not 1\\)"):
        run(judged, out, [MeanHU()], seed=1)
    changed = pd.read_csv(judged.cohort)
    changed.loc[0, "grade"] = 3 - changed.loc[0, "grade"]
    changed.to_csv(tmp_path / "changed.csv", index=False)
    with pytest.raises(UserError, match="other people or labels"):
        run(Judged(tmp_path / "changed.csv", judged.study), out, [MeanHU()])
    with pytest.raises(UserError, match=r"made with covariates .*'age', 'sex', 'site'.*, not covariates"):
        run(judged, out, [MeanHU(), Faulty()], covariates=["age"])
    assert not (out / "methods" / "faulty").exists()  # refused before anything was done
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no benchmark"):
        run(judged, tmp_path / "mine", [MeanHU()])


def test_a_failed_row_is_tried_again(judged: Judged, tmp_path: Path) -> None:
    class Mended(Faulty):
        def embed(self, scans: Scans) -> NDArray[np.float64]:
            return MeanHU().embed(scans)

    first = run(judged, tmp_path / "b", [MeanHU(), Faulty()])
    assert "faulty: failed" in first.table
    second = run(judged, tmp_path / "b", [MeanHU(), Mended()])
    assert second.account.exit_status == 0
    assert "Not there" not in second.table


DRIVER = """
import sys, time
from pathlib import Path
from judged_study import Centred, MeanHU
from anatograph.baselines.benchmark import benchmark

class Slow(Centred):
    def embed_fold(self, scans, train, test):
        time.sleep(0.3)
        return super().embed_fold(scans, train, test)

benchmark(sys.argv[1], sys.argv[2], ["FEV1pp", "grade"], sys.argv[3], [MeanHU(), Slow()], folds=3)
"""


def test_a_killed_process_loses_no_finished_fold(judged: Judged, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    places = [str(judged.study), str(judged.cohort), str(out)]
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", DRIVER, *places], env=environment)
    first = out / "methods" / "centred" / "fold-0-0.npz"
    deadline = time.monotonic() + 120
    while not first.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert first.is_file()
    stamp = first.stat().st_mtime_ns
    centred = Centred()
    again = run(judged, out, [MeanHU(), centred])
    assert first.stat().st_mtime_ns == stamp
    assert len(centred.fitted_on) <= 2
    pd.testing.assert_frame_equal(again.results, run(judged, tmp_path / "whole", [MeanHU(), Centred()]).results)


def test_what_cannot_be_judged_is_said(judged: Judged, tmp_path: Path) -> None:
    table = pd.read_csv(judged.cohort)
    table["few"] = [1.0, 2.0, 3.0] + [None] * (PEOPLE - 3)
    table.to_csv(tmp_path / "few.csv", index=False)
    short = Judged(tmp_path / "few.csv", judged.study)

    def ask(targets: list[str], **more: Any) -> Benchmarked:
        return benchmark(short.study, short.cohort, targets, tmp_path / "b", [MeanHU()], **more)

    for targets, more, words in (
        (["nonsense"], {}, "no column 'nonsense'"),
        (["few"], {}, "cannot be divided into 5 folds"),
        (["sick"], {"log": ["sick"]}, "no logarithm"),
        (["sick"], {"covariates": ["weight"]}, "no column weight"),
        (["sick"], {"group": "family"}, "no column 'family'"),
        (["sick"], {"preset": "huge"}, "no preset 'huge'"),
        (["sick"], {"repeats": 0}, "at least once"),
        (["sick"], {"bootstrap": 5}, "at least 100"),
    ):
        with pytest.raises(UserError, match=words):
            ask(targets, **more)  # type: ignore[arg-type]
    assert not (tmp_path / "b").exists()
    found = ask(["sick", "few"])
    assert found.account.exit_status == 1
    assert "'few' is known for 3 people" in found.table
    assert set(found.results["target"]) == {"sick"}


def test_without_masks_there_is_no_truth_of_regions(judged: Judged, tmp_path: Path) -> None:
    pd.read_csv(judged.cohort).drop(columns="holes_mask").to_csv(tmp_path / "plain.csv", index=False)
    with pytest.raises(UserError, match="no masks of disease"):
        run(Judged(tmp_path / "plain.csv", judged.study), tmp_path / "b", [MeanHU()], region_truth=True)


def test_people_and_probes_are_those_of_evaluate(
    judged: Judged, done: tuple[Benchmarked, Path], tmp_path: Path
) -> None:
    """The kept embedding is a table that `evaluate` reads; other folds, the same answer."""
    embedding = done[1] / "methods" / "mean-hu" / "embeddings.parquet"
    apart = evaluate(embedding, judged.cohort, "FEV1pp", folds=4, log=["FEV1pp"]).results.set_index("metric")
    mine = done[0].results
    mine = mine[(mine["method"] == "mean-hu") & (mine["target"] == "FEV1pp")].set_index("metric")
    assert mine.loc["r2_pooled", "mean"] == pytest.approx(apart.loc["r2_pooled", "mean"], abs=0.1)


def test_grades_with_an_order_are_told_as_steps_on_the_same_folds(judged: Judged, tmp_path: Path) -> None:
    told = {}
    for task in ("classification", "ordinal"):
        found = run(judged, tmp_path / task, [MeanHU(), Nearest()], task={"grade": task})
        predictions = pd.read_parquet(tmp_path / task / "predictions.parquet")
        told[task] = predictions[predictions["target"] == "grade"].set_index(["method", "subject_id"])
        assert ("by proportional odds" in found.table) == (task == "ordinal")
    classes, steps = told["classification"], told["ordinal"]
    pd.testing.assert_series_equal(classes["fold"], steps["fold"])
    chances = [name for name in steps if name.startswith("probability_")]
    trained = steps.loc["nearest", chances]  # a row that is trained as a whole knows classes only
    np.testing.assert_array_equal(trained, classes.loc["nearest", chances])
    assert not np.allclose(steps.loc["mean-hu", chances], classes.loc["mean-hu", chances])
    with pytest.raises(UserError, match="made with other settings"):
        run(judged, tmp_path / "ordinal", [MeanHU()], task={"grade": "classification"})


def test_models_and_weights_are_looked_at_before_anything_is_done(judged: Judged, tmp_path: Path) -> None:
    from anatograph.baselines.registry import MethodOptions

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"atlas": {"hash": "other"}}))
    for options, words in (
        (MethodOptions(models={"anatograph": tmp_path / "none"}), "is no model folder"),
        (MethodOptions(models={"anatograph": tmp_path / "model"}), "another atlas"),
        (MethodOptions(weights={"medicalnet": tmp_path / "none.pth"}), "no file"),
    ):
        with pytest.raises(UserError, match=words):
            run(judged, tmp_path / "b", ["laa950"], options=options)
    assert not (tmp_path / "b").exists()


def test_covariates_come_from_the_people_fitted_on() -> None:
    from anatograph.baselines.methods.floors import _columns

    train = np.array([0, 1, 2])
    numbers = _columns(pd.Series([1.0, 3.0, None, 100.0, None]), train)
    np.testing.assert_array_equal(numbers, [[1, 0], [3, 0], [2, 1], [100, 0], [2, 1]])
    text = _columns(pd.Series(["a", "b", "a", "c", None]), train)
    np.testing.assert_array_equal(text, [[1, 0], [0, 1], [1, 0], [0, 0], [0, 0]])
