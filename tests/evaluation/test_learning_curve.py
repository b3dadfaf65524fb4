"""Score against number of subjects, and the slope over visits as a target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from anatograph import cli
from anatograph.errors import UserError
from anatograph.evaluation.visits.slope import read_slope
from fixtures.vectors import save_cohort


def test_the_curve_rises_and_ends_at_the_headline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 20))
    y = x @ random.normal(size=20) / 4 + random.normal(size=200)
    embeddings, cohort = save_cohort(tmp_path, x, y=y)
    out = tmp_path / "out"
    words = ["evaluate", str(embeddings), str(cohort), "--target", "y", "--learning-curve"]
    assert cli.main([*words, "--out", str(out)]) == 0
    assert "By number of training subjects" in capsys.readouterr().out
    curve = pd.read_csv(out / "learning_curve.csv")
    assert list(curve["n_train"]) == sorted(curve["n_train"])
    assert (curve["n_train"].iloc[0], curve["n_train"].iloc[-1]) == (15, 160)
    assert curve["value"].iloc[-1] == pytest.approx(pd.read_csv(out / "headlines.csv")["value"].item())
    assert curve["value"].iloc[-1] > curve["value"].iloc[0] + 0.2
    assert ((curve["low"] < curve["value"]) & (curve["value"] < curve["high"])).all()
    assert curve["high"].iloc[-1] - curve["low"].iloc[-1] < curve["high"].iloc[0] - curve["low"].iloc[0]
    with Image.open(out / "learning_curve.png") as picture:
        assert picture.width > 400


def visits() -> pd.DataFrame:
    """Three patients with visits at 0, 1 and 3 years, in mixed order; the fourth came once."""
    rows = [("p2", 3, 70.0), ("p1", 0, 80.0), ("p1", 1, 78.0), ("p1", 3, 74.0), ("p2", 0, 70.0), ("p3", 1, 50.0)]
    rows += [("p3", 0, 60.0), ("p4", 0, 90.0), ("p2", 1, 70.0)]
    table = pd.DataFrame(rows, columns=["person", "years", "FEV1pp"])
    return table.assign(subject_id=[f"s{i}" for i in range(len(table))])


def test_slopes_are_least_squares_and_belong_to_the_first_scan() -> None:
    found = read_slope(visits(), visits(), "FEV1pp", "person", "years")
    assert list(found.rows) == [1, 4, 6]
    np.testing.assert_allclose(found.values, [-2.0, 0.0, -10.0], atol=1e-12)
    assert any("1 of 4 patients have FEV1pp at fewer than two times" in note for note in found.notes)


def test_visits_without_an_embedding_count_for_the_slope() -> None:
    """Lung function is measured more often than a CT is taken."""
    embedded = visits().query("years == 0").reset_index(drop=True)  # p1, p2, p3, p4
    found = read_slope(embedded, visits(), "FEV1pp", "person", "years")
    assert list(found.rows) == [0, 1, 2]
    np.testing.assert_allclose(found.values, [-2.0, 0.0, -10.0], atol=1e-12)
    unnamed = visits().assign(person=["p2", "p1", "p1", "p1", "p2", "p3", None, "p4", "p2"])
    assert len(read_slope(embedded, unnamed, "FEV1pp", "person", "years").rows) == 2  # p3's first visit is nobody's


def test_bad_slopes_get_a_sentence() -> None:
    with pytest.raises(UserError, match="slope needs --group and --visit-time"):
        read_slope(visits(), visits(), "FEV1pp", None, None)
    with pytest.raises(UserError, match="no column 'when'"):
        read_slope(visits(), visits(), "FEV1pp", "person", "when")
    odd, alike = visits().assign(years=["then"] + ["1"] * 8), visits().assign(years=1.0)
    with pytest.raises(UserError, match="s0 has 'then'"):
        read_slope(odd, odd, "FEV1pp", "person", "years")
    with pytest.raises(UserError, match="none of 4 patients has 'FEV1pp' at two different times"):
        read_slope(alike, alike, "FEV1pp", "person", "years")


def test_the_rate_is_predicted_from_the_first_scan(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    n = 60
    rate = random.normal(size=n)
    person, visit = np.repeat(np.arange(n), 3), np.tile(np.arange(3), n)
    x = random.normal(size=(3 * n, 5)) * 0.3
    x[visit == 0, 0] += rate  # what later scans show must not matter
    y = 50 + random.normal(size=n)[person] + rate[person] * visit
    embeddings, cohort = save_cohort(tmp_path, x, person=person, years=visit, FEV1=y)
    words = ["evaluate", str(embeddings), str(cohort), "--target", "FEV1", "--task", "FEV1=slope"]
    out = tmp_path / "out"
    assert cli.main([*words, "--group", "person", "--visit-time", "years", "--out", str(out)]) == 0
    head = pd.read_csv(out / "headlines.csv").iloc[0]
    assert (head["metric"], head["n"]) == ("r2", n)
    assert head["value"] > 0.7
