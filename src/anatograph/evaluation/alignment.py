"""Embeddings and the cohort table side by side, and groups of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.embedding.review import without_left_out
from anatograph.embedding.table import read_embeddings, read_rows
from anatograph.errors import UserError, no_column
from anatograph.learning.model.pooling import ONE_PART, Parts, PoolingSettings
from anatograph.study.cohort import read_cohort


@dataclass(frozen=True, eq=False)
class Aligned:
    """The subjects both in the embeddings and in the cohort, by subject_id in ascending order."""

    table: pd.DataFrame
    """Their rows of the cohort table."""
    features: NDArray[np.float64]
    """(n, F) their features."""
    notes: tuple[str, ...]
    """Which subjects were left out."""
    cohort: pd.DataFrame = field(default_factory=pd.DataFrame)
    """All rows of the cohort table, also those without an embedding."""
    parts: Parts = ONE_PART
    """Parts of the features, the first of which says nothing of place (`anatograph.learning.model.pooling`)."""
    pooling: PoolingSettings = field(default_factory=PoolingSettings)
    """How the features were pooled from regions."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """The metadata of the table of embeddings."""


def align(
    embeddings: str | Path,
    cohort: str | Path,
    include_flagged: bool = False,
    join: str | Path | None = None,
    exclude: Sequence[str] = (),
) -> Aligned:
    """Match embeddings with the cohort table by ``subject_id``, and with the columns of a further table ``join``.

    Scans in ``exclude`` and those that the study's ``review.csv`` excludes by now are left out, and those at level
    ``reject`` unless ``include_flagged``.

    Raises:
        UserError: a file that cannot be read, no subject in both, a column that both tables have, or an unknown subject
            in ``exclude``.
    """
    embedded = read_embeddings(embeddings)
    table = read_cohort(cohort).table
    in_table = set(table["subject_id"])
    known, left_out = without_left_out(embedded, include_flagged, exclude, in_table, by_table=False)
    both = sorted(set(known.subject_ids) & in_table)
    if not both:
        example = f"{known.subject_ids[0]} there, {table['subject_id'].iloc[0]} here"
        raise UserError(
            f"No subject of {known.path} is in the cohort {cohort} ({example}); give the cohort they came from."
        )
    notes = [*left_out]
    missing = sorted(in_table - set(embedded.subject_ids))
    strange = sorted(set(known.subject_ids) - in_table)
    if missing:
        notes.append(f"{_count(missing)} of the cohort without an embedding, left out: {_some(missing)}")
    if strange:
        notes.append(f"{_count(strange)} with an embedding but not in the cohort, left out: {_some(strange)}")
    rows = table.set_index("subject_id", drop=False).loc[both].reset_index(drop=True)
    if join is not None:
        rows = _joined(rows, Path(join), notes)
    return Aligned(rows, known.only(both), tuple(notes), table, known.parts, known.pooling, known.about)


def _joined(rows: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    """The rows with the columns of a further table; subjects without a row there have missing values, and a note."""
    known = read_rows(path, "table to join", "give a Parquet or CSV file, such as that of `anatograph densitometry`")
    twice = [name for name in known.columns if name in rows.columns and name != "subject_id"]
    if twice:
        raise UserError(
            f"--join: {path} and the cohort both have {_some(twice)}; rename or remove these columns in one."
        )
    absent = sorted(set(rows["subject_id"]) - set(known["subject_id"]))
    if len(absent) == len(rows):
        raise UserError(f"--join: {path} has none of the subjects; give a table with their subject_id.")
    if absent:
        notes.append(f"{_count(absent)} without a row in {path.name}, whose columns are missing there: {_some(absent)}")
    return rows.merge(known, on="subject_id", how="left", validate="one_to_one")


def group_numbers(table: pd.DataFrame, column: str) -> NDArray[np.int64]:
    """(n,) a number for each different value of the grouping column.

    Raises:
        UserError: no such column, or a subject without a value in it.
    """
    if column not in table.columns:
        raise no_column(column, table.columns, purpose="to group by")
    empty = table.loc[table[column].isna(), "subject_id"].tolist()
    if empty:
        raise UserError(
            f"'{column}' is empty for {_some(empty)}; fill it in, since subjects without a value cannot be grouped."
        )
    return np.unique(np.asarray(table[column].astype("str"), dtype=str), return_inverse=True)[1].astype(np.int64)


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} {'subject' if len(names) == 1 else 'subjects'}"


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
