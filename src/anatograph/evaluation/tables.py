"""Scores and predictions as rows of tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anatograph.evaluation.scores import Predictions, Score
from anatograph.evaluation.targets import Target


def score_row(target: Target, s: Score, interval: bool) -> dict[str, str | float | int]:
    """target, metric, mean, std, folds, n, and with an interval pooled, low, high."""
    row: dict[str, str | float | int] = {
        "target": target.name,
        "metric": s.metric,
        "mean": s.mean,
        "std": s.std,
        "folds": s.folds,
        "n": len(target.rows),
    }
    return {**row, "pooled": s.pooled, "low": s.low, "high": s.high} if interval else row


def prediction_table(table: pd.DataFrame, target: Target, done: Predictions) -> pd.DataFrame:
    """target, subject_id, fold and what was true and predicted, numbers and classes in columns of their own."""
    rows: dict[str, object] = {
        "target": target.name,
        "subject_id": table["subject_id"].to_numpy()[target.rows],
        "fold": done.fold,
    }
    if done.probabilities is None:
        return pd.DataFrame({**rows, "truth": target.values, "prediction": done.predicted})
    names = np.array(target.classes, dtype=object)
    rows |= {
        "truth_class": names[target.values.astype(np.int64)],
        "predicted_class": names[done.predicted.astype(np.int64)],
    }
    chances = {f"probability_{name}": done.probabilities[:, k] for k, name in enumerate(target.classes)}
    return pd.DataFrame({**rows, **chances})
