"""Cells and rows of Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from anatograph.evaluation.metrics import LOWER_IS_BETTER
from anatograph.evaluation.targets import Target

_PERCENT = {"accuracy", "balanced_accuracy", "accuracy_within_one", "accuracy_majority", "leave_out_accuracy"}


def table_cells(defined: pd.DataFrame, metric: str) -> dict[str, str]:
    """Cells of rows with ``method``, ``mean`` and ``std``, by slug."""
    slugs = [str(slug) for slug in defined["method"]]
    means, stds = defined["mean"].to_numpy(dtype=float), defined["std"].to_numpy(dtype=float)
    best = means.min() if metric in LOWER_IS_BETTER else means.max()
    texts = {}
    for slug, mean, std in zip(slugs, means, stds, strict=True):
        bold = "**" if mean == best else ""
        texts[slug] = f"{bold}{table_cell(metric, float(mean), float(std))}{bold}"
    return texts


def table_cell(metric: str, mean: float, std: float) -> str:
    """Mean ± standard deviation with the digits that suit the metric."""
    if metric in _PERCENT:
        mean, std, digits = 100 * mean, 100 * std, 1
    else:
        digits = 2 if metric != "mae" or abs(mean) < 10 else 1
    text = f"{mean:.{digits}f}"
    return f"{text} ± {std:.{digits}f}" if std == std else text


def row_title(about: Mapping[str, Any]) -> str:
    """Title of a row with its note, or with a mark where the note is long."""
    note = str(about.get("note") or "")
    return f"{about['method']} ({note})" if note and len(note) <= 40 else f"{about['method']}{' ¹' if note else ''}"


def column_head(target: Target, log: Sequence[str]) -> str:
    """Heading of a target's column."""
    return f"log {target.name}" if target.name in log else target.name


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first row is its heading."""
    lines = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
