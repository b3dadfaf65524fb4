"""What is known of a subject without a scan: age, sex, site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.baselines.method import FoldMethod, Learns, Scans
from anatograph.errors import UserError, no_column

COVARIATES = ("age", "sex", "site")
"""Columns used where none are named, as far as the cohort has them."""
_MAX_LEVELS = 20


class Covariates(FoldMethod):
    """A linear probe on covariates alone."""

    slug = "covariates"
    title = "Covariates alone"
    learns: ClassVar[Learns] = "without labels, in each fold"

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(progress=False)
        self.columns = tuple(columns)
        self.note = ", ".join(columns)

    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `FoldMethod.embed_fold`: one column per number or level, missing values imputed from the fold.

        Raises:
            UserError: no covariates.
        """
        if not self.columns:
            raise UserError(
                f"the cohort has none of the columns {', '.join(COVARIATES)}; name others with --covariates"
            )
        return np.concatenate([design_columns(scans.table[name], train) for name in self.columns], axis=1)


def chosen_covariates(table: pd.DataFrame, requested: Sequence[str] | None) -> tuple[str, ...]:
    """The requested columns, or those of `COVARIATES` that the table has; constant columns are dropped.

    Raises:
        UserError: a requested column that the table lacks, or text with too many different values.
    """
    names = tuple(dict.fromkeys(requested)) if requested is not None else COVARIATES
    if requested is not None and (missing := [name for name in names if name not in table.columns]):
        raise no_column(missing[0], table.columns, purpose="to use as a covariate")
    usable = tuple(name for name in names if name in table.columns and table[name].nunique(dropna=True) > 1)
    for name in usable:
        if not pd.api.types.is_numeric_dtype(table[name]) and table[name].nunique() > _MAX_LEVELS:
            raise UserError(
                f"The covariate '{name}' is text with {table[name].nunique()} different values; give a column of "
                f"numbers or of at most {_MAX_LEVELS} levels."
            )
    return usable


def design_columns(values: pd.Series, train: NDArray[np.int64]) -> NDArray[np.float64]:
    """(S, D) the number and a missingness indicator, or one indicator per level seen among the training subjects."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = ~np.isfinite(numbers)
        known = numbers[train][~missing[train]]
        filled = np.where(missing, known.mean() if len(known) else 0.0, numbers)
        return np.stack([filled, missing.astype(np.float64)], axis=1)
    text = values.astype("str").where(values.notna(), "").to_numpy(dtype=str)
    levels = np.unique(text[train])
    return np.asarray(text[:, None] == levels[None, :], dtype=np.float64)
