"""A linear probe of a label after each epoch, to watch a run by; `anatograph evaluate` gives the result to report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.typed_settings import nearest

if TYPE_CHECKING:
    import pandas as pd


def probe_labels(table: Path, target: str) -> pd.Series:
    """The column ``target`` of a cohort table by subject_id.

    Raises:
        UserError: the table cannot be read or has no such column.
    """
    from anatograph.study.cohort import read_cohort

    frame = read_cohort(table).table
    if target not in frame:
        near = nearest(target, map(str, frame.columns))
        raise UserError(f"probe_table {table} has no column {target!r}; did you mean {near!r}?")
    return frame.set_index("subject_id")[target]


def probe_score(features: NDArray[np.float32], values: pd.Series) -> float:
    """Five-fold score of a linear probe: R² where ``values`` are numbers, balanced accuracy where they are classes.

    ``features`` (S, F) of the subjects whose labels ``values`` (S,) are, in the same order; nan with fewer than 10
    labelled subjects. An estimate with groups and inner folds comes from ``anatograph evaluate``.
    """
    import pandas as pd
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

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
