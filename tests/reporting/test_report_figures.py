"""Figures, flow, methods and cases: what they show is what lies on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatograph.errors import UserError
from anatograph.evaluation.survival import curves as estimates
from anatograph.reporting.figures.answers import adjusted
from anatograph.reporting.figures.evaluation import overview
from anatograph.reporting.figures.predictions import calibration
from anatograph.reporting.figures.training import curves
from anatograph.reporting.maps import MapFile
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.sections.answers import answers
from anatograph.reporting.sections.cases import cases
from anatograph.reporting.sections.flow import flow, steps_of
from anatograph.reporting.sections.methods import methods
from anatograph.study.quality.selection import select
from anatograph.study.store import Study


def test_phases_of_the_two_levels_are_not_joined() -> None:
    levels = ["patch"] * 5 + ["graph"] * 5 + ["patch"] * 5
    metrics = pd.DataFrame({"step": range(15), "level": levels, "loss": np.arange(15.0)})
    patch, graph = curves(metrics)[0].traces
    assert patch["x"] == [0, 1, 2, 3, 4, None, 10, 11, 12, 13, 14]
    assert patch["y"][5] is None
    assert not patch["connectgaps"]
    assert None not in graph["x"]
    sparse = metrics.assign(effective_rank=np.where(metrics["step"] % 4 == 0, 3.0, np.nan))
    patch, graph = curves(sparse)[1].traces
    assert patch["x"] == [0, 4, None, 12]  # seldom recorded, yet in two phases
    many = pd.DataFrame({"step": range(300), "level": (["patch"] * 99 + ["graph"]) * 3, "loss": 1.0})
    many.loc[many["step"].between(101, 200), "loss"] = np.nan
    patch, _ = curves(many)[0].traces
    assert patch["mode"] == "lines+markers"  # a line would not show the single point at 100
    assert curves(many[many["step"] != 100])[0].traces[0]["mode"] == "lines"
    metrics["level"] = ["patch", "graph", "patch"] * 5  # row by row there are no phases to speak of
    assert all(None not in trace["x"] for trace in curves(metrics)[0].traces)


def test_scores_stand_with_their_intervals_beside_rivals_and_chance() -> None:
    row = {"target": "x<b>", "metric": "auc", "value": 0.8, "low": 0.7, "high": 0.95, "n": 40, "chance": 0.5}
    rivals = pd.DataFrame(
        [("densitometry", "x<b>", "auc", 0.75, 0.05), ("densitometry", "y", "auc", 0.1, 0.1)],
        columns=["method", "target", "metric", "mean", "std"],
    )
    shuffled = pd.DataFrame([{"target": "x<b>", "metric": "auc", "chance_mean": -3.0, "chance_std": 900.0}])
    (figure,) = overview(pd.DataFrame([row]), shuffled, rivals)
    ours, by_chance, rival = figure.traces
    assert (ours["x"], ours["error_x"]["array"], ours["error_x"]["arrayminus"]) == ([0.8], [0.15], [0.1])
    assert (rival["name"], rival["x"], rival["error_x"]["array"]) == ("densitometry", [0.75], [0.05])
    assert by_chance["name"] == "shuffled targets"
    low, high = figure.layout["xaxis"]["range"]
    assert -0.7 < low < 0.5
    assert 0.95 < high < 1.2
    assert figure.layout["shapes"][0]["x0"] == 0.5
    assert figure.layout["yaxis"]["ticktext"] == ["x&lt;b&gt;"]
    assert "n = 40" in figure.caption
    assert "standard deviation over the folds" in figure.caption


def test_a_value_beyond_the_axis_is_written_at_its_end() -> None:
    row = {"target": "x", "metric": "r2", "value": -7.25, "low": -9.0, "high": -2.0, "n": 9, "chance": 0.0}
    (figure,) = overview(pd.DataFrame([row, row | {"target": "y", "value": 0.5, "high": 0.7}]))
    (note,) = figure.layout["annotations"]
    assert (note["text"], note["xref"], note["x"], note["y"]) == ("◂ -7.25", "paper", 0, 0)
    assert figure.traces[0]["x"] == [-7.25, 0.5]  # the data keep it
    assert "beyond the left end" in figure.caption


def test_calibration_counts_what_happened() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0, 1, 200)
    truth = np.where(random.uniform(0, 1, 200) < chance, "sick", "well")
    held = pd.DataFrame({"probability_well": 1 - chance, "probability_sick": chance, "truth_class": truth})
    figure = calibration("ill", held)
    assert figure is not None
    points = figure.traces[1]
    assert points["name"] == "sick"
    order = np.argsort(chance)[:20]
    assert points["x"][0] == pytest.approx(chance[order].mean(), rel=1e-3)
    assert points["y"][0] == pytest.approx((truth[order] == "sick").mean(), rel=1e-3)
    assert np.abs(np.array(points["x"]) - points["y"]).max() < 0.25
    assert calibration("ill", held.head(10)) is None  # noise alone


def test_further_analyses_have_their_figures(tmp_path: Path) -> None:
    assert answers(tmp_path) == []
    times, events = np.array([1.0, 2, 3, 4, 5, 6]), np.array([1.0, 0, 1, 1, 0, 1])
    curve = estimates.kaplan_meier(times, events)
    pd.concat([curve.assign(target="death", third=third) for third in ("low", "middle", "high")]).to_csv(
        tmp_path / "kaplan_meier.csv", index=False
    )
    summary = {"target": "death", "n": 18, "events": 12, "c_harrell": 0.7, "c_uno": 0.69, "log_rank_p": 0.0004}
    pd.DataFrame([summary]).to_csv(tmp_path / "survival.csv", index=False)
    models = [("covariates", 0.3), ("embedding", 0.5), ("covariates + embedding", 0.6), ("added", 0.3)]
    rows = [("x", model, "r2", value, value - 0.1, value + 0.1, 0.02) for model, value in models]
    rows.append(("x", "added", "partial_r2", 0.44, 0.3, 0.5, 0.02))
    names = ["target", "model", "metric", "value", "low", "high", "p"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "adjusted.csv", index=False)
    grown = pd.DataFrame({"target": "x", "metric": "r2", "n_train": [20, 40, 80], "value": [0.1, 0.3, 0.4]})
    grown.assign(low=grown["value"] - 0.1, high=grown["value"] + 0.1, chance=0.0).to_csv(
        tmp_path / "learning_curve.csv", index=False
    )
    known = {"nuisance": "site", "column": "site", "metric": "auc", "chance": 0.5, "linear": 0.8, "linear_low": 0.7,
             "linear_high": 0.9, "kernel": 0.85, "kernel_low": 0.7, "kernel_high": 0.95}  # fmt: skip
    pd.DataFrame([known]).to_csv(tmp_path / "audit.csv", index=False)
    sites = {"target": "site", "metric": "auc", "before": 0.9, "before_low": 0.8, "before_high": 0.95, "after": 0.5,
             "after_low": 0.4, "after_high": 0.6, "chance": 0.5}  # fmt: skip
    pd.DataFrame([sites]).to_csv(tmp_path / "harmonisation.csv", index=False)
    death, beyond, harmonised, audit, size = answers(tmp_path)
    before, after = harmonised.figures[0].traces
    assert (before["name"], before["x"], after["name"], after["x"]) == ("before", [0.9], "after", [0.5])
    assert (after["error_x"]["array"], after["error_x"]["arrayminus"]) == ([0.1], [0.1])
    assert [trace["x"] for trace in audit.figures[0].traces] == [[0.8], [0.85]]
    assert audit.figures[0].layout["yaxis"]["ticktext"] == ["site"]
    (figure,) = death.figures
    drawn = [trace for trace in figure.traces if trace.get("showlegend", True)]
    assert [trace["name"].split()[0] for trace in drawn] == ["low", "middle", "high"]
    np.testing.assert_allclose(drawn[0]["y"], curve["survival"], rtol=1e-3)
    assert drawn[0]["line"]["shape"] == "hv"
    assert "log-rank test between thirds: p &lt; 0.001" not in figure.caption
    assert "p < 0.001" in figure.caption
    assert [trace["x"] for trace in beyond.figures[0].traces] == [[0.3], [0.5], [0.6]]
    assert beyond.figures[0].caption.endswith("permutation test: x +0.300 (+0.200 to +0.400, p = 0.020).")
    assert size.figures[0].traces[-1]["x"] == [20, 40, 80]
    assert size.figures[0].layout["xaxis"]["ticktext"] == ["20", "40", "80"]
    untested = [(*row[:-1], float("nan")) for row in rows]
    (plain,) = adjusted(pd.DataFrame(untested, columns=names))
    assert plain.caption.endswith("by the embedding beyond the covariates: x +0.300 (+0.200 to +0.400).")
    (tmp_path / "adjusted.csv").write_text("target\nx\n")
    with pytest.raises(UserError, match="lacks the columns model"):
        answers(tmp_path)


def test_the_flow_and_the_methods_count_the_scans(parts: Path) -> None:
    study = Study.open(parts / "study")
    review = study.path / "review.csv"
    ids = study.subject_ids
    review.write_text(f"subject_id,verdict,comment\n{ids[0]},exclude,moved\n{ids[1]},keep,\n", encoding="utf-8")
    try:
        selection = select(study)
        steps = steps_of(study, 14, selection, len(selection.subject_ids) - 1)
        drawn = flow(steps, Discretion())
        written = methods(study, selection, steps, Discretion(), parts / "run", parts / "emb", parts / "evaluation")
    finally:
        review.unlink()
    lines = [line for box in drawn.boxes for line in box.lines]
    assert "Scans listed (n = 14)" in lines
    assert "Failed (n = 1)" in lines
    assert "Not preprocessed (n = 1)" in lines
    assert "Excluded by the reader (n = 1)" in lines
    assert "  moved (1)" in lines
    rejected = len(selection.rejected)
    assert f"Available for analysis (n = {12 - 1 - rejected})" in lines
    assert lines[-1] == f"Analysed (n = {12 - 2 - rejected})"
    text = " ".join(written.paragraphs)
    assert "A reader excluded 1 on inspection (moved, 1)." in text
    assert "5-fold cross-validation (seed 0)" in text
    assert "Lungs were delineated by masks supplied with the scans (n = 12)." in text
    numbers = {int(n) for part in text.split("[")[1:] for n in part.split("]")[0].split(",")}
    assert numbers == set(range(1, len(written.references) + 1))
    assert not any("ANTs" in reference for reference in written.references)  # it was not used


def test_the_strongest_and_the_weakest_case_are_shown(parts: Path) -> None:
    predictions = pd.read_parquet(parts / "evaluation" / "predictions.parquet")
    maps = []
    for path in sorted((parts / "explanations").glob("*.nii.gz")):
        about = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
        maps.append(MapFile(path, about["subject_id"], "density", "", "", "", 0.5, (0, 1), target=about["target"]))
    known = predictions[predictions["target"] == "density"].set_index("subject_id")["prediction"]
    strongest = max((one.subject_id for one in maps), key=lambda name: known[name])
    high, low = cases(maps, predictions, Discretion())
    assert strongest in high.caption
    assert "the highest held-out prediction" in high.caption
    assert f"{known[strongest]:.3g}" in high.caption
    assert strongest not in low.caption
    hidden = Discretion(subject_ids=("20190413",))
    named = [MapFile(maps[0].path, "20190413", "density", "", "", "", 0.5, (0, 1), target="density")]
    assert cases(named, predictions.assign(subject_id="20190413"), hidden) == []  # the picture may name the subject
