"""What the mean of a person's regions tells of the person: repeated folds over the people of several cohorts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anatograph.learning.model.whitening import whitening

Array = NDArray[np.float64]
TARGETS = ("emphysema_extent", "ground_glass_extent", "FEV1_FVC", "CLE")
_STRENGTHS = np.logspace(-2, 5, 15)


def people_scores(features: Array, table: pd.DataFrame, repeats: int = 10) -> dict[str, float]:
    """R² of ridge probes for each of `TARGETS` (FEV1/FVC as its logarithm, CLE as a number), and how often the
    scanner is guessed right (``site``), from (S, N, F) features of regions: half whitened, and averaged over them.

    Means over ``repeats`` times five folds, all runs on the same folds, so that differences between runs mean more than
    the figures themselves.
    """
    vectors = np.nanmean(features, axis=1) @ whitening(features, 0.5)
    found: dict[str, float] = {}
    for target in TARGETS:
        y = table[target].to_numpy(float)
        y = np.log(y) if target == "FEV1_FVC" else y
        scores = [r2_score(y, _guess(vectors, y, seed, RidgeCV(_STRENGTHS))) for seed in range(repeats)]
        found[target] = float(np.mean(scores))
    site = np.unique(table["site"].to_numpy(str), return_inverse=True)[1].astype(float)
    right = [_guess(vectors, site, seed, RidgeClassifierCV(_STRENGTHS)) == site for seed in range(3)]
    return {**found, "site": float(np.mean(right))}


def _guess(vectors: Array, y: Array, seed: int, probe: Any) -> Array:
    guess = np.zeros(len(y))
    for learn, tell in KFold(5, shuffle=True, random_state=seed).split(vectors):
        guess[tell] = make_pipeline(StandardScaler(), probe).fit(vectors[learn], y[learn]).predict(vectors[tell])
    return guess
