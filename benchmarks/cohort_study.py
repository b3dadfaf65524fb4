"""Do the intervals of `evaluate` hold what they promise? Cohorts with known answers, drawn again and again.

    python benchmarks/cohort_study.py --draws 100

Features are 8 normal numbers, of which the outcome follows the first two; 120 subjects each.  For every draw the probes
of the five folds are fitted, and their true figure is measured on 4,000 further subjects.  Printed: how often the 95 %
interval holds the true figure, and how often an effect is claimed where there is none.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.evaluation.adjustment.added import Plan, added_value
from anatograph.evaluation.adjustment.covariates import Covariate, Covariates
from anatograph.evaluation.adjustment.joint import Outcome, predict_joint
from anatograph.evaluation.cross_validation import cross_validate, probe_fold, splits_of
from anatograph.evaluation.headline import headline
from anatograph.evaluation.scores import Predictions, figures_of
from anatograph.evaluation.survival.tables import survival_tables
from anatograph.evaluation.targets import Target

Array = NDArray[np.float64]
SUBJECTS, FURTHER, FEATURES, FOLDS = 120, 4000, 8, 5
KINDS = ("regression", "classification", "survival")


def draw(kind: str, effect: float, seed: int) -> tuple[Array, Target]:
    """Features and outcome of the cohort and, behind it, of the further subjects."""
    random = np.random.default_rng(seed)
    count = SUBJECTS + FURTHER
    x = random.normal(size=(count, FEATURES))
    signal = effect * (x[:, 0] - x[:, 1])
    rows = np.arange(count)
    if kind == "regression":
        return x, Target("y", "regression", rows, signal + random.normal(size=count))
    if kind == "classification":
        values = (signal + random.logistic(size=count) > 0).astype(float)
        return x, Target("y", "classification", rows, values, ("no", "yes"))
    event, stop = random.exponential(5 * np.exp(-signal)), random.uniform(2, 8, count)
    return x, Target("y", "survival", rows, (event <= stop).astype(float), times=np.minimum(event, stop))


def cohort_of(target: Target) -> Target:
    return target.keep(target.rows < SUBJECTS, "")


def true_figure(x: Array, target: Target, metric: str, seed: int) -> float:
    """Mean over the folds' probes of their figure on the further subjects."""
    further = np.arange(SUBJECTS, SUBJECTS + FURTHER)
    found = []
    for train, _ in splits_of(cohort_of(target), None, FOLDS, seed):
        answers = probe_fold(x, target, None, (train, further), seed)
        size = len(target.rows)
        value, chance = np.zeros(size), None
        if target.classes:
            chance = np.zeros((size, len(target.classes)))
            chance[further], value[further] = answers, answers.argmax(axis=1)
        else:
            value[further] = answers[:, 0] if answers.ndim == 2 else answers
        done = Predictions(np.zeros(size, dtype=np.int64), value, chance, np.zeros(size))
        found.append(figures_of(target, done, further)[metric])
    return float(np.mean(found))


def one(kind: str, effect: float, seed: int) -> dict[str, float | str]:
    x, target = draw(kind, effect, seed)
    cohort = cohort_of(target)
    done = cross_validate(x[:SUBJECTS], cohort, None, FOLDS, seed)
    head = headline(cohort, done, None, seed)
    truth = true_figure(x, target, head.metric, seed)
    row: dict[str, float | str] = {
        "kind": kind,
        "effect": effect,
        "true": truth,
        "found": head.value,
        "covered": float(head.low <= truth <= head.high),
        "claimed": float(head.better_than_chance),
    }
    if kind == "survival" and effect:
        table = survival_tables(cohort, [done])["survival"].iloc[0]
        row["slope"] = float(table["calibration_slope"])
        row["slope_covered"] = float(table["slope_low"] <= 1 <= table["slope_high"])
    return row


def added(effect: float, seed: int) -> dict[str, float | str]:
    """The covariate is the first feature with noise; the embedding adds ``effect`` times the second."""
    random = np.random.default_rng(seed)
    count = SUBJECTS + FURTHER
    x = random.normal(size=(count, FEATURES))
    age = x[:, 0] + 0.5 * random.normal(size=count)
    y = age + effect * x[:, 1] + random.normal(size=count)
    target = Target("y", "regression", np.arange(count), y)
    covariates = Covariates((Covariate("age", age, np.zeros(0, dtype=str)),), ())
    cohort, further = cohort_of(target), np.arange(SUBJECTS, count)
    table = added_value(x[:SUBJECTS], cohort, covariates, None, Plan(FOLDS, seed)).set_index(["model", "metric"])
    partial = table.loc[("added", "partial_r2")]
    found = []
    for train, _ in splits_of(cohort, None, FOLDS, seed):
        design = covariates.design(train)
        errors = [
            ((predict_joint(given, design, Outcome(y), train, None, seed)[further] - y[further]) ** 2).sum()
            for given in (x, x[:, :0])
        ]
        found.append(1 - errors[0] / errors[1])
    truth = float(np.mean(found))
    return {
        "kind": "partial R² beyond age",
        "effect": effect,
        "true": truth,
        "found": float(partial["value"]),
        "covered": float(partial["low"] <= truth <= partial["high"]),
        "claimed": float(partial["low"] > 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw")
    parser.add_argument("--kinds", nargs="+", default=[*KINDS, "added"], choices=[*KINDS, "added"])
    args = parser.parse_args()
    rows = []
    for kind in args.kinds:
        for effect in (0.0, 0.7):
            for seed in range(args.first, args.first + args.draws):
                rows.append(added(effect, seed) if kind == "added" else one(kind, effect, seed))
    table = pd.DataFrame(rows).groupby(["kind", "effect"], sort=False).mean()
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
