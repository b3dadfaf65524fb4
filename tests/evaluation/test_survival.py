"""Time to event: against scikit-survival and statsmodels, known hazards, bad columns, and few events."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, mannwhitneyu, norm, pearsonr
from statsmodels.duration.hazard_regression import PHReg

from anatograph import cli
from anatograph.errors import UserError
from anatograph.evaluation.evaluate import evaluate
from anatograph.evaluation.power import power_notes, smallest_area, smallest_concordance, smallest_r2
from anatograph.evaluation.probes.cox import COX_STRENGTHS, baseline_hazard, fit_cox, fit_cox_probe
from anatograph.evaluation.survival.concordance import follow_up_limit, harrell, uno
from anatograph.evaluation.survival.curves import calibration_slope, kaplan_meier, log_rank, share_with_event
from anatograph.evaluation.targets import Target
from fixtures.vectors import save_cohort

Array = NDArray[np.float64]


def draw(n: int, features: int, seed: int, effect: float = 0.8, tied: bool = False) -> tuple[Array, Array, Array]:
    """Features (n, F), times and events: exponential with log-hazard ``effect`` · first feature, censored uniformly."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, features))
    event = random.exponential(5 / np.exp(effect * x[:, 0]))
    stop = random.uniform(1, 9, n)
    times = np.minimum(event, stop)
    return x, np.ceil(times) if tied else times, (event <= stop).astype(np.float64)


@pytest.mark.parametrize("tied", [False, True])
def test_cox_is_that_of_statsmodels_and_scikit_survival(tied: bool) -> None:
    x, times, events = draw(150, 5, 1, tied=tied)
    free = PHReg(times, x, status=events, ties="efron").fit()
    np.testing.assert_allclose(fit_cox(x, times, events, 0.0), free.params, atol=1e-5)
    linear = pytest.importorskip("sksurv.linear_model")
    outcome = np.array(list(zip(events > 0, times, strict=True)), dtype=[("e", bool), ("t", float)])
    for alpha in (3.0, 100.0):
        witness = linear.CoxPHSurvivalAnalysis(alpha=alpha, ties="efron", tol=1e-12).fit(x, outcome)
        # Its penalty is alpha/2 |β|², ours strength/2 |β|² per event.
        np.testing.assert_allclose(fit_cox(x, times, events, alpha / events.sum()), witness.coef_, atol=1e-5)


def test_more_features_than_subjects_is_the_same_problem_in_fewer_dimensions() -> None:
    x, times, events = draw(40, 60, 2)
    linear = pytest.importorskip("sksurv.linear_model")
    outcome = np.array(list(zip(events > 0, times, strict=True)), dtype=[("e", bool), ("t", float)])
    witness = linear.CoxPHSurvivalAnalysis(alpha=20.0, ties="efron", tol=1e-12).fit(x, outcome)
    np.testing.assert_allclose(fit_cox(x, times, events, 20.0 / events.sum()), witness.coef_, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_concordance_is_scikit_survivals(tied: bool) -> None:
    metrics = pytest.importorskip("sksurv.metrics")
    x, times, events = draw(200, 3, 3, tied=tied)
    risk = np.round(x[:, 0] + np.random.default_rng(0).normal(size=200), 1)  # with ties in risk
    assert harrell(times, events, risk) == pytest.approx(metrics.concordance_index_censored(events > 0, times, risk)[0])
    if not tied:
        outcome = np.array(list(zip(events > 0, times, strict=True)), dtype=[("e", bool), ("t", float)])
        limit = follow_up_limit(times, events)
        assert limit < times.max()  # else the test would not see it
        witness = metrics.concordance_index_ipcw(outcome, outcome, risk, tau=limit)[0]
        assert uno(times, events, risk) == pytest.approx(witness)


def test_unos_concordance_does_not_depend_on_follow_up_where_harrells_does() -> None:
    """Hazards that do not stay proportional: early events are easy, late ones are not; early censoring flatters C."""
    random = np.random.default_rng(4)
    n = 3000
    x = random.normal(size=n)
    quick = random.random(n) < 0.5
    event = np.where(quick, random.exponential(1 / np.exp(1.5 * x)), 2 + random.exponential(3, n))
    full = harrell(event, np.ones(n), x)
    stop = random.exponential(3, n)
    times, events = np.minimum(event, stop), (event <= stop).astype(float)
    assert harrell(times, events, x) - full > 0.02
    assert abs(uno(times, events, x) - full) < 0.02


def test_kaplan_meier_log_rank_and_baseline_are_known_numbers() -> None:
    """Remission times of leukaemia patients (Freireich et al. 1963): survival 0.627 at 16 weeks, χ² 16.79."""
    mercaptopurine = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    observed = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    times, events = np.array(mercaptopurine, dtype=float), np.array(observed, dtype=float)
    curve = kaplan_meier(times, events).set_index("time")
    assert curve.loc[16, "survival"] == pytest.approx(0.627, abs=5e-4)
    assert curve.loc[6, "at_risk"] == 21
    assert curve.index[-1] == 35  # the end of follow-up, twelve weeks after the last event
    assert curve["survival"].iloc[-1] == curve["survival"].iloc[-2]
    nobody = kaplan_meier(times, np.zeros(21))
    assert list(nobody["survival"]) == [1, 1]
    assert np.isnan(nobody["low"].iloc[-1])
    both = np.concatenate([times, placebo])
    statistic, p = log_rank(both, np.concatenate([events, np.ones(21)]), np.repeat([0, 1], 21))
    assert statistic == pytest.approx(16.79, abs=0.01)
    assert p < 1e-4
    # Cox's hazard ratio of the same data is 4.8 (Efron; coefficient 1.572).
    arm = np.repeat([0.0, 1.0], 21)[:, None]
    assert fit_cox(arm, both, np.concatenate([events, np.ones(21)]), 0.0)[0] == pytest.approx(1.572, abs=1e-3)
    when, hazard = baseline_hazard(times, events, np.zeros(21))
    assert np.exp(-hazard[list(when).index(16)]) == pytest.approx(0.627, abs=0.03)


def test_calibration_slope_finds_predictions_that_are_too_extreme() -> None:
    x, times, events = draw(600, 1, 5, effect=0.8)
    right = calibration_slope(times, events, 0.8 * x[:, 0])
    extreme = calibration_slope(times, events, 2.4 * x[:, 0])
    assert right.low < 1 < right.high
    assert extreme.slope == pytest.approx(right.slope / 3)
    assert extreme.high < 1


def test_a_third_without_an_event_is_not_certain_to_stay_without() -> None:
    times, events = np.array([1.0, 2, 3, 4, 5, 6]), np.array([0.0, 0, 0, 0, 0, 1])
    share, low, high = share_with_event(times, events, 3.5)
    assert (share, low) == (0, 0)
    assert high == pytest.approx(binomtest(0, 3).proportion_ci(method="exact").high)  # three were followed until then
    assert share_with_event(times, events, 7.0)[0] == 1


def test_the_probe_learns_the_hazard_and_stays_at_chance_without_one() -> None:
    x, times, events = draw(300, 5, 6)
    probe = fit_cox_probe(x * 3 + 5, times, events, seed=0)
    assert probe.weights[0] * 3 == pytest.approx(0.8, abs=0.25)
    assert probe.log_hazard(x * 3 + 5).mean() == pytest.approx(0, abs=1e-9)
    risk = probe.risk(x * 3 + 5, 3.0)
    assert ((risk > 0) & (risk < 1)).all()
    nothing = fit_cox_probe(np.random.default_rng(0).normal(size=x.shape), times, events, seed=0)
    assert nothing.strength >= COX_STRENGTHS[6]


def test_evaluate_writes_the_survival_tables(tmp_path: Path) -> None:
    x, times, events = draw(240, 12, 7, effect=1.2)
    person = np.arange(240) // 2
    embeddings, cohort = save_cohort(tmp_path, x, death=events.astype(int), years=times, person=person)
    out = tmp_path / "out"
    found = evaluate(embeddings, cohort, "death:years", group="person", out=out)
    head = found.headlines.iloc[0]
    assert (head["metric"], head["chance"]) == ("c_harrell", 0.5)
    assert 0.7 < head["value"] < 0.85
    assert head["better_than_chance"]
    one = pd.read_csv(out / "survival.csv").iloc[0]
    predictions = pd.read_parquet(out / "predictions.parquet")
    assert one["c_harrell"] == pytest.approx(harrell(times, events, predictions["log_hazard"].to_numpy()))
    assert one["slope_low"] < 1 < one["slope_high"]
    assert one["log_rank_p"] < 1e-6
    assert (predictions.groupby(person)["fold"].nunique() == 1).all()
    curves = pd.read_csv(out / "kaplan_meier.csv")
    last = curves.groupby("third")["survival"].min()
    assert last["low"] > last["middle"] > last["high"]
    calibration = pd.read_csv(out / "calibration.csv")
    assert calibration["n"].sum() == 240
    assert (
        (calibration["predicted"] > calibration["low"] - 0.05) & (calibration["predicted"] < calibration["high"] + 0.05)
    ).all()
    assert {str(out / "survival.csv")} <= set(
        map(str, json.loads((out / "evaluate.run.json").read_text(encoding="utf-8"))["outputs"])
    )
    evaluate(embeddings, cohort, "years", out=out)
    assert not (out / "survival.csv").exists()  # of the earlier run


def test_shuffled_outcomes_keep_time_and_event_together(tmp_path: Path) -> None:
    x, times, events = draw(80, 4, 8, effect=1.5)
    embeddings, cohort = save_cohort(tmp_path, x, death=events.astype(int), years=times)
    found = evaluate(embeddings, cohort, "death:years", permutations=9, folds=3)
    assert found.permutations is not None
    row = found.permutations.set_index("metric").loc["c_harrell"]
    assert row["p"] == pytest.approx(0.1)
    assert abs(row["chance_mean"] - 0.5) < 0.08


def test_few_events_are_said_and_too_few_are_refused(tmp_path: Path) -> None:
    x, times, events = draw(60, 4, 9)
    few = events * (np.cumsum(events) <= 7)
    embeddings, cohort = save_cohort(tmp_path, x, death=few.astype(int), years=times, rare=[1] * 6 + [0] * 54)
    notes = " ".join(evaluate(embeddings, cohort, ["death:years", "rare"]).notes)
    assert "7 events among 60 subjects, too few to answer the question" in notes
    assert "6 of class 1 among 60 subjects, too few" in notes
    none = events * (np.cumsum(events) <= 3)
    embeddings, cohort = save_cohort(tmp_path, x, death=none.astype(int), years=times)
    with pytest.raises(UserError, match=r"events in 3 subjects only.*--folds 3 or fewer"):
        evaluate(embeddings, cohort, "death:years")


def test_what_a_cohort_can_show() -> None:
    """The smallest effects against a simulation: found at two-sided 5 % in 80 % of the cohorts."""
    random = np.random.default_rng(12)
    area = smallest_area(15, 85)
    apart = np.sqrt(2) * norm.ppf(area)
    p = [mannwhitneyu(random.normal(apart, 1, 15), random.normal(0, 1, 85)).pvalue for _ in range(400)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.8, abs=0.08)
    r = np.sqrt(smallest_r2(30))
    draws = [random.multivariate_normal([0, 0], [[1, r], [r, 1]], 30) for _ in range(400)]
    assert np.mean([pearsonr(*both.T).pvalue < 0.05 for both in draws]) == pytest.approx(0.8, abs=0.06)
    x, times, events = draw(120, 1, 10, effect=0.0)
    chance = [harrell(times, events, random.permutation(x[:, 0])) for _ in range(600)]
    reach = (smallest_concordance(times, events) - 0.5) / np.std(chance)
    assert reach == pytest.approx(1.96 + 0.84, rel=0.08)
    everyone = Target("y", "survival", np.arange(60), np.ones(60), times=random.exponential(size=60))
    assert power_notes(everyone) == []  # nobody is censored: sixty events carry the question
    counts = Target("n", "regression", np.arange(60), np.array([0.0] * 54 + [1, 2, 1, 3, 1, 4]))
    assert "6 counts above 0 among 60 subjects, too few" in power_notes(counts)[0]
    few = Target("y", "regression", np.arange(30), random.normal(size=30))
    assert "30 subjects: a true R² below 0.24" in power_notes(few)[0]
    assert power_notes(Target("y", "regression", np.arange(60), random.normal(size=60))) == []


@pytest.mark.parametrize(
    ("target", "columns", "said"),
    [
        ("death:yeers", {}, "no time column 'yeers'; did you mean 'years'"),
        ("dead:years", {}, "no event column 'dead'; did you mean 'death'"),
        ("death:years", {"death": 2}, "must be 1 where the event was observed.*holds '2'"),
        ("death:years", {"years": -1.0}, "time above 0.*s0000 has '-1.0' \\(50 such rows\\)"),
        ("death:years", {"years": "soon"}, "s0000 has 'soon'"),
        ("death:years", {"death": 0}, "has no event among 50"),
        ("death:years", {"death": None}, "no subject with an embedding has both"),
    ],
)
def test_bad_columns_get_a_sentence(
    tmp_path: Path, target: str, columns: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    x, times, events = draw(50, 4, 10)
    embeddings, cohort = save_cohort(tmp_path, x, **{"death": events.astype(int), "years": times, **columns})
    with pytest.raises(UserError, match=said):
        evaluate(embeddings, cohort, target)
    assert cli.main(["evaluate", str(embeddings), str(cohort), "--target", target]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_missing_outcomes_are_left_out_and_counted(tmp_path: Path) -> None:
    x, times, events = draw(80, 4, 11, effect=1.5)
    times[:7] = np.nan
    embeddings, cohort = save_cohort(tmp_path, x, death=events.astype(int), years=times)
    found = evaluate(embeddings, cohort, "death:years")
    assert found.headlines["n"].item() == 73
    assert any("7 of 80 subjects lack death or years" in note for note in found.notes)
    with pytest.raises(UserError, match="--log does not apply"):
        evaluate(embeddings, cohort, "death:years", log=["death:years"])
