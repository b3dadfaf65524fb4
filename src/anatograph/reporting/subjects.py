"""The cohort in words and numbers, and its subjects on a plane."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from anatograph.embedding.table import Embeddings
from anatograph.reporting.figures.figure import COLOURS, NOT_KNOWN, SYMBOLS, short
from anatograph.reporting.projection import project
from anatograph.reporting.redaction import Discretion

_BARS = 12
_LISTED = 8
_MOST_COLOURED = 30
_MOST_GROUPS = 6
_DIAGNOSIS = re.compile("diagnos|disease|label", re.IGNORECASE)
_FEW_NUMBERS = 6
"""Whole numbers with at most this many different values are counted in the summary, as scores are."""


@dataclass(frozen=True)
class ColumnSummary:
    """One column of the cohort's table in brief."""

    name: str
    """As in the table."""
    summary: str
    """In words."""
    missing: int
    """Rows without a value."""
    bars: tuple[int, ...]
    """Counts of a histogram, or of the commonest classes."""


def summarise(table: pd.DataFrame, columns: Sequence[str]) -> list[ColumnSummary]:
    """Each column in brief."""
    brief = []
    for name in columns:
        values = table[name].dropna()
        missing = len(table) - len(values)
        if is_measure(values) and not _is_score(values):
            numbers = values.to_numpy(dtype=float)
            low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75])
            summary = f"median {middle:.4g}, IQR {low:.4g} to {high:.4g}, "
            summary += f"range {numbers.min():.4g} to {numbers.max():.4g}"
            if numbers.min() == numbers.max():
                summary = f"{middle:.4g} in all"
            bars = np.histogram(numbers[np.isfinite(numbers)], bins=_BARS)[0].tolist()
        else:
            counts = values.value_counts()
            shown = counts.head(_LISTED)
            summary = ", ".join(f"{label(value)}: {count}" for value, count in shown.items())
            summary += f", {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
            bars = [int(v) for v in shown]
        brief.append(ColumnSummary(name, summary or "empty", missing, tuple(bars)))
    return brief


def subject_map(
    known: Embeddings, table: pd.DataFrame | None, columns: Sequence[str], discretion: Discretion
) -> dict[str, Any] | None:
    """What the page's map of subjects needs: names, one or two planes, and columns to colour by."""
    if len(known.subject_ids) < 3:
        return None
    planes: list[dict[str, Any]] = []
    for umap in (True, False):
        plane = project(known.features, umap=umap)
        if plane.name not in [one["name"] for one in planes]:
            x, y = short(plane.points[:, 0]), short(plane.points[:, 1])
            planes.append({"name": plane.name, "x": x, "y": y, "axes": plane.axes, "scaled": plane.scaled})
    coloured = []
    if table is not None:
        rows = table.drop_duplicates("subject_id").set_index("subject_id").reindex(known.subject_ids)
        for name in columns:
            values = rows[name]
            if values.nunique() < 2:
                continue
            if is_measure(values):
                coloured.append({"name": name, "kind": "number", "values": short(values.to_numpy(dtype=float))})
            else:
                coloured.append({"name": name, "kind": "class", "values": _classes(values)})
    caption = (
        f"{len(known.subject_ids)} subjects by their standardised embeddings ({known.features.shape[1]} features) on "
        f"{' or '.join(plane['name'] for plane in planes)}; close points have similar embeddings."
    )
    return {
        "subjects": [discretion.subject(s) for s in known.subject_ids],
        "planes": planes,
        "columns": coloured,
        "first": _first(coloured),
        "caption": caption,
        "colours": COLOURS,
        "symbols": SYMBOLS,
    }


def group_column(table: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """The column whose few classes group the subjects: a diagnosis if there is one, else the first."""
    fit = [name for name in columns if not is_measure(table[name]) and 2 <= table[name].nunique() <= _MOST_GROUPS]
    return next((name for name in fit if _DIAGNOSIS.search(name)), fit[0] if fit else None)


def _first(columns: Sequence[dict[str, Any]]) -> int | None:
    """The column to colour by at first: a diagnosis if there is one, else the first."""
    for number, column in enumerate(columns):
        if column["kind"] == "class" and _DIAGNOSIS.search(column["name"]):
            return number
    return 0 if columns else None


def is_measure(values: pd.Series) -> bool:
    """Whether a column holds numbers, which are coloured on a scale and never as classes."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _is_score(values: pd.Series) -> bool:
    different = values.unique()
    return bool(len(different) <= _FEW_NUMBERS and (different == np.rint(different)).all())


def label(value: object) -> str:
    """A class in words."""
    if pd.isna(value):  # type: ignore[call-overload]
        return NOT_KNOWN
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _classes(values: pd.Series) -> list[str]:
    """Names of the classes; beyond the most frequent, ``other``."""
    common = set(values.value_counts().head(_MOST_COLOURED).index)
    return [label(v) if pd.isna(v) or v in common else "other" for v in values]
