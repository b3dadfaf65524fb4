"""Writing the table of a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph.errors import UserError
from anatograph.execution.files import write_text
from anatograph.study.archives.marker import COLUMN, LABELS, mark
from anatograph.study.cohort import read_cohort


@dataclass(frozen=True)
class Made:
    """A cohort table that a recipe wrote."""

    path: Path
    """The file."""
    subjects: int
    """Its rows."""
    notes: tuple[str, ...]
    """What was counted, and what was left out."""


def write_recipe_table(recipe: str, rows: Sequence[Mapping[str, Any]], out: Path, notes: Sequence[str]) -> Made:
    """Write ``rows`` as CSV, with marks where ``recipe`` is an archive's, and check that it reads as a cohort table.

    Each row has ``subject_id`` and ``image`` (a path of this machine; it is written relative to the table).

    Raises:
        UserError: something of that name is there, or nothing to write.
    """
    if out.suffix.lower() != ".csv":
        raise UserError(f"{out} must end in .csv; the table is written as CSV.")
    if out.exists():
        raise UserError(f"{out} already exists; give another name, or remove it first.")
    if not rows:
        raise UserError("No scan was found, so there is no cohort to write.")
    out.parent.mkdir(parents=True, exist_ok=True)
    marked = recipe in LABELS
    table = pd.DataFrame([{**row, **({COLUMN: mark(recipe, row)} if marked else {})} for row in rows])
    for name in table.columns:
        if name in ("image", "lungs") or str(name).endswith("_mask"):
            table[name] = [_relative(path, out.parent) for path in table[name]]
    for name in table.columns:  # whole numbers stay whole where some are missing
        if pd.api.types.is_float_dtype(table[name]) and (table[name].dropna() % 1 == 0).all():
            table[name] = table[name].astype("Int64")
    write_text(out, table.to_csv(index=False, lineterminator="\n"))
    read_cohort(out)
    return Made(out, len(table), tuple(notes))


def _relative(path: Any, folder: Path) -> str:
    if not isinstance(path, Path):
        return ""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(path.resolve())
