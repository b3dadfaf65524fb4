"""The mark that a recipe leaves on every row of its table, so that it is known later which data set this is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

COLUMN = "recipe"
"""The column of marks."""
LABELS: dict[str, tuple[str, ...]] = {
    "copdgene": ("FEV1pp", "FEV1_FVC", "GOLD", "CLE", "paraseptal", "AE_history", "future_AE", "mMRC"),
    "mosmeddata": ("covid_severity", "findings"),
    "covid-ct-md": ("diagnosis", "covid"),
}
"""Columns of each recipe that its marks vouch for."""


@dataclass(frozen=True)
class RecipeFound:
    """Whether all rows of a table are as a recipe wrote them."""

    name: str
    """The recipe; empty where there is none, or rows have been changed."""
    why_not: str = ""
    """What is wrong, where there are marks."""


def mark(recipe: str, row: Mapping[str, Any]) -> str:
    """``RECIPE:digest`` of a row's subject_id and labels; survives CSV, sorting, and leaving rows or columns out."""
    cells = [str(row["subject_id"]), *(_plain(row.get(name)) for name in LABELS[recipe])]
    return f"{recipe}:{hashlib.sha256('|'.join(cells).encode('utf-8')).hexdigest()[:12]}"


def recipe_of(table: pd.DataFrame) -> RecipeFound:
    """The recipe that wrote all rows of a table, with their labels as they were."""
    if COLUMN not in table.columns:
        return RecipeFound("")
    names = {str(value).partition(":")[0] for value in table[COLUMN]}
    if len(names) > 1 or not names <= set(LABELS):
        return RecipeFound("", "The paper's figures are not shown: not all subjects are of one recipe.")
    (name,) = names
    rows = table.to_dict("records")
    changed = [
        str(row["subject_id"]) for row in rows if str(row[COLUMN]) != mark(name, {str(k): v for k, v in row.items()})
    ]
    if changed:
        return RecipeFound(
            "",
            f"The paper's figures are not shown: labels of {len(changed)} subjects are not as "
            f"`anatograph cohort {name}` wrote them ({', '.join(changed[:3])}).",
        )
    return RecipeFound(name)


def _plain(value: Any) -> str:
    if value is None or pd.isna(value):
        return ""
    try:
        return f"{float(value):.9g}"
    except (TypeError, ValueError):
        return str(value).strip()
