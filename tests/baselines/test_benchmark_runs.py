"""Runs of the benchmark: continued, killed, with rows, targets and folds that cannot be had."""

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
from numpy.typing import NDArray
from synthetic_study import (
    SUBJECTS,
    Centred,
    Faulty,
    MeanHU,
    Nearest,
    SyntheticStudy,
)

from anatograph.baselines.benchmark import BenchmarkResult, benchmark
from anatograph.baselines.method import Scans
from anatograph.errors import UserError
from anatograph.learning.releases.shipped import default_release


def run(synthetic: SyntheticStudy, out: Path, rows: list[Any], **more: Any) -> BenchmarkResult:
    return benchmark(synthetic.study, synthetic.cohort, ["FEV1pp", "grade"], out, rows, folds=3, **more)


def test_resumes_where_it_stopped_and_refuses_other_settings(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    class Interrupted(Centred):
        def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
            if len(self.fitted_on) == 2:
                raise KeyboardInterrupt
            return super().embed_fold(scans, train, test)

    whole = run(synthetic, tmp_path / "whole", [MeanHU(), Centred()])
    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        run(synthetic, out, [MeanHU(), Interrupted()])
    assert json.loads((out / "benchmark.run.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    assert "mean-hu" in set(pd.read_csv(out / "results.csv")["method"])  # what was done is usable already
    mean, centred = MeanHU(), Centred()
    again = run(synthetic, out, [mean, centred])
    assert mean.calls == 0
    assert len(centred.fitted_on) == 1
    pd.testing.assert_frame_equal(again.results, whole.results)
    pd.testing.assert_frame_equal(again.comparisons, whole.comparisons)

    more = run(synthetic, out, [Nearest()])  # a row more, the others stay
    assert {"mean-hu", "centred", "nearest"} <= set(more.results["method"])
    with pytest.raises(UserError, match="other settings \\(seed 0, not 1\\)"):
        run(synthetic, out, [MeanHU()], seed=1)
    changed = pd.read_csv(synthetic.cohort)
    changed.loc[0, "grade"] = 3 - changed.loc[0, "grade"]
    changed.to_csv(tmp_path / "changed.csv", index=False)
    with pytest.raises(UserError, match="other subjects or labels"):
        run(SyntheticStudy(tmp_path / "changed.csv", synthetic.study), out, [MeanHU()])
    with pytest.raises(UserError, match=r"made with covariates .*'age', 'sex', 'site'.*, not covariates"):
        run(synthetic, out, [MeanHU(), Faulty()], covariates=["age"])
    assert not (out / "methods" / "faulty").exists()  # refused before anything was done
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="does not hold a benchmark"):
        run(synthetic, tmp_path / "mine", [MeanHU()])


def test_a_failed_row_is_tried_again(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    class Fixed(Faulty):
        def embed(self, scans: Scans) -> NDArray[np.float64]:
            return MeanHU().embed(scans)

    first = run(synthetic, tmp_path / "b", [MeanHU(), Faulty()])
    assert "faulty: failed" in first.table
    second = run(synthetic, tmp_path / "b", [MeanHU(), Fixed()])
    assert second.account.exit_status == 0
    assert "Unavailable" not in second.table


DRIVER = """
import sys, time
from pathlib import Path
from synthetic_study import Centred, MeanHU
from anatograph.baselines.benchmark import benchmark

class Slow(Centred):
    def embed_fold(self, scans, train, test):
        time.sleep(0.3)
        return super().embed_fold(scans, train, test)

benchmark(sys.argv[1], sys.argv[2], ["FEV1pp", "grade"], sys.argv[3], [MeanHU(), Slow()], folds=3)
"""


def test_a_killed_process_loses_no_finished_fold(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    places = [str(synthetic.study), str(synthetic.cohort), str(out)]
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
    again = run(synthetic, out, [MeanHU(), centred])
    assert first.stat().st_mtime_ns == stamp
    assert len(centred.fitted_on) <= 2
    pd.testing.assert_frame_equal(again.results, run(synthetic, tmp_path / "whole", [MeanHU(), Centred()]).results)


def test_targets_that_cannot_be_evaluated_are_reported(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    table = pd.read_csv(synthetic.cohort)
    table["few"] = [1.0, 2.0, 3.0] + [None] * (SUBJECTS - 3)
    table.to_csv(tmp_path / "few.csv", index=False)
    short = SyntheticStudy(tmp_path / "few.csv", synthetic.study)

    def ask(targets: list[str], **more: Any) -> BenchmarkResult:
        return benchmark(short.study, short.cohort, targets, tmp_path / "b", [MeanHU()], **more)

    for targets, more, words in (
        (["nonsense"], {}, "no column 'nonsense'"),
        (["few"], {}, "cannot be divided into 5 folds"),
        (["sick"], {"log": ["sick"]}, "no logarithm"),
        (["sick"], {"covariates": ["weight"]}, "no column 'weight'"),
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
    assert "'few' is known for 3 subjects" in found.table
    assert set(found.results["target"]) == {"sick"}


def test_region_truth_needs_masks(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    pd.read_csv(synthetic.cohort).drop(columns="holes_mask").to_csv(tmp_path / "plain.csv", index=False)
    with pytest.raises(UserError, match="no masks of disease"):
        run(SyntheticStudy(tmp_path / "plain.csv", synthetic.study), tmp_path / "b", [MeanHU()], region_truth=True)


def test_ordinal_grades_use_the_same_folds(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    by_task = {}
    for task in ("classification", "ordinal"):
        found = run(synthetic, tmp_path / task, [MeanHU(), Nearest()], task={"grade": task})
        predictions = pd.read_parquet(tmp_path / task / "predictions.parquet")
        by_task[task] = predictions[predictions["target"] == "grade"].set_index(["method", "subject_id"])
        assert ("by proportional odds" in found.table) == (task == "ordinal")
    classes, steps = by_task["classification"], by_task["ordinal"]
    pd.testing.assert_series_equal(classes["fold"], steps["fold"])
    chances = [name for name in steps if name.startswith("probability_")]
    trained = steps.loc["nearest", chances]  # a row that is trained as a whole knows classes only
    np.testing.assert_array_equal(trained, classes.loc["nearest", chances])
    assert not np.allclose(steps.loc["mean-hu", chances], classes.loc["mean-hu", chances])
    with pytest.raises(UserError, match="made with other settings"):
        run(synthetic, tmp_path / "ordinal", [MeanHU()], task={"grade": "classification"})


def test_models_and_weights_are_checked_first(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    from anatograph.baselines.options import MethodOptions

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"atlas": {"hash": "other"}}))
    for options, words in (
        (MethodOptions(models={"anatograph": tmp_path / "none"}), "is not a model folder"),
        (MethodOptions(models={"anatograph": tmp_path / "model"}), "a different atlas"),
        (MethodOptions(weights={"medicalnet": tmp_path / "none.pth"}), "no file"),
    ):
        with pytest.raises(UserError, match=words):
            run(synthetic, tmp_path / "b", ["laa950"], options=options)
    assert not (tmp_path / "b").exists()


def test_a_release_is_given_by_its_name(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    """As in every other command; here its atlas, that of the package, is not the study's."""
    from anatograph.baselines.options import MethodOptions

    release = default_release()
    assert release is not None
    options = MethodOptions(models={"anatograph": Path(release.name)})
    assert options.model_of("without-graph") == release.folder
    with pytest.raises(UserError, match=r"different atlas.*preprocess without `--atlas`, on the atlas of the package"):
        run(synthetic, tmp_path / "b", ["anatograph"], options=options)
    with pytest.raises(UserError, match="no release of that name: it carries"):
        MethodOptions(models={"anatograph": Path("anatograph-ct-0")})


def test_covariates_are_encoded_from_the_training_subjects() -> None:
    from anatograph.baselines.floors.covariates import design_columns

    train = np.array([0, 1, 2])
    numbers = design_columns(pd.Series([1.0, 3.0, None, 100.0, None]), train)
    np.testing.assert_array_equal(numbers, [[1, 0], [3, 0], [2, 1], [100, 0], [2, 1]])
    text = design_columns(pd.Series(["a", "b", "a", "c", None]), train)
    np.testing.assert_array_equal(text, [[1, 0], [0, 1], [1, 0], [0, 0], [0, 0]])


def test_left_out_sites_and_groups_are_reported_for_every_row(synthetic: SyntheticStudy, tmp_path: Path) -> None:
    rows = [MeanHU(), Centred(), Nearest()]
    found = run(synthetic, tmp_path / "b", rows, leave_out="site", group="person", region_truth=True)
    results = found.results.set_index(["method", "target", "metric"])
    for slug in ("majority", "covariates", "mean-hu", "centred", "nearest"):
        assert results.loc[(slug, "FEV1pp", "leave_out_r2"), "folds"] == 2
        assert np.isfinite(results.loc[(slug, "FEV1pp", "leave_out_r2_pooled"), "mean"])
        assert np.isfinite(results.loc[(slug, "grade", "leave_out_accuracy"), "mean"])
    assert results.loc[("mean-hu", "FEV1pp", "r_within_group"), "mean"] > 0.3
    assert not found.comparisons["metric"].str.startswith("leave_out").any()
    column = pd.read_csv(tmp_path / "b" / "column_accuracy.csv").set_index(["method", "probe"])["accuracy"]
    assert {probe for method, probe in column.index if method == "mean-hu"} == {"linear", "nonlinear"}
    assert column["covariates", "linear"] > 0.95  # the site is one of the covariates
    assert not any(method == "nearest" for method, _ in column.index)  # no vector to probe
    regions = pd.read_csv(tmp_path / "b" / "regions.csv").set_index(["method", "metric"])["mean"]
    assert regions["mean-hu", "auc_pooled"] > 0.8
    for words in ("## site left out: R²", "## How well the rows reveal site", "Correlation within groups", "## Effort"):
        assert words in found.table
    again = run(synthetic, tmp_path / "b", [MeanHU()], leave_out="site", group="person", region_truth=True)
    pd.testing.assert_frame_equal(again.results, found.results)
    with pytest.raises(UserError, match="leave_out"):
        run(synthetic, tmp_path / "b", [MeanHU()], group="person")
    with pytest.raises(UserError, match="no column 'scanner'"):
        run(synthetic, tmp_path / "c", [MeanHU()], leave_out="scanner")
