"""A cohort study on phantom scans: what is true, what the commands find, and whether the intervals hold the truth.

    python benchmarks/cohort_on_scans.py OUT --subjects 120

Draws phantoms with three scanners, two visits and events (seed 11), preprocesses and embeds the first visits, runs
`evaluate` and `audit`, and prints a Markdown table. Run again, it continues where it stopped. The truths follow from
the generator; C-indices of the true hazard are means over 1,000 further draws of the events.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import anatograph
from anatograph.evaluation.survival.concordance import harrell
from anatograph.evaluation.survival.curves import THIRDS, calibration_slope, thirds_of
from anatograph.phantoms.events import BASELINE_PER_YEAR, LOG_HAZARD, event_columns

Array = NDArray[np.float64]
NOISE = 6.0**2
"""Variance of FEV1pp that owes to chance …"""
SMALL_AIRWAYS = 4.0**2 * (1 - 2 / np.pi)
"""… and, in subjects with emphysema, to the small airways, which no scan shows."""
DRAWS = 1000
EXTENTS = [
    "emphysema_extent",
    "paraseptal_extent",
    "ground_glass_extent",
    "consolidation_extent",
    "air_trapping_extent",
]
AUDITED = {"sex": True, "site": True, "lung_volume_l": True, "age": False, "bmi": False, "placebo": False}
"""Columns, and whether the scans show them plainly (of age and BMI little is drawn: apical caps, noise)."""


def explained(values: Array, columns: pd.DataFrame) -> float:
    """R² of the least-squares regression of values (n,) on columns (n, k)."""
    design = np.column_stack([np.ones(len(columns)), columns.to_numpy(np.float64)])
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(1 - ((values - fitted) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def largest_r2(first: pd.DataFrame) -> float:
    """R² of FEV1pp if all but chance were known."""
    chance = NOISE + SMALL_AIRWAYS * float((first["emphysema_extent"] > 0).mean())
    return 1 - chance / float(first["FEV1pp"].var(ddof=0))


def true_risk(first: pd.DataFrame, years: float) -> Array:
    """(n,) probability of the event within ``years``."""
    reference = {"FEV1pp": 80.0, "age": 60.0, "ground_glass_extent": 0.0}
    log_hazard = sum(effect * (first[name] - reference[name]) for name, effect in LOG_HAZARD.items())
    return 1 - np.exp(-BASELINE_PER_YEAR * years * np.exp(np.asarray(log_hazard, dtype=np.float64)))


def concordances(first: pd.DataFrame) -> dict[str, float]:
    """Harrell's C of the true hazard and of age alone, mean over further draws of the events."""
    random, rows = np.random.default_rng(0), first.to_dict("records")
    hazards = {"hazard": true_risk(first, 1.0), "age": first["age"].to_numpy(np.float64)}
    found: dict[str, list[float]] = {name: [] for name in hazards}
    for _ in range(DRAWS):
        drawn = pd.DataFrame([event_columns(row, random) for row in rows])
        times, events = (drawn[name].to_numpy(np.float64) for name in ("event_years", "event"))
        for name, hazard in hazards.items():
            found[name].append(harrell(times, events, hazard))
    return {name: float(np.mean(values)) for name, values in found.items()}


def table_row(question: str, truth: str, found: tuple[float, float, float], holds: bool | None, n: int) -> str:
    """A row of the printed table."""
    value, low, high = found
    said = "" if holds is None else "yes" if holds else "no"
    return f"| {question} | {truth} | {value:.2f} ({low:.2f} to {high:.2f}) | {said} | {n} |"


def limit(question: str, most: float, found: tuple[float, float, float], n: int) -> str:
    """A figure that has a largest possible value: the interval must not lie above it."""
    return table_row(question, f"at most {most:.2f}", found, found[1] <= most, n)


def equal(question: str, truth: float, found: tuple[float, float, float], n: int) -> str:
    """A figure whose true value is known: the interval must hold it."""
    return table_row(question, f"{truth:.2f}", found, found[1] <= truth <= found[2], n)


def numbers(row: pd.Series, names: tuple[str, str, str] = ("value", "low", "high")) -> tuple[float, float, float]:
    """A figure and its interval."""
    value, low, high = (float(row[name]) for name in names)
    return value, low, high


def main_rows(found: anatograph.Evaluation, first: pd.DataFrame) -> Iterator[str]:
    """Extent, lung function, placebo, survival and what the embedding adds to age and sex."""
    heads = found.headlines.set_index("target")
    added = found.tables["adjusted"].set_index(["target", "model", "metric"])
    fev1 = first["FEV1pp"].to_numpy(np.float64)
    n, most, concordance = len(first), largest_r2(first), concordances(first)
    known = explained(fev1, pd.get_dummies(first[["age", "sex"]], drop_first=True))
    yield limit("R² of the extent of emphysema", 1.0, numbers(heads.loc["emphysema_extent"]), n)
    yield limit("R² of FEV1pp", most, numbers(heads.loc["FEV1pp"]), n)
    yield limit("R² of a placebo (random numbers)", 0.0, numbers(heads.loc["placebo"]), n)
    alone = numbers(added.loc[("FEV1pp", "covariates", "r2")])
    yield limit("`--adjust`: R² of FEV1pp by age and sex", known, alone, n)
    partial = numbers(added.loc[("FEV1pp", "added", "partial_r2")])
    yield limit("`--adjust`: partial R² beyond age and sex", 1 - (1 - most) / (1 - known), partial, n)
    survival = heads.loc["event:event_years"]
    yield limit("C-index of the event, against that of the true hazard", concordance["hazard"], numbers(survival), n)
    alone = numbers(added.loc[("event:event_years", "covariates", "c_harrell")])
    yield equal("`--adjust`: C-index by age and sex, against age", concordance["age"], alone, n)
    more = numbers(added.loc[("event:event_years", "added", "c_harrell")])
    yield limit("`--adjust`: gain in C-index", concordance["hazard"] - concordance["age"], more, n)
    row = found.tables["survival"].iloc[0]
    yield equal(
        "calibration slope of the log-hazard", 1.0, numbers(row, ("calibration_slope", "slope_low", "slope_high")), n
    )
    predicted = found.predictions[found.predictions["target"] == "event:event_years"].set_index("subject_id")
    risk = true_risk(first, float(row["horizon"]))
    third = thirds_of(predicted.loc[first["subject_id"], "log_hazard"].to_numpy(np.float64))
    calibration = found.tables["calibration"].set_index("third")
    for k, name in enumerate(THIRDS):
        observed = numbers(calibration.loc[name], ("observed", "low", "high"))
        question = f"share with the event by {row['horizon']:.1f} years, {name} third of the predicted risk"
        yield equal(question, float(risk[third == k].mean()), observed, int((third == k).sum()))


def redrawn(out: Path, draws: int) -> Iterator[str]:
    """Draw the events again and evaluate each time: do the intervals hold what the same predictions are worth?

    The true C-index and calibration slope of a draw are those of its out-of-fold predictions, measured on 50 further
    draws of the events of the same patients.
    """
    first, table = pd.read_csv(out / "first.csv"), out / "redrawn.csv"
    rows, held = first.to_dict("records"), []
    for draw in range(draws):
        random = np.random.default_rng([7, draw])
        sets = [pd.DataFrame([event_columns(row, random) for row in rows]) for _ in range(51)]
        first[["event", "event_years"]] = sets[0][["event", "event_years"]]
        first.to_csv(table, index=False)
        found = anatograph.evaluate(out / "vectors.parquet", table, "event:event_years", seed=draw)
        predicted = found.predictions.set_index("subject_id").loc[first["subject_id"], "log_hazard"]
        risk, new = predicted.to_numpy(np.float64), sets[1:]
        worth = float(np.mean([harrell(*outcome(one), risk) for one in new]))
        times, events = (np.concatenate(parts) for parts in zip(*map(outcome, new), strict=True))
        slope = calibration_slope(times, events, np.tile(risk, len(new))).slope
        head, row = numbers(found.headlines.iloc[0]), found.tables["survival"].iloc[0]
        third, share = thirds_of(risk), true_risk(first, float(row["horizon"]))
        kept = [
            low <= share[third == k].mean() <= high
            for k, (low, high) in enumerate(found.tables["calibration"][["low", "high"]].to_numpy())
        ]
        held.append(
            {
                "C-index found": head[0],
                "C-index true": worth,
                "C-index held": head[1] <= worth <= head[2],
                "slope found": row["calibration_slope"],
                "slope true": slope,
                "slope held": row["slope_low"] <= slope <= row["slope_high"],
                "thirds held": np.mean(kept),
                "events": row["events"],
            }
        )
    yield f"\nmeans over {draws} further draws of the events:"
    yield pd.DataFrame(held).astype(float).mean().round(2).to_string()


def outcome(drawn: pd.DataFrame) -> tuple[Array, Array]:
    """Times and events (n,)."""
    return drawn["event_years"].to_numpy(np.float64), drawn["event"].to_numpy(np.float64)


def site_rows(found: anatograph.Evaluation, most: float, n: int) -> Iterator[str]:
    """Harmonisation and left-out sites."""
    table = found.tables["harmonisation"].set_index("target")
    before, after = ("before", "before_low", "before_high"), ("after", "after_low", "after_high")
    for kind in ("linear", "kernel"):
        row = table.loc[f"site ({kind})"]
        yield table_row(f"AUC of the site, {kind}, before `--harmonise`", "above 0.5", numbers(row, before),
                        row["before_low"] > 0.5, n)  # fmt: skip
        yield equal(f"AUC of the site, {kind}, after `--harmonise`", 0.5, numbers(row, after), n)
    row = table.loc["FEV1pp"]
    yield table_row("R² of FEV1pp before `--harmonise`", "", numbers(row, before), None, n)
    yield equal("R² of FEV1pp after it: no difference", float(row["before"]), numbers(row, after), n)
    yield limit("R² of FEV1pp, `--harmonise` and `--leave-out site`", most, left_out(found), n)


def left_out(found: anatograph.Evaluation) -> tuple[float, float, float]:
    """R² of FEV1pp where each site is predicted from the others."""
    row = found.results.set_index(["target", "metric"]).loc[("FEV1pp", "leave_out_r2_pooled")]
    return numbers(row, ("pooled", "low", "high"))


def audit_rows(found: anatograph.Audited) -> Iterator[str]:
    """What the embedding encodes, and whether lung function shares a direction with it."""
    for _, row in found.table.iterrows():
        figure = numbers(row, ("linear", "linear_low", "linear_high"))
        name, drawn = "AUC" if row["metric"] == "auc" else "R²", AUDITED[str(row["column"])]
        truth = "shown" if drawn else "hardly shown" if row["column"] != "placebo" else "not shown"
        yield table_row(f"`audit`: {name} of {row['column']}", truth, figure,
                        (figure[1] > row["chance"]) == drawn, int(row["n"]))  # fmt: skip


def draw_and_embed(out: Path, subjects: int, spacing: float) -> None:
    """Write both.csv (two visits), first.csv (the first) and vectors.parquet (of the first) to ``out``."""
    visits = anatograph.phantom(
        out / "visits", subjects, seed=11, spacing=spacing, sites="A,B,C", events=True, visits=2, interval=2.0
    )
    both = pd.read_csv(visits)
    both["placebo"] = np.random.default_rng(0).normal(size=len(both))
    for name in [name for name in both if name in ("image", "lungs") or str(name).endswith("_mask")]:
        both[name] = "visits/" + both[name]
    both.to_csv(out / "both.csv", index=False)
    both[both["visit"] == 1].to_csv(out / "first.csv", index=False)
    anatograph.preprocess(out / "first.csv", out / "study", lungs="given")
    anatograph.embed(out / "study", out / "vectors")


def answers(out: Path, draws: int) -> Iterator[str]:
    """The rows of the table, then what else there is to say."""
    vectors, table = out / "vectors.parquet", out / "first.csv"
    both, first = pd.read_csv(out / "both.csv"), pd.read_csv(table)
    targets = ["emphysema_extent", "FEV1pp", "event:event_years", "placebo"]
    found = anatograph.evaluate(
        vectors, table, targets, adjust=["age", "sex"], leave_out="site", bootstrap=500, out=out / "evaluation"
    )
    first = first[first["subject_id"].isin(found.predictions["subject_id"])].reset_index(drop=True)
    yield f"{len(first)} patients, {int(first['event'].sum())} events\n"
    yield "| question | truth | found (95 % interval) | agrees | n |\n|---|---|---|---|---|"
    yield from main_rows(found, first)
    yield limit("R² of FEV1pp, `--leave-out site`", largest_r2(first), left_out(found), len(first))
    sites = anatograph.evaluate(
        vectors, table, ["FEV1pp"], harmonise="site", leave_out="site", bootstrap=500, out=out / "sites"
    )
    yield from site_rows(sites, largest_r2(first), len(first))
    slope = anatograph.evaluate(
        vectors, out / "both.csv", ["FEV1pp"], task="slope", visit_time="years", group="person", out=out / "slope"
    )
    at_first, at_last = (both[both["visit"] == k].set_index("person").loc[first["person"]] for k in (1, 2))
    rates = (at_last["FEV1pp"] - at_first["FEV1pp"]) / (at_last["years"] - at_first["years"])
    most, head = explained(rates.to_numpy(np.float64), at_first[EXTENTS]), slope.headlines.iloc[0]
    yield limit("R² of the slope of FEV1pp, by the true extents", most, numbers(head), int(head["n"]))
    audited = anatograph.audit(vectors, table, out / "audit", columns=list(AUDITED), targets=["FEV1pp"])
    yield from audit_rows(audited)
    shared = audited.shared[["column", "labels", "directions", "value", "value_without"]]
    yield "\n" + shared.round(2).to_string(index=False)
    yield from redrawn(out, draws)
    yield from (f"note: {note}" for note in dict.fromkeys([*found.notes, *sites.notes, *slope.notes]))


def main() -> None:
    """Draw, embed, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subjects", type=int, default=80)
    parser.add_argument("--draws", type=int, default=40, help="further draws of the events")
    parser.add_argument("--spacing", type=float, default=2.5)
    chosen = parser.parse_args()
    draw_and_embed(chosen.out, chosen.subjects, chosen.spacing)
    for line in answers(chosen.out, chosen.draws):
        print(line, flush=True)


if __name__ == "__main__":
    main()
