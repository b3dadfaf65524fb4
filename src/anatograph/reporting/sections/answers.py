"""Sections for the further tables of an evaluation: survival, covariates, sites, audit, sample size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anatograph.reporting.figures.answers import (
    adjusted,
    audited,
    harmonised,
    kaplan_meier,
    learning_curves,
    shared_directions,
    survival_calibration,
)
from anatograph.reporting.figures.figure import Figure
from anatograph.reporting.sections.tables import Table, number, read_table

_COLUMNS = {
    "survival": ("target", "n", "events", "c_harrell", "c_uno", "log_rank_p"),
    "kaplan_meier": ("target", "third", "time", "survival", "low", "high", "at_risk"),
    "calibration": ("target", "third", "predicted", "observed", "low", "high", "horizon"),
    "adjusted": ("target", "model", "metric", "value", "low", "high", "p"),
    "harmonisation": ("target", "metric", "before", "before_low", "before_high", "after", "after_low", "after_high",
                      "chance"),
    "audit": ("column", "metric", "chance", "linear", "linear_low", "linear_high", "kernel", "kernel_low",
              "kernel_high"),
    "audit_shared": ("target", "column", "labels", "directions", "metric", "value", "value_without"),
    "learning_curve": ("target", "metric", "n_train", "value", "low", "high", "chance"),
}  # fmt: skip
"""Columns that each table needs."""


@dataclass(frozen=True)
class Answer:
    """One of the further analyses."""

    title: str
    """Heading."""
    figures: list[Figure]
    """Its figures."""
    tables: list[Table]
    """The numbers behind them."""


def answers(*folders: Path) -> list[Answer]:
    """What the folders of `evaluate` and `audit` hold beside scores and predictions, in the order of a paper.

    Raises:
        UserError: a table that lacks a column.
    """
    found = {name: _read(folders, name) for name in _COLUMNS}
    made = []
    curves, calibration = found["kaplan_meier"], found["calibration"]
    if curves is not None:
        figures = kaplan_meier(curves, found["survival"])
        figures += survival_calibration(calibration) if calibration is not None else []
        made.append(Answer("Time to event", figures, _tables(found["survival"], "survival targets")))
    if (table := found["adjusted"]) is not None:
        made.append(Answer("Beyond covariates", adjusted(table), _tables(table, "nested models")))
    if (table := found["harmonisation"]) is not None:
        made.append(Answer("Harmonisation", harmonised(table), _tables(table, "before and after harmonisation")))
    if (table := found["audit"]) is not None:
        shared = found["audit_shared"]
        figures = audited(table) + (shared_directions(shared) if shared is not None else [])
        tables = _tables(table, "confounding audit") + _tables(shared, "directions shared by targets and confounders")
        made.append(Answer("Confounding audit", figures, tables))
    if (table := found["learning_curve"]) is not None:
        made.append(Answer("Sample size", learning_curves(table), []))
    return made


def _read(folders: Sequence[Path], name: str) -> pd.DataFrame | None:
    """Of the first folder that has it."""
    folder = next((one for one in folders if (one / f"{name}.csv").is_file()), None)
    if folder is None:
        return None
    command = "anatograph audit" if name.startswith("audit") else "anatograph evaluate"
    table = read_table(folder / f"{name}.csv", folder, command, _COLUMNS[name])
    return table if len(table) else None


def _tables(table: pd.DataFrame | None, caption: str) -> list[Table]:
    """Every column as it is, numbers with three decimals; spaces for underscores."""
    if table is None:
        return []
    rows = [tuple(_cell(value) for value in row) for row in table.itertuples(index=False)]
    return [Table(tuple(str(name).replace("_", " ") for name in table.columns), tuple(rows), caption)]


def _cell(value: object) -> str:
    if isinstance(value, float) and not value.is_integer():
        return number(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
