"""How much of lung function at matched extent the place of emphysema could explain, were it known exactly.

    python benchmarks/matched_extent.py COHORT.csv [COHORT.csv …] [--power N …]

Of each phantom cohort: the standard deviation of log FEV1pp after a regression on all true extents (quadratic where
there are three subjects a term), that of what the place of emphysema does to it by the phantom's formula, the squared
correlation of both (the ceiling of any method), and the R² of ridge regression on the true extents of the thirds,
held-out subjects at once, mean of ten divisions into five folds. The last columns are R² of log FEV1pp itself by ridge
regression on all true extents and thirds, in the same divisions and with each site left out. No scan is read.

``--power`` asks, of cohorts of N subjects simulated from the last table: which R² the true thirds have, and how often a
corrected resampled t-test over two divisions into five folds tells it from 0. A subject is one of the table's with its
thirds varied by 5 %, the ridge regression's value for them, and the residual of another subject with a random sign.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from release_study import EXTENTS, MATCHED, with_matched_extent
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, LeaveOneGroupOut, cross_val_predict

from anatograph.evaluation.comparison import corrected_t_test
from anatograph.phantoms.variables import FEV1_BY_THIRD

THIRDS = ("upper", "middle", "lower")
"""Thirds of the lungs by height; their volumes are taken as equal."""
STRENGTHS = np.logspace(-2, 4, 25)
"""Penalties that ridge regression chooses from, on columns of variance 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+", help="cohort.csv of phantoms")
    parser.add_argument("--power", type=int, nargs="+", default=(), metavar="N", help="subjects to simulate")
    args = parser.parse_args()
    print("| cohort | subjects | with emphysema | residual SD | SD of place's effect | ceiling R² | true thirds, R² | "
          "log FEV1pp | site left out |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for cohort in args.cohorts:
        print(row(cohort), flush=True)
    if args.power:
        print("\n| subjects | true thirds, R² (median) | p < 0.05, % of cohorts |\n|---|---|---|")
    for subjects in args.power:
        print(power(args.cohorts[-1], subjects), flush=True)


def power(cohort: Path, subjects: int, tries: int = 100) -> str:
    """One line of the second table."""
    table, rng = pd.read_csv(with_matched_extent(cohort)), np.random.default_rng(0)
    thirds = table[[f"emphysema_{third}" for third in THIRDS]].to_numpy(float) / 3
    thirds /= thirds.std(axis=0)
    residual = table[MATCHED].to_numpy(float)
    fitted = RidgeCV(STRENGTHS).fit(thirds, residual)
    rest = residual - fitted.predict(thirds)
    means, found = [], 0
    for _ in range(tries):
        of = thirds[rng.integers(0, len(table), subjects)] * np.exp(0.05 * rng.normal(size=(subjects, len(THIRDS))))
        noise = rest[rng.integers(0, len(table), subjects)] * rng.choice([-1.0, 1.0], subjects)
        wanted, scores = fitted.predict(of) + noise, []
        for repeat in range(2):
            for train, test in KFold(5, shuffle=True, random_state=repeat).split(of):
                predicted = RidgeCV(STRENGTHS).fit(of[train], wanted[train]).predict(of[test])
                missed = ((wanted[test] - predicted) ** 2).sum()
                scores.append(1 - missed / ((wanted[test] - wanted[train].mean()) ** 2).sum())
        means.append(float(np.mean(scores)))
        found += corrected_t_test(tuple(scores), (0.0,) * len(scores), 1 / 4).p < 0.05
    return f"| {subjects} | {np.median(means):.2f} | {100 * found / tries:.0f} |"


def row(cohort: Path) -> str:
    """One line of the table."""
    table = pd.read_csv(with_matched_extent(cohort))
    residual = table[MATCHED].to_numpy(float)
    thirds = table[[f"emphysema_{third}" for third in THIRDS]].to_numpy(float) / 3
    lost = thirds @ np.array([FEV1_BY_THIRD[third] for third in THIRDS])
    place = FEV1_BY_THIRD["middle"] * thirds.sum(axis=1) - lost
    effect = np.log1p(place / (table["FEV1pp"].to_numpy(float) - place))
    ceiling = float(np.corrcoef(effect, residual)[0, 1]) ** 2
    whole = np.column_stack([table[[name for name in EXTENTS if name in table]].to_numpy(float), thirds])
    function = np.log(table["FEV1pp"].to_numpy(float))
    sites = table["site"].to_numpy() if "site" in table and table["site"].nunique() > 1 else None
    return (
        f"| {cohort.parent.name} | {len(table)} | {int((thirds.sum(axis=1) > 0).sum())} | {residual.std():.3f} | "
        f"{effect.std():.3f} | {ceiling:.2f} | {held_out(thirds, residual):.2f} | {held_out(whole, function):.2f} | "
        f"{'' if sites is None else f'{held_out(whole, function, sites):.2f}'} |"
    )


def held_out(
    truth: NDArray[np.float64], wanted: NDArray[np.float64], sites: NDArray[np.object_] | None = None
) -> float:
    """R² of ridge regression on the columns of ``truth`` (n, k): ten divisions into five folds, or sites left out."""
    ridge, spread = RidgeCV(STRENGTHS), truth.std(axis=0)
    x = truth[:, spread > 0] / spread[spread > 0]
    folds = [KFold(5, shuffle=True, random_state=seed) for seed in range(10)] if sites is None else [LeaveOneGroupOut()]
    return float(
        np.mean([r2_score(wanted, cross_val_predict(ridge, x, wanted, groups=sites, cv=one)) for one in folds])
    )


if __name__ == "__main__":
    main()
