"""Stata's .dta, with labels that say what a feature is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anatograph.choices import TableLayout
from anatograph.errors import UserError
from anatograph.exchange.tables.content import Content
from anatograph.exchange.tables.layouts import blocks
from anatograph.execution.files import whole_file
from anatograph.limits import MAX_TABLE_BYTES

MOST_VARIABLES = 32_767
"""Of Stata SE; more need Stata MP."""
_LONGEST_NAME, _LONGEST_LABEL = 32, 80
_RESERVED = {
    "_all", "_b", "byte", "_coef", "_cons", "double", "float", "if", "in", "int", "long", "_n", "_N", "_pi",
    "_pred", "_rc", "_skip", "strL", "using", "with",
}  # fmt: skip


def write_stata(path: Path, content: Content, layout: TableLayout) -> dict[str, str]:
    """Write one ``.dta`` (format 118, Stata 14 and later; 119 beyond 32,767 variables is refused).

    Column names become names that Stata allows; the original is kept as the variable's label.

    Returns:
        Original name → Stata's, for those that differ.

    Raises:
        UserError: more variables than Stata SE holds, or a table too large to be built in memory.
    """
    table = _whole(content, layout)
    if len(table.columns) > MOST_VARIABLES:
        raise UserError(
            f"Stata holds {MOST_VARIABLES:,} variables and this table has {len(table.columns):,}; give --layout long."
        )
    originals = [str(name) for name in table.columns]
    names = stata_names(originals)
    meaning = dict(zip(content.names, content.parts, strict=False)) if layout == "wide" else {}
    labels = {new: (meaning.get(old) or old)[:_LONGEST_LABEL] for old, new in zip(originals, names, strict=True)}
    columns = {new: _storable(table[old]) for old, new in zip(originals, names, strict=True)}
    with whole_file(path, ".dta") as part:
        pd.DataFrame(columns).to_stata(
            part, write_index=False, version=118, variable_labels=labels, data_label="Anatograph embeddings",
            convert_strl=[new for new, column in columns.items() if _is_long_text(column)],
        )  # fmt: skip
    return {old: new for old, new in zip(originals, names, strict=True) if old != new}


def stata_names(names: Sequence[str]) -> list[str]:
    """Different names of at most 32 letters, digits and underscores, none reserved, for any different names."""
    taken: set[str] = set()
    result: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:_LONGEST_NAME] or "_"
        if plain[0].isdigit() or plain in _RESERVED or re.fullmatch(r"str\d+", plain):
            plain = f"_{plain}"[:_LONGEST_NAME]
        unique, number = plain, 1
        while unique in taken:
            number += 1
            ending = f"_{number}"
            unique = plain[: _LONGEST_NAME - len(ending)] + ending
        taken.add(unique)
        result.append(unique)
    return result


def _whole(content: Content, layout: TableLayout) -> pd.DataFrame:
    tables, size = [], 0
    for table in blocks(content, layout):
        tables.append(table)
        size += int(table.memory_usage(index=False).sum())
        if size > MAX_TABLE_BYTES:
            raise UserError(
                f"The table is larger than {MAX_TABLE_BYTES // 2**30} GiB, which cannot be written for Stata; "
                "use --to csv, or --layout wide."
            )
    return pd.concat(tables, ignore_index=True)


def _storable(column: pd.Series) -> pd.Series:
    """Numbers as int8 … float64, everything else as text with empty cells where it is missing."""
    known = column.dropna()
    if pd.api.types.is_bool_dtype(known.infer_objects()) and len(known):
        return column.astype("Float64").astype(np.float64) if len(known) < len(column) else column.astype(np.int8)
    if pd.api.types.is_numeric_dtype(column):
        extension = pd.api.types.is_extension_array_dtype(column.dtype)
        return column.astype(np.float64) if extension else column
    values: list[Any] = ["" if pd.isna(value) else str(value) for value in column]
    return pd.Series(values, dtype=object)


def _is_long_text(column: pd.Series) -> bool:
    """Whether texts need Stata's strL, beyond 2,045 bytes."""
    return column.dtype == object and any(len(str(value).encode()) > 2045 for value in column)
