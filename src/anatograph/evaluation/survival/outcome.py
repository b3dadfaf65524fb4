"""A survival outcome: whether and when an event was observed, from two columns of the cohort table."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError, no_column
from anatograph.evaluation.targets import Target

_YES = frozenset({"1", "1.0", "true", "yes", "event", "dead", "died"})
_NO = frozenset({"0", "0.0", "false", "no", "censored", "alive"})
_HORIZON_SHARE = 0.75


def is_survival(name: str, columns: list[Hashable] | pd.Index) -> bool:
    """Whether ``name`` is EVENT:TIME rather than a column that has a colon in its name."""
    return ":" in name and name not in set(columns)


def read_survival(table: pd.DataFrame, name: str) -> Target:
    """Read the columns of ``name`` = "EVENT:TIME" of a cohort table.

    EVENT is 1 (or true, yes) where the event was observed and 0 (or false, no) where follow-up ended without it; TIME
    is the time from the scan to either, in any unit, above 0.  Subjects that lack one of both are left out and counted.

    Raises:
        UserError: a missing column, values that are neither, times that are not positive numbers, or no event.
    """
    event_name, _, time_name = name.partition(":")
    for column, role in ((event_name, "event"), (time_name, "time")):
        if column not in table.columns:
            raise no_column(column, table.columns, f"--target {name}", role=role)
    known = np.asarray(table[event_name].notna() & table[time_name].notna(), dtype=bool)
    rows = np.flatnonzero(known).astype(np.int64)
    if not len(rows):
        raise UserError(f"--target {name}: no subject with an embedding has both columns; fill them in.")
    ids = table["subject_id"].astype(str).to_numpy()[rows]
    events = _events(table[event_name][known], event_name, name)
    times = _times(table[time_name][known], time_name, name, ids)
    if not events.any():
        raise UserError(
            f"--target {name}: '{event_name}' has no event among {len(rows)} subjects, so there is nothing to predict."
        )
    notes = []
    if len(rows) < len(table):
        notes.append(f"{len(table) - len(rows)} of {len(table)} subjects lack {event_name} or {time_name}, left out")
    return Target(name, "survival", rows, events, notes=tuple(notes), times=times)


def horizon(target: Target) -> float:
    """The time by which three quarters of the observed events have happened: risks are predicted for it.

    Later, few subjects are still followed, and a comparison with what was observed means little.
    """
    assert target.times is not None
    return float(np.quantile(target.times[target.values > 0], _HORIZON_SHARE, method="lower"))


def _events(column: pd.Series, column_name: str, name: str) -> NDArray[np.float64]:
    words = column.astype("str").str.strip().str.lower()
    odd = sorted(set(words) - _YES - _NO)
    if odd:
        raise UserError(
            f"--target {name}: '{column_name}' must be 1 where the event was observed and 0 where follow-up ended "
            f"without it, but holds '{odd[0]}'; recode it (competing events need a decision: censored or event)."
        )
    return np.asarray(words.isin(_YES), dtype=np.float64)


def _times(column: pd.Series, column_name: str, name: str, ids: NDArray[np.object_]) -> NDArray[np.float64]:
    times = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    wrong = ~np.isfinite(times) | (times <= 0)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"--target {name}: '{column_name}' must be a time above 0 from the scan to the event or the end of "
            f"follow-up, but {ids[first]} has '{column.iloc[first]}' ({int(wrong.sum())} such rows); correct them, or "
            "empty them to leave these subjects out."
        )
    return times
