"""Tables of labels that come with archives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph.errors import UserError


def read_labels(file: Path, key: str, what: str) -> pd.DataFrame:
    """A CSV as text, column names in lower case, rows with a ``key``.

    Raises:
        UserError: it cannot be read, or has no such column.
    """
    try:
        table = pd.read_csv(file, dtype="str", keep_default_na=False, encoding="utf-8-sig", sep=None, engine="python")
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as {what}: {' '.join(str(error).split())[:200]}.") from error
    table.columns = pd.Index([" ".join(str(name).split()).lower() for name in table.columns])
    if key not in table.columns:
        raise UserError(f"{file} has no column {key}, so it is not {what}.")
    return table[table[key].str.strip() != ""]


def number(text: Any) -> float | None:
    """A cell as a number; None where it is empty or a code of missing such as ``.N``."""
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
