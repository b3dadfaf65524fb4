"""What is to be predicted: a column of the cohort table as numbers or as classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.choices import TargetKind, Task
from anatograph.errors import UserError, no_column

MAX_INTEGER_CLASSES = 6
"""Whole numbers with at most this many different values are taken for scores (GOLD, CLE, mMRC, severity)."""
MAX_STEPS = 20
"""An ordinal target has at most this many different values."""


@dataclass(frozen=True, eq=False)
class Target:
    """One column to predict, for the subjects that have a value."""

    name: str
    """The column."""
    task: TargetKind
    """How it is predicted."""
    rows: NDArray[np.int64]
    """(n,) rows of the table that have a value, ascending."""
    values: NDArray[np.float64]
    """(n,) the value, on the log scale where requested; for classes and steps the index into ``classes``; for
    survival 1 where the event was observed."""
    classes: tuple[str, ...] = ()
    """Names of the classes or steps, in order; empty for a regression."""
    ordered: bool = False
    """Whether the classes are steps of a score, so that being off by one means something."""
    notes: tuple[str, ...] = ()
    """What was decided or left out, in plain sentences."""
    times: NDArray[np.float64] | None = None
    """(n,) time to the event or the end of follow-up, in the table's unit; None unless it is survival."""

    def keep(self, chosen: NDArray[np.bool_], note: str) -> Target:
        """Only the subjects where ``chosen`` (n,) is true; classes left empty are dropped, and ``note`` is added."""
        rows, values, classes = self.rows[chosen], self.values[chosen], self.classes
        times = None if self.times is None else self.times[chosen]
        if classes:
            left = sorted({int(v) for v in values})
            values = np.array([left.index(int(v)) for v in values], dtype=np.float64)
            classes = tuple(classes[i] for i in left)
        return replace(self, rows=rows, values=values, classes=classes, notes=(*self.notes, note), times=times)

    def shuffled(self, random: np.random.Generator, groups: NDArray[np.int64] | None) -> Target:
        """The same values shuffled: between ``groups`` (n,) if each has one value, else between rows."""
        if groups is not None:
            _, first, place = np.unique(groups, return_index=True, return_inverse=True)
            if all(np.array_equal(column[first][place], column) for column in self._columns()):
                return self._with_rows(random.permutation(first)[place])
        return self._with_rows(random.permutation(len(self.values)))

    def _columns(self) -> list[NDArray[np.float64]]:
        return [self.values] if self.times is None else [self.values, self.times]

    def _with_rows(self, order: NDArray[np.int64]) -> Target:
        times = None if self.times is None else self.times[order]
        return replace(self, values=self.values[order], times=times)


def read_target(table: pd.DataFrame, name: str, task: Task | None = None, log: bool = False) -> Target:
    """Read the column ``name`` of a cohort table.

    Without ``task``: text, booleans and whole numbers of at most six different values (two subjects each on
    average) are classes, every other number is a continuous value.  ``log`` takes the natural logarithm of a
    continuous value, as the paper does with FEV1pp and FEV1/FVC.  With ``task`` "ordinal" numbers are steps of a
    score, in their order.  Subjects without a value are left out and counted.

    Raises:
        UserError: no such column, no values, one value only, or a value that the task cannot take.
    """
    if name not in table.columns and ":" in name:
        raise UserError(
            f"The cohort has no column '{name}'; EVENT:TIME, the time to an event, is a target of `evaluate` and "
            "`audit` alone."
        )
    if name not in table.columns:
        raise no_column(name, table.columns)
    column = table[name]
    known = np.asarray(column.notna(), dtype=bool)
    rows = np.flatnonzero(known).astype(np.int64)
    notes = [f"{len(column) - len(rows)} of {len(column)} subjects have no value of {name} and are left out"]
    if len(rows) == len(column):
        notes = []
    notes = [*table.attrs.get("notes", {}).get(name, ()), *notes]
    if not len(rows):
        raise UserError(
            f"No subject with an embedding has a value in the column '{name}'; fill it in or name another target."
        )
    held = column[known]
    numbers = _as_numbers(held)
    chosen = task or _guess(numbers)
    if chosen == "regression":
        return _continuous(name, rows, numbers, held, log, notes)
    if log:
        raise UserError(
            f"'{name}' is a class, so it has no logarithm; leave it out of --log or give --task regression."
        )
    found = _classes(name, rows, numbers, held, notes, guessed=task is None)
    return _steps(found, numbers, held) if chosen == "ordinal" else found


def _steps(target: Target, numbers: NDArray[np.float64] | None, held: pd.Series) -> Target:
    """Ordered classes."""
    name, count = target.name, len(target.classes)
    if numbers is None:
        raise UserError(
            f"'{name}' holds text such as '{held.iloc[0]}', which has no order to go by; give its steps as numbers, or "
            f"use --task {name}=classification."
        )
    if count > MAX_STEPS:
        raise UserError(f"'{name}' has {count} different values, too many for steps; use --task {name}=regression.")
    return replace(target, task="ordinal", ordered=True)


def _as_numbers(held: pd.Series) -> NDArray[np.float64] | None:
    """The values as float64, or None for text and booleans."""
    if isinstance(held.dtype, pd.CategoricalDtype):
        held = held.astype(held.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(held) or not pd.api.types.is_numeric_dtype(held):
        return None
    return np.asarray(held, dtype=np.float64)


def _guess(numbers: NDArray[np.float64] | None) -> Task:
    if numbers is None:
        return "classification"
    whole = bool(np.all(numbers == np.rint(numbers)))
    different = len(np.unique(numbers))
    few = different == 2 or (different <= MAX_INTEGER_CLASSES and len(numbers) >= 2 * different)
    return "classification" if whole and few else "regression"


def _continuous(
    name: str,
    rows: NDArray[np.int64],
    numbers: NDArray[np.float64] | None,
    held: pd.Series,
    log: bool,
    notes: list[str],
) -> Target:
    if numbers is None:
        example = next((str(v) for v in held if not _is_number(v)), str(held.iloc[0]))
        raise UserError(f"'{name}' cannot be regressed: it holds text such as '{example}'; use --task classification.")
    if not np.isfinite(numbers).all():
        raise UserError(f"'{name}' holds infinite values; fix the cohort table.")
    if log:
        if (numbers <= 0).any():
            raise UserError(
                f"'{name}' has {int((numbers <= 0).sum())} values of zero or below, which have no logarithm."
            )
        numbers = np.log(numbers)
        notes = [*notes, f"{name} is on the natural log scale"]
    if np.ptp(numbers) == 0:
        raise UserError(f"'{name}' has the same value for all subjects, so there is nothing to predict.")
    return Target(name, "regression", rows, numbers, notes=tuple(notes))


def _classes(
    name: str,
    rows: NDArray[np.int64],
    numbers: NDArray[np.float64] | None,
    held: pd.Series,
    notes: list[str],
    guessed: bool,
) -> Target:
    ordered = False
    if numbers is not None:
        levels, codes = np.unique(numbers, return_inverse=True)
        names = tuple(str(int(v)) if v == np.rint(v) else f"{v:g}" for v in levels)
        ordered = len(levels) > 2 and bool(np.all(np.diff(levels) == 1))
        if guessed and len(levels) > 2:
            choice = f"--task {name}=ordinal to use their order, {name}=regression to regress it"
            notes = [*notes, f"{name} is taken as {len(levels)} classes ({choice})"]
    else:
        text = np.array([str(v).strip() for v in held], dtype=object)
        found, codes = np.unique(text.astype(str), return_inverse=True)
        names = tuple(str(v) for v in found)
    if len(names) < 2:
        raise UserError(f"'{name}' has the same value ({names[0]}) for all subjects, so there is nothing to predict.")
    return Target(
        name,
        "classification",
        rows,
        cast("NDArray[np.float64]", codes.astype(np.float64)),
        names,
        ordered,
        tuple(notes),
    )


def _is_number(value: object) -> bool:
    try:
        float(cast("float", value))
    except (TypeError, ValueError):
        return False
    return True
