"""How much of lung function at matched extent the place of emphysema could explain, were it known exactly.

    python benchmarks/matched_extent.py COHORT.csv [COHORT.csv …]

Of each phantom cohort: the standard deviation of log FEV1pp after a regression on all true extents (quadratic where
there are three subjects a term), that of what the place of emphysema does to it by the phantom's formula, the squared
correlation of both (the ceiling of any method), and the R² of ridge regression on the true extents of the thirds,
held-out subjects at once, mean of ten divisions into five folds. No scan is read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from release_study import MATCHED, with_matched_extent
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict

from anatograph.phantoms.variables import FEV1_BY_THIRD

THIRDS = ("upper", "middle", "lower")
"""Thirds of the lungs by height; their volumes are taken as equal."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohorts", type=Path, nargs="+", help="cohort.csv of phantoms")
    print("| cohort | subjects | with emphysema | residual SD | SD of place's effect | ceiling R² | true thirds, R² |")
    print("|---|---|---|---|---|---|---|")
    for cohort in parser.parse_args().cohorts:
        print(row(cohort), flush=True)


def row(cohort: Path) -> str:
    """One line of the table."""
    table = pd.read_csv(with_matched_extent(cohort))
    residual = table[MATCHED].to_numpy(float)
    thirds = table[[f"emphysema_{third}" for third in THIRDS]].to_numpy(float) / 3
    lost = thirds @ np.array([FEV1_BY_THIRD[third] for third in THIRDS])
    place = FEV1_BY_THIRD["middle"] * thirds.sum(axis=1) - lost
    effect = np.log1p(place / (table["FEV1pp"].to_numpy(float) - place))
    ceiling = float(np.corrcoef(effect, residual)[0, 1]) ** 2
    features = thirds / thirds.std(axis=0)
    scores = []
    for seed in range(10):
        folds = KFold(5, shuffle=True, random_state=seed)
        scores.append(
            r2_score(residual, cross_val_predict(RidgeCV(np.logspace(-2, 4, 25)), features, residual, cv=folds))
        )
    return (
        f"| {cohort.parent.name} | {len(table)} | {int((thirds.sum(axis=1) > 0).sum())} | {residual.std():.3f} | "
        f"{effect.std():.3f} | {ceiling:.2f} | {np.mean(scores):.2f} |"
    )


if __name__ == "__main__":
    main()
