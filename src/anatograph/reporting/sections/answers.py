"""Sections for the further tables of an evaluation: survival, covariates, sites, audit, sample size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anatograph.reporting.figures.answers import (
    adjusted,
    audited,
    harmonised,
    kaplan_meier,
    learning_curves,
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


def answers(folder: Path) -> list[Answer]:
    """What the evaluation's folder holds beside scores and predictions, in the order of a paper.

    Raises:
        UserError: a table that lacks a column.
    """
    found = {name: _read(folder, name) for name in _COLUMNS}
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
        made.append(Answer("Confounding audit", audited(table), _tables(table, "confounding audit")))
    if (table := found["learning_curve"]) is not None:
        made.append(Answer("Sample size", learning_curves(table), []))
    return made


def _read(folder: Path, name: str) -> pd.DataFrame | None:
    path = folder / f"{name}.csv"
    if not path.is_file():
        return None
    table = read_table(path, folder, "anatograph audit" if name == "audit" else "anatograph evaluate", _COLUMNS[name])
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
