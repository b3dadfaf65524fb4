"""Saved probes: the same predictions, honest intervals, a known rate of false alarms, and the right model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import anatograph
from anatograph import cli
from anatograph.embedding.table import write_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.headline import headline
from anatograph.evaluation.probes.cox import fit_cox_probe
from anatograph.evaluation.saved.probe import LEAST_CALIBRATED, fit_range, load_probes
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target

WIDTH = 12


def draw(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Features and a value that they predict up to noise of 0.5."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, WIDTH)).astype(np.float32)
    return features, 10 + features[:, 0] + features[:, 1] + random.normal(0, 0.5, count)


def write(folder: Path, name: str, features: NDArray[np.float32], model: str = "m1") -> Path:
    ids = [f"{name}{k:03d}" for k in range(len(features))]
    return write_embeddings(folder / name, ids, features, {"model": model, "atlas_hash": "a"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probes of a number, its logarithm's column and a class, fitted on 200 subjects."""
    folder = tmp_path_factory.mktemp("saved")
    features, values = draw(200, 0)
    write(folder, "old", features)
    table = pd.DataFrame({"subject_id": [f"old{k:03d}" for k in range(200)], "image": "none.nii.gz", "value": values})
    table["sick"] = np.where(values > 10, "yes", "no")
    table["noise"] = np.random.default_rng(5).normal(size=200)
    table.to_csv(folder / "cohort.csv", index=False)
    anatograph.evaluate(folder / "old", folder / "cohort.csv", ["value", "sick", "noise"], log=["value"],
                        save_probe=folder / "probe", out=folder / "evaluation")  # fmt: skip
    return folder


def test_intervals_hold_what_they_promise(saved: Path, tmp_path: Path) -> None:
    features, values = draw(400, 1)
    write(tmp_path, "new", features)
    found = anatograph.predict(saved / "probe", tmp_path / "new", tmp_path / "out.csv").table
    value = found[found["target"] == "value"]
    inside = (value["low"].to_numpy() <= values) & (values <= value["high"].to_numpy())
    assert 0.91 < inside.mean() < 0.99
    assert (value["high"] - value["low"]).median() < 4
    assert np.corrcoef(value["prediction"], values)[0, 1] > 0.9
    sick = found[found["target"] == "sick"]
    truth = np.where(values > 10, "yes", "no")
    assert (sick["predicted_class"].to_numpy() == truth).mean() > 0.8
    held = [name in classes.split("|") for name, classes in zip(truth, sick["plausible_classes"], strict=True)]
    assert 0.91 < np.mean(held) <= 1
    assert len(pd.read_csv(tmp_path / "out.csv")) == 1200


def test_scans_outside_the_range_are_said_with_a_known_rate_of_false_alarms(saved: Path, tmp_path: Path) -> None:
    features, _ = draw(400, 2)
    write(tmp_path, "new", features)
    heard: list[str] = []
    found = anatograph.predict(saved / "probe", tmp_path / "new", tmp_path / "in.csv", say=heard.append).table
    rate = found.loc[found["target"] == "value", "outside_range"].mean()
    assert rate < 0.1
    assert any("noise: this probe does not predict better than chance" in text for text in heard)
    write(tmp_path, "far", features[:5] + 6)
    far = anatograph.predict(saved / "probe", tmp_path / "far", tmp_path / "far.csv", say=heard.append)
    assert far.table["outside_range"].all()
    assert "5 of 5 scans lie outside the range" in heard[-1]
    assert far.account.results["outside_range"] == [f"far{k:03d}" for k in range(5)]


def draw_events(count: int, seed: int) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Features, and events whose log-hazard follows the first two."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, WIDTH)).astype(np.float32)
    until = random.exponential(6 / np.exp(0.8 * (features[:, 0] - features[:, 1])))
    stop = random.uniform(2, 8, count)
    return features, pd.DataFrame({"death": (until <= stop).astype(int), "years": np.minimum(until, stop),
                                   "until": until})  # fmt: skip


def test_risks_of_new_subjects_are_those_observed(tmp_path: Path) -> None:
    features, table = draw_events(300, 0)
    write(tmp_path, "old", features)
    table.insert(0, "subject_id", [f"old{k:03d}" for k in range(300)])
    table.assign(image="none.nii.gz").to_csv(tmp_path / "cohort.csv", index=False)
    anatograph.evaluate(tmp_path / "old", tmp_path / "cohort.csv", "death:years", save_probe=tmp_path / "probe")
    (saved,), _ = load_probes(tmp_path / "probe")
    assert saved.survival is not None
    fitted = fit_cox_probe(features.astype(np.float64), table["years"].to_numpy(), table["death"].to_numpy(float))
    np.testing.assert_allclose(saved.probe.weights[0], fitted.weights)

    new, truth = draw_events(2000, 1)
    write(tmp_path, "new", new)
    found = anatograph.predict(tmp_path / "probe", tmp_path / "new", tmp_path / "out.csv").table
    np.testing.assert_allclose(found["risk"], fitted.risk(new.astype(np.float64), saved.survival.horizon))
    had_it = truth["until"] <= saved.survival.horizon
    for name, third in found.groupby("third"):
        assert 0.25 < len(third) / len(found) < 0.42, name
        share = had_it[third.index].mean()
        assert third["risk"].mean() == pytest.approx(share, abs=0.08)
        assert third["observed_low"].iloc[0] - 0.03 < share < third["observed_high"].iloc[0] + 0.03
    low, high = (found.loc[found["third"] == name, "risk"].max() for name in ("low", "middle"))
    assert low < high
    assert not {"low", "high", "prediction"} & set(found.columns)
    with pytest.raises(UserError, match="a site that it has not seen"):
        anatograph.evaluate(tmp_path / "old", tmp_path / "cohort.csv", "death:years", harmonise="death",
                            save_probe=tmp_path / "again")  # fmt: skip
    about = json.loads((tmp_path / "probe" / "probes.json").read_text())
    arrays = {name: values for name, values in np.load(tmp_path / "probe" / "probes.npz").items()
              if "survival" not in name}  # fmt: skip
    np.savez(tmp_path / "probe" / "probes.npz", **arrays)
    assert about["probes"][0]["subjects"] == 300
    with pytest.raises(UserError, match="without its survival curve"):
        load_probes(tmp_path / "probe")


def test_too_few_subjects_for_an_interval_are_said(tmp_path: Path) -> None:
    features, values = draw(14, 6)
    write(tmp_path, "few", features)
    ids = [f"few{k:03d}" for k in range(14)]
    pd.DataFrame({"subject_id": ids, "image": "x.nii", "value": values}).to_csv(tmp_path / "c.csv", index=False)
    anatograph.evaluate(tmp_path / "few", tmp_path / "c.csv", "value", save_probe=tmp_path / "probe")
    done = anatograph.predict(tmp_path / "probe", tmp_path / "few", tmp_path / "out.csv")
    (note,) = (note for note in done.account.notes if "calibrated on 14 subjects" in note)
    assert note.endswith("too few for an interval of 95% (it takes 19), so low, high and coverage are empty")
    written = pd.read_csv(tmp_path / "out.csv")
    assert written[["low", "high", "coverage"]].isna().all(axis=None)
    assert written["prediction"].notna().all()
    assert not written["outside_range"].any()
    assert any("too few to call a scan outside their range" in note for note in done.account.notes)
    misses = [np.linspace(0, 1, n) for n in (LEAST_CALIBRATED - 1, LEAST_CALIBRATED)]
    few, enough = (replace(load_probes(tmp_path / "probe")[0][0], misses=one).margin for one in misses)
    assert (few, enough) == (np.inf, 1.0)


def test_too_few_subjects_for_plausible_classes_leave_them_empty(tmp_path: Path) -> None:
    features, values = draw(16, 6)
    write(tmp_path, "few", features)
    table = {"subject_id": [f"few{k:03d}" for k in range(16)], "image": "x.nii"}
    pd.DataFrame({**table, "sick": np.where(values > np.median(values), "yes", "no")}).to_csv(tmp_path / "c.csv")
    anatograph.evaluate(tmp_path / "few", tmp_path / "c.csv", "sick", 4, save_probe=tmp_path / "probe")
    done = anatograph.predict(tmp_path / "probe", tmp_path / "few", tmp_path / "out.parquet")
    assert done.table["plausible_classes"].isna().all()
    assert any(note.endswith("so plausible_classes is empty") for note in done.account.notes)


def test_the_range_is_calibrated() -> None:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(30, 30)) * np.geomspace(100, 0.01, 30)
    known = fit_range(random.normal(size=(80, 30)) @ mixing, None, 0)
    p = known.p(random.normal(size=(2000, 30)) @ mixing)
    assert 0.02 < (p <= 0.05).mean() < 0.09


def test_embeddings_of_another_model_or_pooling_are_refused(saved: Path, tmp_path: Path) -> None:
    features, _ = draw(5, 3)
    write(tmp_path, "other", features, "m2")
    with pytest.raises(UserError, match="a different model"):
        anatograph.predict(saved / "probe", tmp_path / "other", tmp_path / "out")
    write(tmp_path, "narrow", features[:, :4])
    with pytest.raises(UserError, match="4 features"):
        anatograph.predict(saved / "probe", tmp_path / "narrow", tmp_path / "out")
    about = {"pooling": {"rule": "zones", "harmonics": 4, "parts": ["a", "b"]}}
    write_embeddings(tmp_path / "zones", ["a"], features[:1], about)
    with pytest.raises(UserError, match="anatograph pool --pooling mean"):
        anatograph.predict(saved / "probe", tmp_path / "zones", tmp_path / "out")
    with pytest.raises(UserError, match="for a CT give --model"):
        anatograph.predict(saved / "probe", tmp_path / "scan.nii.gz", tmp_path / "out")
    with pytest.raises(UserError, match="holds no probes"):
        anatograph.predict(tmp_path, tmp_path / "zones", tmp_path / "out")


def test_from_the_command_line(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features, _ = draw(3, 4)
    table = write(tmp_path, "new", features)
    assert cli.main(["predict", str(saved / "probe"), str(table), str(tmp_path / "out.parquet")]) == 0
    assert "new000" in capsys.readouterr().out
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 9
    assert [one.target for one in load_probes(saved / "probe")[0]] == ["value", "sick", "noise"]


def test_one_headline_a_target_says_whether_it_is_better_than_chance(saved: Path) -> None:
    table = pd.read_csv(saved / "evaluation" / "headlines.csv").set_index("target")
    assert table["metric"].tolist() == ["r2", "auc", "r2"]
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    assert table["better_than_chance"].tolist() == [True, True, False]
    target = Target("x", "regression", np.arange(4), np.zeros(4))
    flat = Predictions(np.zeros(4, dtype=np.int64), np.ones(4), None, np.zeros(4))
    undefined = headline(target, flat)
    assert not undefined.better_than_chance
    assert "undefined" in str(undefined)
