"""Each value of a column in turn as the test set: does a result hold on a scanner, site or study never seen?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError, no_column
from anatograph.evaluation.cross_validation import collect
from anatograph.evaluation.folds import Split
from anatograph.evaluation.scores import BOOTSTRAPS, Predictions, Score, score
from anatograph.evaluation.targets import Target

PREFIX = "leave_out_"
"""Begins the names of metrics over left-out values."""
_MOST, _PARTS = 100, 5


@dataclass(frozen=True, eq=False)
class LeaveOut:
    """The values of a column and the subjects that have each."""

    column: str
    """The column, such as ``site``."""
    values: tuple[str, ...]
    """Its values, in alphabetical order."""
    labels: NDArray[np.int64]
    """(S,) index into ``values`` of each row of the table."""
    splits: tuple[Split, ...]
    """Rows of the table to fit on and to predict; every row is predicted once."""
    value_of_split: tuple[int, ...]
    """Index into ``values`` of the value that each split leaves out."""

    def splits_of(self, target: Target) -> list[Split]:
        """The splits as rows of a target's own n subjects; those without a subject of the target are skipped.

        Raises:
            UserError: the target is the column itself, is known for one value only, or has a single class elsewhere.
        """
        if target.name == self.column:
            raise UserError(f"'{target.name}' cannot be predicted while its own values are left out.")
        found = []
        for value, (train, test) in zip(self.value_of_split, self.splits, strict=True):
            own = [np.flatnonzero(np.isin(target.rows, part)).astype(np.int64) for part in (train, test)]
            if not len(own[1]):
                continue
            if len(own[0]) < 2 or (target.classes and len(np.unique(target.values[own[0]])) < 2):
                raise UserError(
                    f"'{target.name}' cannot be predicted for {self.column} {self.values[value]}: too few subjects or "
                    "a single class elsewhere."
                )
            found.append((own[0], own[1]))
        if len(np.unique(self.labels[target.rows])) < 2:
            raise UserError(f"'{target.name}' is known for a single value of {self.column}.")
        return found

    def collected(self, target: Target, predicted: Sequence[NDArray[np.float64]]) -> Predictions:
        """Predictions for each of `splits_of`, put together; their ``fold`` is the value that was left out."""
        return replace(collect(target, self.splits_of(target), predicted), fold=self.labels[target.rows])


def leave_out(table: pd.DataFrame, column: str, groups: NDArray[np.int64] | None = None) -> LeaveOut:
    """Split the rows of a cohort table by a column.

    A member of a test subject's group (``groups`` (S,)) is never fitted on: where groups have several values, as a
    patient scanned at several sites, the groups of a value are predicted in up to five parts, each from the other
    values and the other groups.

    Raises:
        UserError: no such column, missing values, fewer than 2 values, or no other subject left to fit on.
    """
    if column not in table.columns:
        raise no_column(column, table.columns, purpose="to leave out")
    empty = table.loc[table[column].isna(), "subject_id"].astype(str).tolist()
    if empty:
        raise UserError(
            f"'{column}' is empty for {len(empty)} subjects ({', '.join(empty[:5])}); fill it in, or remove them."
        )
    values, labels = np.unique(np.asarray(table[column].astype("str"), dtype=str), return_inverse=True)
    if not 2 <= len(values) <= _MOST:
        raise UserError(
            f"'{column}' has {len(values)} different values; leaving one out needs 2 to {_MOST}, such as sites."
        )
    splits, value_of_split = [], []
    for number, name in enumerate(values):
        here, elsewhere = np.flatnonzero(labels == number), np.flatnonzero(labels != number)
        parts = [here]
        if groups is not None and np.isin(groups[here], groups[elsewhere]).any():
            units = np.unique(groups[here])
            chosen = np.array_split(units, min(_PARTS, len(units)))
            parts = [here[np.isin(groups[here], part)] for part in chosen]
        for test in parts:
            train = elsewhere if groups is None else elsewhere[~np.isin(groups[elsewhere], groups[test])]
            if not len(train):
                raise UserError(
                    f"Every subject belongs to a group of {column} {name}, so no subject is left to fit on."
                )
            splits.append((train.astype(np.int64), test.astype(np.int64)))
            value_of_split.append(number)
    return LeaveOut(column, tuple(map(str, values)), labels.astype(np.int64), tuple(splits), tuple(value_of_split))


def leave_out_scores(
    target: Target, predictions: Predictions, seed: int = 0, bootstraps: int = BOOTSTRAPS, intervals: bool = False
) -> list[Score]:
    """The figures of `score` with names that begin with `PREFIX`; mean and deviation are over the left-out values.

    ``predictions`` are those of `LeaveOut.collected`. ``leave_out_r2_pooled`` compares all left-out
    subjects at once.
    """
    return [
        replace(one, metric=PREFIX + one.metric)
        for one in score(target, predictions, None, seed, bootstraps, intervals)
        if one.metric != "accuracy_majority"
    ]
