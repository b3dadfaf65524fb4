"""What the embedding adds to covariates: known truth, statsmodels' nested models, categories and missing values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.evaluation.adjustment.covariates import read_covariates
from anatograph.evaluation.adjustment.joint import Outcome, predict_joint
from anatograph.evaluation.evaluate import evaluate
from fixtures.vectors import save_cohort

Array = NDArray[np.float64]
EVERY = np.arange(120)


def test_covariates_alone_are_unpenalised_models() -> None:
    random = np.random.default_rng(0)
    d = random.normal(size=(120, 3))
    number = d @ [1.0, -0.5, 0.2] + random.normal(size=120)
    event = (d[:, 0] + random.normal(size=120) > 0).astype(float)
    whole = sm.add_constant(d)
    none = np.zeros((120, 0))
    np.testing.assert_allclose(predict_joint(none, d, Outcome(number), EVERY), sm.OLS(number, whole).fit().fittedvalues)
    found = predict_joint(none, d, Outcome(event, 2), EVERY)[:, 1]
    np.testing.assert_allclose(found, sm.Logit(event, whole).fit(disp=0).predict(), atol=1e-3)
    times = random.exponential(np.exp(-d[:, 0]))
    eta = predict_joint(none, d, Outcome(np.ones(120), 0, times), EVERY)
    free = sm.PHReg(times, d, ties="efron").fit().params
    np.testing.assert_allclose(eta, d @ free - (d @ free).mean(), atol=1e-3)


@pytest.mark.parametrize("kind", ["number", "classes", "survival"])
def test_useless_features_leave_the_covariates_model(kind: str) -> None:
    random = np.random.default_rng(1)
    d, x = random.normal(size=(120, 2)), random.normal(size=(120, 30))
    signal = d @ [1.0, 0.5]
    outcome = {
        "number": Outcome(signal + random.normal(size=120)),
        "classes": Outcome((signal + random.normal(size=120) > 0).astype(float), 2),
        "survival": Outcome(np.ones(120), 0, random.exponential(np.exp(-signal))),
    }[kind]
    both, alone = (predict_joint(given, d, outcome, EVERY) for given in (x, x[:, :0]))
    assert np.corrcoef(both.reshape(120, -1)[:, -1], alone.reshape(120, -1)[:, -1])[0, 1] > 0.97


def test_added_value_is_found_where_there_is_one_and_not_where_there_is_none(tmp_path: Path) -> None:
    """The embedding holds age and one thing of its own: what it adds to age is that, not the age."""
    random = np.random.default_rng(2)
    n = 160
    age, own = random.normal(60, 8, n), random.normal(size=n)
    x = random.normal(size=(n, 12))
    x[:, 0] += 3 * (age - 60) / 8
    x[:, 1] += 3 * own
    years = (age - 60) / 8
    columns = {
        "age": age,
        "by_age": years + random.normal(size=n),
        "by_both": years + own + random.normal(size=n),
        "class_by_both": (years + own + random.normal(size=n) > 0).astype(int),
    }
    embeddings, cohort = save_cohort(tmp_path, x, **columns)
    out = tmp_path / "out"
    targets = ["by_age", "by_both", "class_by_both"]
    found = evaluate(embeddings, cohort, targets, adjust=["age"], out=out, bootstrap=200)
    table = pd.read_csv(out / "adjusted.csv").set_index(["target", "model", "metric"])
    pd.testing.assert_frame_equal(table.reset_index(), found.tables["adjusted"], check_dtype=False)
    # True R²: 1/2 of the first; 1/3 by age and 2/3 by both of the second, of which 1/2 of what age leaves.
    assert table.loc[("by_age", "covariates", "r2"), "value"] == pytest.approx(0.5, abs=0.12)
    assert table.loc[("by_age", "embedding", "r2"), "value"] > 0.3
    nothing = table.loc[("by_age", "added", "r2")]
    assert nothing["low"] < 0.02
    assert abs(nothing["value"]) < 0.03
    assert table.loc[("by_both", "covariates", "r2"), "value"] == pytest.approx(1 / 3, abs=0.12)
    partial = table.loc[("by_both", "added", "partial_r2")]
    assert partial["low"] > 0.2
    assert partial["value"] == pytest.approx(0.5, abs=0.15)
    assert table.loc[("class_by_both", "added", "auc"), "low"] > 0.02
    both, alone = (table.loc[("class_by_both", m, "auc"), "value"] for m in ("covariates + embedding", "covariates"))
    assert table.loc[("class_by_both", "added", "auc"), "value"] == pytest.approx(both - alone)


def test_permutations_shuffle_what_covariates_leave(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    n = 90
    age, own = random.normal(size=n), random.normal(size=n)
    x = np.column_stack([2 * age + random.normal(size=n), 2 * own + random.normal(size=n), random.normal(size=(n, 3))])
    columns = {"age": age, "person": np.arange(n) // 2, "y": age + own, "z": age + random.normal(size=n)}
    embeddings, cohort = save_cohort(tmp_path, x, **columns)
    found = evaluate(embeddings, cohort, ["y", "z"], adjust=["age"], permutations=19, folds=3, group="person")
    table = found.tables["adjusted"].set_index(["target", "model", "metric"])
    assert table.loc[("y", "added", "r2"), "p"] == pytest.approx(0.05)
    assert table.loc[("z", "added", "r2"), "p"] > 0.1
    assert table["p"].notna().sum() == 4


def test_survival_adds_to_the_c_index(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    n = 150
    age, own = random.normal(size=n), random.normal(size=n)
    x = np.column_stack([2 * own + random.normal(size=n), random.normal(size=(n, 4))])
    years = random.exponential(np.exp(-age - own))
    embeddings, cohort = save_cohort(tmp_path, x, age=age, death=1, years=years)
    found = evaluate(embeddings, cohort, "death:years", adjust=["age"], bootstrap=100)
    table = found.tables["adjusted"].set_index("model")
    assert list(table["metric"]) == ["c_harrell"] * 4
    assert table.loc["added", "low"] > 0.02
    assert table.loc["covariates", "value"] > 0.6


def test_categories_and_missing_values_are_said(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "age": [50.0, np.nan, 70.0, 60.0, 61.0, 62.0],
            "sex": ["F", "M", None, "F", "F", "M"],
            "site": [1, 2, 2, 3, 2, 1],
            "pack_years": [0.5, 10.2, 3.3, 8.1, 1.0, 2.0],
        }
    )
    found = read_covariates(table, ["age", "sex", "site", "pack_years"])
    said = " ".join(found.notes)
    assert "age: missing for 1 of 6 subjects, taken as the training subjects' mean, and an indicator" in said
    assert "sex: a category of 2 levels (F: 3, M: 2)" in said
    assert "sex: missing for 1 of 6 subjects, taken as a level of its own" in said
    assert "site: a category of 3 levels" in said
    assert "pack_years" not in said
    age = found.columns[0].columns(np.array([0, 2]))
    np.testing.assert_allclose(age[:4], [[50, 0], [60, 1], [70, 0], [60, 0]])  # the mean of rows 0 and 2
    site = found.columns[2].columns(np.array([0, 1, 2]))
    np.testing.assert_allclose(site[:4], [[1], [0], [0], [0]])  # against the most frequent; 3 is not in training


@pytest.mark.parametrize(
    ("adjust", "said"),
    [
        (["agee"], "has no column 'agee'"),
        (["name"], "is text with 60 different values"),
        (["same"], "'same' has 1 value for all subjects"),
        (["y"], "'y' is the target itself"),
    ],
)
def test_bad_covariates_get_a_sentence(tmp_path: Path, adjust: list[str], said: str) -> None:
    x = np.random.default_rng(5).normal(size=(60, 3))
    embeddings, cohort = save_cohort(tmp_path, x, y=x[:, 0], name=[f"n{i}" for i in range(60)], same=1)
    with pytest.raises(UserError, match=said):
        evaluate(embeddings, cohort, "y", adjust=adjust)


def test_columns_of_another_table_are_covariates(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    x, laa = random.normal(size=(60, 4)), random.normal(size=60)
    y = laa + 0.3 * random.normal(size=60)
    embeddings, cohort = save_cohort(tmp_path, x, y=y, age=random.normal(size=60))
    measured = pd.DataFrame({"subject_id": pd.read_csv(cohort)["subject_id"], "laa": laa})
    measured.iloc[1:].sample(frac=1, random_state=0).to_parquet(tmp_path / "densitometry.parquet")
    found = evaluate(
        embeddings, cohort, "y", adjust=["age", "laa"], bootstrap=100, join=tmp_path / "densitometry.parquet"
    )
    alone = found.tables["adjusted"].query("model == 'covariates'")["value"].iloc[0]
    assert alone > 0.8
    assert any("1 subject without a row in densitometry.parquet" in note for note in found.notes)
    measured.assign(age=0.0).to_csv(tmp_path / "same.csv", index=False)
    measured.assign(subject_id="x" + measured["subject_id"]).to_csv(tmp_path / "strange.csv", index=False)
    for table, said in (("same.csv", "both have age"), ("strange.csv", "none of the subjects"), ("no.csv", "does not")):
        with pytest.raises(UserError, match=said):
            evaluate(embeddings, cohort, "y", adjust=["age"], join=tmp_path / table)
