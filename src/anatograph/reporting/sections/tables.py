"""Tables for the page, and the files that they are read from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anatograph.errors import UserError

Json = dict[str, Any]
DECIMALS = 3
"""Of figures in tables."""


@dataclass(frozen=True)
class Table:
    """Cells as text; ``best`` are (row, column) to set in bold."""

    header: tuple[str, ...]
    """Titles of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""
    caption: str = ""
    """What the table says."""
    best: frozenset[tuple[int, int]] = field(default=frozenset())
    """Cells that win."""
    shades: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Strength of the ground of (row, column), per cent."""


def read_json(path: Path) -> Json | None:
    """An object from a JSON file, None where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def number(value: Any) -> str:
    """With `DECIMALS`; a dash for nothing."""
    known = float(value)
    return f"{known:.{DECIMALS}f}" if np.isfinite(known) else "–"


def read_table(path: Path, folder: Path, command: str, needed: Sequence[str]) -> pd.DataFrame:
    """A CSV that a command wrote.

    Raises:
        UserError: it is missing, cannot be read, or lacks a column.
    """
    if not path.is_file():
        raise UserError(f"{folder} holds no {path.name}, so `{command}` did not write it; name its output folder.")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as a table ({error}); run `{command}` again.") from error
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; run `{command}` again.")
    return table
