"""Densitometry, test-retest error and shared directions: found by themselves, and as they lie on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatograph.errors import UserError
from anatograph.evaluation.densitometry.measures import MEASURES
from anatograph.reporting import report
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.sections.answers import answers
from anatograph.reporting.sections.densitometry import densitometry, find_densitometry
from anatograph.reporting.sections.repeats import repeats
from fixtures.small import Small


def measured(names: list[str]) -> pd.DataFrame:
    """A table as `densitometry` writes it."""
    random = np.random.default_rng(0)
    zones = [f"{zone}_{measure}" for zone in ("whole", "right", "left", "upper") for measure in MEASURES]
    table = pd.DataFrame(random.uniform(0, 1, (len(names), len(zones))), columns=zones)
    noise = np.where(np.arange(len(names)) < 2, 0.05, 0.0)
    return table.assign(subject_id=names, noise_hu=30.0, laa950_from_noise=noise)


def test_densitometry_stands_beside_the_diagnosis(tmp_path: Path) -> None:
    names = [f"p{n:02d}" for n in range(16)]
    table = measured([*names, "of another study"])
    table.to_parquet(tmp_path / "densitometry.parquet")
    cohort = pd.DataFrame({"subject_id": names, "age": range(16), "diagnosis": ["COPD"] * 12 + ["none"] * 4})
    section = densitometry(tmp_path / "densitometry.parquet", names, cohort, ["age", "diagnosis"], Discretion())
    assert section is not None
    assert section.missing == 0
    emphysema = section.figures[0]
    sick, well, *keys = emphysema.traces
    assert [key["name"] for key in keys] == ["COPD", "none"]
    assert (sick["name"], well["name"]) == ("COPD", "none")
    np.testing.assert_allclose(sick["y"][:12], 100 * table["whole_laa950"][:12], rtol=1e-3)
    assert sick["x"][:12] == ["whole"] * 12
    assert (sick["line"]["width"], well["line"]["width"]) == (1.5, 0)  # four points have no quartiles worth a box
    assert "COPD n = 12, none n = 4" in emphysema.caption
    assert "In 2 scans noise alone" in emphysema.caption
    assert section.subjects.header[:2] == ("subject", "diagnosis")
    first = table[:12].sort_values("whole_laa950").iloc[-1]
    assert section.subjects.rows[0][:3] == (first["subject_id"], "COPD", f"{100 * first['whole_laa950']:.1f}")
    low, middle, high = table["whole_perc15"][:12].quantile([0.25, 0.5, 0.75])
    assert section.summary.rows[0][:1] + section.summary.rows[0][2:3] == (
        "COPD, whole",
        f"{middle:.0f} ({low:.0f} to {high:.0f})",
    )


def test_densitometry_of_another_study_is_refused_where_it_is_named_and_ignored_where_it_is_found(
    tmp_path: Path,
) -> None:
    path = tmp_path / "densitometry.parquet"
    measured(["a", "b"]).to_parquet(path)
    assert find_densitometry(None, [tmp_path / "nowhere", tmp_path]) == path
    assert find_densitometry(None, [tmp_path / "nowhere"]) is None
    assert densitometry(path, ["c"], None, [], Discretion(), named=False) is None
    with pytest.raises(UserError, match="has no subject of this study"):
        densitometry(path, ["c"], None, [], Discretion())
    with pytest.raises(UserError, match="There is no table"):
        find_densitometry(tmp_path / "missing.parquet", [])
    pd.DataFrame({"subject_id": ["c"]}).to_parquet(path)
    with pytest.raises(UserError, match="lacks the columns whole_laa950"):
        densitometry(path, ["c"], None, [], Discretion())
    path.write_text("no table")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        densitometry(path, ["c"], None, [], Discretion())


def retested(folder: Path, pairs: int = 6) -> None:
    """A folder as `change --repeat-scans` leaves it."""
    folder.mkdir(exist_ok=True)
    place = ["left lower, anterior", "right upper, posterior", "right upper, posterior"]
    table = pd.DataFrame({"landmark": [0, 1, 2], "place": place, "pairs": pairs, "deviation_error": 0.4})
    table["smallest_detectable_change"] = [1.1, 2.5, np.nan]
    table.assign(shift_median=0.3, shift_limit=0.7).to_csv(folder / "test_retest.csv", index=False)
    account = {"results": {"repeat_vector_icc": 0.91, "repeat_share_beyond": 0.05}}
    (folder / "change.run.json").write_text(json.dumps(account))


def test_repeat_scans_give_the_yardstick_by_place(tmp_path: Path) -> None:
    assert repeats([tmp_path]) is None
    retested(tmp_path / "change")
    section = repeats([tmp_path, tmp_path / "change"])
    assert section is not None
    assert (section.pairs, section.few) == (6, True)
    change, shift = section.figures
    assert [trace["name"] for trace in change.traces] == ["right upper, posterior", "left lower, anterior"]
    assert [trace["x"] for trace in change.traces] == [[2.5], [1.1]]
    assert shift.traces[0]["text"] == ["landmark 1", "landmark 2"]
    assert "6 pairs" in change.caption
    assert ("share of regions of repeat scans beyond either limit", "0.050") in section.summary.rows
    assert section.places.rows[0] == ("right upper, posterior", "2", "2.500", "0.300", "0.700")
    (tmp_path / "change" / "test_retest.csv").write_text("landmark\n1\n")
    with pytest.raises(UserError, match="lacks the columns place"):
        repeats([tmp_path / "change"])


def test_targets_stand_beside_the_confounders_that_share_their_direction(tmp_path: Path) -> None:
    known = {"nuisance": "site", "column": "site", "metric": "auc", "chance": 0.5, "linear": 0.8, "linear_low": 0.7,
             "linear_high": 0.9, "kernel": 0.85, "kernel_low": 0.7, "kernel_high": 0.95}  # fmt: skip
    folder = tmp_path / "audit"
    folder.mkdir()
    pd.DataFrame([known]).to_csv(folder / "audit.csv", index=False)
    rows = [("FEV1", "site", 0.1, 0.8, "r2", 0.4, 0.1), ("FEV1", "age", 0.2, np.nan, "r2", 0.4, 0.39)]
    names = ["target", "column", "labels", "directions", "metric", "value", "value_without"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "audit_shared.csv", index=False)
    (audit,) = answers(tmp_path, folder)
    assert audit.title == "Confounding audit"
    _, association, without = audit.figures
    cohort, predictions = association.traces
    assert (cohort["x"], predictions["x"], predictions["text"]) == ([0.1, 0.2], [0.8], ["site"])
    assert association.layout["xaxis"]["range"] == [-0.02, 1.02]
    assert [trace["x"] for trace in without.traces] == [[0.4, 0.4], [0.1, 0.39]]
    assert len(audit.tables) == 2


def test_the_page_finds_measurements_by_itself(parts: Path, small: Small, tmp_path: Path) -> None:
    names = pd.read_csv(small.cohort)["subject_id"].tolist()
    place = parts / "study" / "densitometry.parquet"
    measured(names).to_parquet(place)
    retested(parts / "explanations")
    try:
        page = report(
            parts / "study", tmp_path / "r.html", explanations=parts / "explanations", cohort=small.cohort
        ).read_text(encoding="utf-8")
    finally:
        place.unlink()
        for name in ("test_retest.csv", "change.run.json"):
            (parts / "explanations" / name).unlink()
    sections = re.findall(r'<li><a href="#(.*?)">', page)
    assert sections.index("densitometry") == sections.index("cohort") + 1
    assert sections.index("repeats") == sections.index("viewer") - 1
    assert "Only 6 pairs" in page
    assert page.count('data-figure="densitometry-') == 6
    specs = re.findall(r'id="data-densitometry-laa950">(.*?)</script>', page)
    assert {trace["name"] for trace in json.loads(specs[0])["traces"]} == {"sick", "well"}
