"""Which columns of a cohort table, and of the study's quality table, describe patient, scanner or breath."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anatograph.embedding.review import study_of
from anatograph.errors import UserError, no_column

KINDS: dict[str, str] = {
    "age": r"age|age_?(at_?)?(scan|ct)|age_?years?",
    "sex": r"sex|gender",
    "site": r"site|cent(er|re)|hospital|institution",
    "scanner": r"scanner|manufacturer|(scanner_?)?model|vendor",
    "kernel": r"(convolution_?|recon(struction)?_?)?kernel(_\w+)?|sharpness",
    "slice thickness": r"slice_?(thickness)?_?(mm)?|thickness(_?mm)?|scan_coarsest_mm",
    "dose": r"dose\w*|ctdi_?vol\w*|dlp|mas|tube_?current\w*|exposure|noise_?hu",
    "breath": r"lungs?_?volume_?(l|ml)?|tlc(_ct)?|tlv|inspiration_?level",
}
"""Kind of a nuisance → pattern of the whole name of a column, in any case."""
_FROM_QUALITY = ("lungs_volume_ml", "scan_coarsest_mm")


def kind_of(column: str) -> str | None:
    """The kind of nuisance that a column's name stands for, None if it is none of `KINDS`."""
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, column, re.IGNORECASE)), None)


def nuisances(table: pd.DataFrame, embeddings: Path, named: Sequence[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table, with columns of the study's ``quality.csv`` where it lacks that kind, and column → kind.

    ``named`` are columns to audit instead; their kind is their name where it is none of `KINDS`.  The study is that of
    the account beside ``embeddings``, if it is still there.

    Raises:
        UserError: a named column that the table lacks, or nothing to audit.
    """
    table = _with_quality(table, embeddings)
    missing = [name for name in named if name not in table.columns]
    if missing:
        raise no_column(missing[0], table.columns, "--column")
    chosen = {str(name): kind_of(str(name)) for name in (named or table.columns)}
    found = {name: kind or name for name, kind in chosen.items() if kind or named}
    if not found:
        raise UserError(
            "The cohort has no column with a known name for "
            + ", ".join(KINDS)
            + "; name those to audit with --column."
        )
    return table, found


def _with_quality(table: pd.DataFrame, embeddings: Path) -> pd.DataFrame:
    """Add lung volume and slice distance from ``quality.csv`` where the table has no column of that kind."""
    study = study_of(embeddings)
    path = None if study is None else study.path / "quality.csv"
    if path is None or not path.is_file():
        return table
    with path.open(encoding="utf-8", newline="") as file:
        rows = {row["subject_id"]: row for row in csv.DictReader(file)}
    known = {kind_of(str(name)) for name in table.columns}
    added = table.copy()
    for name in _FROM_QUALITY:
        if kind_of(name) not in known:
            values = [rows.get(subject, {}).get(name) or None for subject in table["subject_id"]]
            added[name] = pd.to_numeric(pd.Series(values, index=table.index, dtype="object"), errors="coerce")
    return added
