"""Rates of change over several visits as a target, predicted from the first scan."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anatograph.errors import UserError, no_column
from anatograph.evaluation.targets import Target, read_target


def read_slope(table: pd.DataFrame, name: str, group: str | None, time: str | None, log: bool = False) -> Target:
    """The least-squares slope of the column ``name`` over ``time``, one value a patient (column ``group``).

    The unit is that of the column per unit of time, on the log scale with ``log``.  The row of each patient is the
    earliest scan: its embedding predicts the rate that follows.  Patients with a value at fewer than two different
    times are left out and counted.

    Raises:
        UserError: a missing column, times that are no numbers, no patient with two visits, or one slope for all.
    """
    if group is None or time is None:
        missing = " and ".join(flag for flag, value in (("--group", group), ("--visit-time", time)) if value is None)
        raise UserError(
            f"--task {name}=slope needs {missing}: the column of the patient, and that of the time of each visit."
        )
    if time not in table.columns:
        raise no_column(time, table.columns, "--visit-time")
    when = pd.to_numeric(table[time], errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(when)
    if wrong.any():
        first = table.loc[wrong, "subject_id"].iloc[0]
        raise UserError(
            f"--visit-time: '{time}' must be a number, such as years since the first visit, but {first} has "
            f"'{table.loc[wrong, time].iloc[0]}' ({int(wrong.sum())} such rows); correct the cohort table."
        )
    known = read_target(table, name, "regression", log)
    patients = np.asarray(table[group].astype("str"), dtype=str)
    rows, slopes, visits = [], [], []
    for patient in np.unique(patients):
        own = known.rows[patients[known.rows] == patient]
        times = when[own]
        if len(own) < 2 or np.ptp(times) <= 0:
            continue
        values = known.values[np.isin(known.rows, own)]
        off = times - times.mean()
        slopes.append(float(off @ values / (off @ off)))
        scans = np.flatnonzero(patients == patient)
        rows.append(int(scans[when[scans].argmin()]))
        visits.append(len(own))
    count = len(np.unique(patients))
    if not rows:
        raise UserError(
            f"--task {name}=slope: none of {count} patients has '{name}' at two different times ('{time}'); name "
            "another target, or check --group and --visit-time."
        )
    if np.ptp(slopes) == 0:
        raise UserError(f"'{name}' changes equally in all patients, so there is no difference to predict.")
    order = np.argsort(rows)
    notes = [
        f"{name} is the change per unit of {time} over {min(visits)} to {max(visits)} visits, predicted from the "
        "earliest scan"
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
