"""A linear probe of a label after each epoch, to watch a run by; `anatograph evaluate` gives the result to report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError


def probe_score(features: NDArray[np.float32], ids: Sequence[str], table: Path, target: str) -> float:
    """Five-fold score of a linear probe: R² where ``target`` holds numbers, balanced accuracy where it holds classes.

    ``features`` (S, F) of subjects ``ids``; nan with fewer than 10 labelled subjects. An estimate with groups and
    inner folds comes from ``anatograph evaluate``. Raises ``UserError`` for a missing table or column.
    """
    import pandas as pd
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not table.is_file():
        raise UserError(f"probe_table {table} does not exist.")
    if table.suffix == ".parquet":
        frame = pd.read_parquet(table)
    else:
        frame = pd.read_csv(table, sep="\t" if table.suffix == ".tsv" else ",", dtype={"subject_id": str})
    if "subject_id" not in frame or target not in frame:
        raise UserError(f"probe_table {table} has no column {target if 'subject_id' in frame else 'subject_id'!r}.")
    values = frame.set_index(frame["subject_id"].astype(str))[target].reindex(list(ids))
    known = values.notna().to_numpy()
    y = values[known]
    if len(y) < 10:
        return float("nan")
    x = features[known]
    if pd.api.types.is_numeric_dtype(y) and not pd.api.types.is_bool_dtype(y) and y.nunique() > 2:
        folds = KFold(5, shuffle=True, random_state=0)
        probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
        return float(cross_val_score(probe, x, y.astype(float), cv=folds, scoring="r2").mean())
    if y.value_counts().min() < 5:
        return float("nan")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    classes = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(cross_val_score(probe, x, y.astype(str), cv=classes, scoring="balanced_accuracy").mean())
