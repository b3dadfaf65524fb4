"""Covariates as columns of a design matrix, with categories and missing values made explicit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError, no_column
from anatograph.evaluation.targets import MAX_INTEGER_CLASSES

MAX_LEVELS = 20
"""A categorical covariate has at most this many levels."""
_MISSING = "(missing)"


@dataclass(frozen=True, eq=False)
class Covariate:
    """One column of the cohort table."""

    name: str
    """The column."""
    numbers: NDArray[np.float64] | None
    """(S,) values, NaN where missing; None for a categorical one."""
    labels: NDArray[np.str_]
    """(S,) level of each row, a level of its own where missing; empty for numbers."""

    def columns(self, train: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S, D) columns, from what the rows ``train`` show.

        Numbers are one column, missing ones replaced by the training rows' mean, and an indicator of the missing where
        there are any; a category has an indicator for each level but the most frequent, which like a level that no
        training row has is zero in all.
        """
        if self.numbers is not None:
            missing = ~np.isfinite(self.numbers)
            known = self.numbers[train][~missing[train]]
            filled = np.where(missing, known.mean() if len(known) else 0.0, self.numbers)
            columns = [filled, missing.astype(np.float64)] if missing.any() else [filled]
            return np.stack(columns, axis=1)
        levels, counts = np.unique(self.labels[train], return_counts=True)
        shown = np.delete(levels, int(counts.argmax()))
        return np.asarray(self.labels[:, None] == shown[None, :], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Covariates:
    """All covariates of an analysis."""

    columns: tuple[Covariate, ...]
    """In the order in which they were named."""
    notes: tuple[str, ...]
    """How categories and missing values are handled, in plain sentences."""

    @property
    def names(self) -> tuple[str, ...]:
        """Their columns in the cohort table."""
        return tuple(one.name for one in self.columns)

    def without(self, name: str) -> Covariates:
        """All but that of column ``name``."""
        return Covariates(tuple(one for one in self.columns if one.name != name), self.notes)

    def design(self, train: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S, D) standardised by the rows ``train``; columns that do not vary there are left out."""
        blocks = [one.columns(train) for one in self.columns]
        whole = np.concatenate(blocks, axis=1) if blocks else np.zeros((0, 0))
        spread = whole[train].std(axis=0)
        varied = spread > 1e-9
        return np.asarray((whole[:, varied] - whole[train].mean(axis=0)[varied]) / spread[varied], dtype=np.float64)


def read_covariates(table: pd.DataFrame, names: Sequence[str], flag: str = "--adjust") -> Covariates:
    """Read the columns ``names`` of a cohort table.

    As for targets, text, booleans and whole numbers of at most six different values (two subjects each on average) are
    categories, all else numbers.

    Raises:
        UserError: a missing or empty column, one value only, infinite numbers, or text with too many values.
    """
    found, notes = [], []
    for name in dict.fromkeys(names):
        if name not in table.columns:
            raise no_column(name, table.columns, flag)
        column = table[name]
        missing = int(column.isna().sum())
        different = int(column.nunique(dropna=True))
        if different < 2:
            raise UserError(f"{flag}: '{name}' has {different or 'no'} value for all subjects; leave it out.")
        one = _read(name, column, flag)
        found.append(one)
        if one.numbers is None:
            counts = {str(level): int(count) for level, count in column.astype("str").value_counts().items()}
            kept = {level: count for level, count in counts.items() if level not in ("nan", "<NA>", "None")}
            notes.append(f"{flag} {name}: a category of {len(kept)} levels (" + _counts(kept) + ")")
        if missing:
            how = "a level of its own" if one.numbers is None else "the training subjects' mean, and an indicator"
            notes.append(f"{flag} {name}: missing for {missing} of {len(column)} subjects, taken as {how}")
    return Covariates(tuple(found), tuple(notes))


def _read(name: str, column: pd.Series, flag: str) -> Covariate:
    plain = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if plain:
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        known = numbers[~np.isnan(numbers)]
        if not np.isfinite(known).all():
            raise UserError(f"{flag}: '{name}' holds infinite values; correct the cohort table.")
        levels = len(np.unique(known))
        few = levels == 2 or (levels <= MAX_INTEGER_CLASSES and len(known) >= 2 * levels)
        if not (few and np.all(known == np.rint(known))):
            return Covariate(name, numbers, np.zeros(0, dtype=str))
    different = int(column.nunique(dropna=True))
    if different > MAX_LEVELS:
        raise UserError(
            f"{flag}: '{name}' is text with {different} different values; give a column of numbers or of at most "
            f"{MAX_LEVELS} levels."
        )
    labels = np.asarray(column.astype("str").where(column.notna(), _MISSING), dtype=str)
    return Covariate(name, None, labels)


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{level}: {count}" for level, count in list(counts.items())[:6]]
    return ", ".join(shown) + (", …" if len(counts) > len(shown) else "")
