"""What no scan is needed for: the floor that a row of the benchmark must rise above."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.baselines.method import FoldMethod, Scans, SupervisedMethod
from anatograph.errors import UserError
from anatograph.evaluation.targets import Target

FLOORS = ("majority", "covariates")
"""Slugs of the rows of this file; they are always there."""
COVARIATES = ("age", "sex", "site")
"""Columns that are taken, as far as the cohort has them, where none are named."""
_MOST_LEVELS = 20


class Majority(SupervisedMethod):
    """Says the same of everybody: the mean of the people fitted on, or their most frequent class."""

    slug = "majority"
    title = "Majority class, mean"
    learns = "labels, in each fold"

    def predict(
        self, scans: Scans, target: Target, train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """See `SupervisedMethod.predict`."""
        values = target.values[np.isin(target.rows, train)]
        if not target.classes:
            return np.full(len(test), values.mean())
        counts = np.bincount(values.astype(np.int64), minlength=len(target.classes))
        return np.tile(counts / counts.sum(), (len(test), 1))


class Covariates(FoldMethod):
    """A linear probe on what is known of a person without a scan."""

    slug = "covariates"
    title = "Covariates alone"
    learns = "without labels, in each fold"

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.note = ", ".join(columns)

    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `FoldMethod.embed_fold`: one column a number or a level, what is missing filled from the fold.

        Raises:
            UserError: no covariate to work with.
        """
        if not self.columns:
            raise UserError(
                f"the cohort has none of the columns {', '.join(COVARIATES)}; name others with --covariates"
            )
        return np.concatenate([_columns(scans.table[name], train) for name in self.columns], axis=1)


def chosen_covariates(table: pd.DataFrame, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The columns asked for, or those of `COVARIATES` that the table has and that vary.

    Raises:
        UserError: a column asked for that is not there, or text with too many different values.
    """
    names = tuple(dict.fromkeys(asked)) if asked is not None else COVARIATES
    if asked is not None and (missing := [name for name in names if name not in table.columns]):
        raise UserError(
            f"The cohort has no column {', '.join(missing)} to take as a covariate; it has: "
            f"{', '.join(map(str, table.columns))}."
        )
    kept = tuple(name for name in names if name in table.columns and table[name].nunique(dropna=True) > 1)
    for name in kept:
        if not pd.api.types.is_numeric_dtype(table[name]) and table[name].nunique() > _MOST_LEVELS:
            raise UserError(
                f"The covariate '{name}' is text with {table[name].nunique()} different values; give a column of "
                f"numbers or of at most {_MOST_LEVELS} levels."
            )
    return kept


def _columns(values: pd.Series, train: NDArray[np.int64]) -> NDArray[np.float64]:
    """(S, D): the number and whether it is missing, or one column for each level that the people fitted on have."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = ~np.isfinite(numbers)
        known = numbers[train][~missing[train]]
        filled = np.where(missing, known.mean() if len(known) else 0.0, numbers)
        return np.stack([filled, missing.astype(np.float64)], axis=1)
    text = values.astype("str").where(values.notna(), "").to_numpy(dtype=str)
    levels = np.unique(text[train])
    return np.asarray(text[:, None] == levels[None, :], dtype=np.float64)
