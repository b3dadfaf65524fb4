"""Scores and predictions as rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from anatograph.evaluation.scores import Predictions, Score
from anatograph.evaluation.targets import Target

FURTHER = ("survival", "kaplan_meier", "calibration", "adjusted", "harmonisation", "learning_curve")
"""Tables that some targets or options have, by the name of their CSV file."""


class Tables:
    """Collects rows of the further tables, target by target."""

    def __init__(self) -> None:
        self._found: dict[str, list[pd.DataFrame]] = {}

    def add(self, tables: Mapping[str, pd.DataFrame]) -> None:
        """Add the rows of one target."""
        for name, table in tables.items():
            self._found.setdefault(name, []).append(table)

    def joined(self) -> dict[str, pd.DataFrame]:
        """Each table as a whole."""
        return {name: pd.concat(found, ignore_index=True) for name, found in self._found.items()}


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame | None]) -> list[Path]:
    """Write the tables by their file names and return their paths; None removes that of an earlier run."""
    written = []
    for name, table in tables.items():
        path = folder / name
        if table is None:
            path.unlink(missing_ok=True)
            continue
        table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)
        written.append(path)
    return written


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
    if target.times is not None:
        outcome = {"event": target.values.astype(np.int64), "time": target.times}
        return pd.DataFrame({**rows, **outcome, "log_hazard": done.predicted, "risk_by_horizon": done.risk})
    if done.probabilities is None:
        return pd.DataFrame({**rows, "truth": target.values, "prediction": done.predicted})
    names = np.array(target.classes, dtype=object)
    rows |= {
        "truth_class": names[target.values.astype(np.int64)],
        "predicted_class": names[done.predicted.astype(np.int64)],
    }
    chances = {f"probability_{name}": done.probabilities[:, k] for k, name in enumerate(target.classes)}
    return pd.DataFrame({**rows, **chances})
