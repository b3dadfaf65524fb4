"""Rates of change over several visits as a target, predicted from the first scan."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError, no_column
from anatograph.evaluation.targets import Target, read_target


def read_slope(
    table: pd.DataFrame, visits: pd.DataFrame, name: str, group: str | None, time: str | None, log: bool = False
) -> Target:
    """The least-squares slope of the column ``name`` over ``time``, one value a patient (column ``group``).

    The unit is that of the column per unit of time, on the log scale with ``log``.  The slope is that of all
    ``visits``, whether they have an embedding or not; the rows of ``table`` have one, and the earliest of each patient
    predicts the rate.  Patients with a value at fewer than two different times are left out and counted.

    Raises:
        UserError: a missing column, times that are not numbers, no patient with two visits, or one slope for all.
    """
    if group is None or time is None:
        missing = " and ".join(flag for flag, value in (("--group", group), ("--visit-time", time)) if value is None)
        raise UserError(
            f"--task {name}=slope needs {missing}: the column of the patient, and that of the time of each visit."
        )
    for column, flag in ((group, "--group"), (time, "--visit-time")):
        if column not in visits.columns:
            raise no_column(column, visits.columns, flag)
    scanned = np.asarray(table[group].astype("str"), dtype=str)
    held = visits[visits[group].notna() & visits[group].astype("str").isin(scanned)].reset_index(drop=True)
    when, scan_time = (_times(one, time) for one in (held, table))
    known = read_target(held, name, "regression", log)
    patients = np.asarray(held[group].astype("str"), dtype=str)[known.rows]
    rows, slopes, counts = [], [], []
    for patient in np.unique(scanned):
        own = patients == patient
        times, values = when[known.rows[own]], known.values[own]
        if len(times) < 2 or np.ptp(times) <= 0:
            continue
        off = times - times.mean()
        slopes.append(float(off @ values / (off @ off)))
        scans = np.flatnonzero(scanned == patient)
        rows.append(int(scans[scan_time[scans].argmin()]))
        counts.append(len(times))
    count = len(np.unique(scanned))
    if not rows:
        raise UserError(
            f"--task {name}=slope: none of {count} patients has '{name}' at two different times ('{time}'); name "
            "another target, or check --group and --visit-time."
        )
    if np.ptp(slopes) == 0:
        raise UserError(f"'{name}' changes equally in all patients, so there is no difference to predict.")
    order = np.argsort(rows)
    over = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(min(counts))
    notes = [
        f"{name} is the change per unit of {time} over {over} visits, with or without an embedding, predicted from the "
        "earliest scan that has one"
    ]
    if len(rows) < count:
        notes.append(f"{count - len(rows)} of {count} patients have {name} at fewer than two times and are left out")
    return Target(
        name,
        "regression",
        np.array(rows, dtype=np.int64)[order],
        np.array(slopes)[order],
        notes=(*known.notes, *notes),
    )


def _times(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """(n,) the time of each visit."""
    when = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(when)
    if wrong.any():
        first = table.loc[wrong, "subject_id"].iloc[0]
        raise UserError(
            f"--visit-time: '{column}' must be a number, such as years since the first visit, but {first} has "
            f"'{table.loc[wrong, column].iloc[0]}' ({int(wrong.sum())} such rows); correct the cohort table."
        )
    return when
