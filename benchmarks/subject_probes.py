"""What the mean of a subject's regions predicts: repeated folds over the subjects of several cohorts."""

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


def subject_scores(features: Array, table: pd.DataFrame, repeats: int = 10) -> dict[str, float]:
    """R² of ridge probes for each of `TARGETS` (log FEV1/FVC, CLE as a number) and the accuracy of predicting the
    scanner (``site``), from (S, N, F) region features: partially whitened (exponent 0.5) and averaged over regions.

    Means over ``repeats`` five-fold rounds; all runs use the same folds, so differences between runs are more precise
    than the scores themselves.
    """
    vectors = np.nanmean(features, axis=1) @ whitening(features, 0.5)
    scores: dict[str, float] = {}
    for target in TARGETS:
        y = table[target].to_numpy(float)
        y = np.log(y) if target == "FEV1_FVC" else y
        rounds = [r2_score(y, _held_out(vectors, y, seed, RidgeCV(_STRENGTHS))) for seed in range(repeats)]
        scores[target] = float(np.mean(rounds))
    site = np.unique(table["site"].to_numpy(str), return_inverse=True)[1].astype(float)
    correct = [_held_out(vectors, site, seed, RidgeClassifierCV(_STRENGTHS)) == site for seed in range(3)]
    return {**scores, "site": float(np.mean(correct))}


def _held_out(vectors: Array, y: Array, seed: int, probe: Any) -> Array:
    predicted = np.zeros(len(y))
    for train, test in KFold(5, shuffle=True, random_state=seed).split(vectors):
        predicted[test] = make_pipeline(StandardScaler(), probe).fit(vectors[train], y[train]).predict(vectors[test])
    return predicted
