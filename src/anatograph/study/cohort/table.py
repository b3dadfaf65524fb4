"""The cohort table: subjects, their scans, and everything known about them."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph.errors import UserError, plain
from anatograph.limits import MAX_TABLE_BYTES
from anatograph.study.cohort.cells import clean
from anatograph.study.cohort.parquet import read_parquet
from anatograph.study.identifiers import fault_of

_PATHS = ("subject_id", "image", "lungs")
# What pandas may take for missing in a label column; `cells.clean` does the rest. A subject may be called NA.
_MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null"]
_SHOWN = 30
_HEADER_LINES = 50
"""Lines in which the header is looked for, after comments."""
_LONGEST_PATH = 4000


@dataclass(frozen=True)
class CohortRow:
    """One scan of the cohort."""

    subject_id: str
    """1 to 64 of A-Za-z0-9._-, unique in the cohort."""
    image: Path
    """A volume file or a folder with a DICOM series."""
    lungs: Path | None = None
    """A lung mask, where there is one."""


@dataclass(frozen=True)
class Cohort:
    """A cohort table that has been checked."""

    path: Path
    """The table's file."""
    table: pd.DataFrame
    """Every column as given, rows in the order of the file; ``subject_id`` is text."""
    rows: list[CohortRow]
    """The scans, in the order of the table, with paths that are no longer relative to it."""
    numbers: tuple[int, ...] = ()
    """The row of the file of each, 1 being the first after the header; 1, 2, … if not given."""
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By column, what was read other than it is written, in sentences; also ``table.attrs["notes"]``."""

    @property
    def subject_ids(self) -> list[str]:
        """Subjects in the order of the table."""
        return [row.subject_id for row in self.rows]

    def missing_files(self) -> list[str]:
        """A sentence for every image or mask that the table names and that does not exist."""
        return [
            f"row {number} ({row.subject_id}): {what} {path} does not exist"
            for number, row in zip(self.numbers or range(1, len(self.rows) + 1), self.rows, strict=True)
            for what, path in (("image", row.image), ("lungs", row.lungs))
            if path is not None and not is_there(path)
        ]


def is_there(path: Path) -> bool:
    """Whether a file or folder exists; False also where the path cannot be resolved (a loop of links)."""
    try:
        return path.exists()
    except OSError:
        return False


def read_cohort(path: str | Path) -> Cohort:
    """Read and check a cohort table: CSV, TSV or Parquet with ``subject_id``, ``image`` and optionally ``lungs``.

    Paths are taken relative to the folder of the table.  A file that a row names need not exist for the table to
    be good (labels can be read without the scans); where other rows are faulty, missing files are reported as well.

    Raises:
        UserError: when the table cannot be read, lacks a required column or any row is faulty; all faulty rows are
            named together, row 1 being the first after the header.
    """
    cohort, faults = inspect_cohort(path)
    if faults:
        faults += cohort.missing_files()
        listed = "\n  ".join(faults[:_SHOWN])
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        raise UserError(
            f"The cohort table {path} has {count}; correct these rows (row 1 is the first after the header):"
            f"\n  {listed}{more}"
        )
    return cohort


def listed_ids(path: str | Path) -> set[str] | None:
    """The ``subject_id`` of every row of a table, faulty rows included; None where the table cannot be read."""
    try:
        table = _read_table(Path(path))
        names = {str(name).strip(): name for name in table.columns}
        return {_text(value) for value in table[names["subject_id"]]} - {""}
    except (UserError, OSError, KeyError):
        return None


def inspect_cohort(path: str | Path) -> tuple[Cohort, list[str]]:
    """The good rows of a cohort table, and a sentence for every fault of the others.

    Raises:
        UserError: when the table cannot be read or lacks a required column.
    """
    path = Path(path)
    table = _read_table(path)
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    _check_columns(table, path)
    for column in _PATHS:
        if column in table.columns:
            table[column] = [_text(value) for value in table[column]]
    folder = path.parent
    masks = table["lungs"] if "lungs" in table.columns else [""] * len(table)
    faults: list[str] = []
    rows: list[CohortRow] = []
    numbers: list[int] = []
    first_row: dict[str, int] = {}
    for number, (subject_id, image, lungs) in enumerate(
        zip(table["subject_id"], table["image"], masks, strict=True), start=1
    ):
        reasons = _faults_of(subject_id, image, lungs)
        if subject_id and subject_id in first_row:
            reasons.append(f"subject_id '{plain(subject_id)[:64]}' is already that of row {first_row[subject_id]}")
        first_row.setdefault(subject_id, number)
        faults += [f"row {number}: {reason}" for reason in reasons]
        if not reasons:
            rows.append(CohortRow(subject_id, folder / image, folder / lungs if lungs else None))
            numbers.append(number)
    if "lungs" in table.columns:
        table["lungs"] = [value or None for value in table["lungs"]]
    good = table.iloc[[number - 1 for number in numbers]].reset_index(drop=True)
    notes = _clean_labels(good)
    good.attrs["notes"] = notes
    return Cohort(path, good, rows, tuple(numbers), notes), faults


def _clean_labels(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Bring the label columns of a table into order, in place, and return the notes by column."""
    notes: dict[str, tuple[str, ...]] = {}
    for name in table.columns:
        if name not in _PATHS:
            column, said = clean(table[name])
            if column is not table[name]:
                table[name] = column
            if said:
                notes[str(name)] = tuple(said)
    return notes


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        if path.is_dir():
            raise UserError(
                f"The cohort table {path} is a folder; give a CSV, TSV or Parquet file. `anatograph cohort folder "
                f"{path} OUT.csv` makes one of a folder of scans."
            )
        raise UserError(f"The cohort table {path} does not exist; give a CSV, TSV or Parquet file.")
    kind = path.suffix.lower()
    if kind not in {".csv", ".tsv", ".parquet"}:
        raise UserError(f"The cohort table {path} is not CSV, TSV or Parquet by its name; save it as one of these.")
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise ValueError(f"it is longer than {MAX_TABLE_BYTES // 2**30} GiB, too much for a table")
        if kind == ".parquet":
            table = read_parquet(path)
            return table.reset_index() if "subject_id" in table.index.names else table.reset_index(drop=True)
        separator = "\t" if kind == ".tsv" else ","
        text: dict[str, Any] = {"sep": separator, "encoding": "utf-8-sig"}
        with path.open("rb") as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise UserError(
                    f"The cohort table {path} is UTF-16 text (what Excel calls Unicode Text); save it as CSV UTF-8."
                )
        before, header = _header(path)
        if separator not in header and ";" in header:
            raise UserError(
                f"The cohort table {path} is separated by semicolons; save it with commas between the cells."
            )
        text["skiprows"] = before
        _check_names([name.strip() for name in next(csv.reader([header], delimiter=separator))], path)
        names = [str(name) for name in pd.read_csv(path, nrows=0, **text).columns]
        named = {name for name in names if name.strip() in _PATHS}
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header would be cut
            whole: pd.DataFrame = pd.read_csv(
                path,
                dtype=dict.fromkeys(named, "object"),
                keep_default_na=False,
                na_values={name: _MISSING for name in names if name not in named},
                index_col=False,
                **text,
            )
        return whole
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"The cohort table {path} is not UTF-8 text; save it as UTF-8 ({error.reason}).") from error
    except (
        ValueError,
        OSError,
        pd.errors.ParserWarning,
    ) as error:  # pandas and pyarrow both raise ValueErrors on files they cannot parse
        reason = plain(str(error))[:300].rstrip(".")
        if isinstance(error, pd.errors.ParserWarning):
            reason = "a row has more cells than the header; put cells that hold a separator in quotes"
        raise UserError(f"The cohort table {path} cannot be read as {kind[1:].upper()}: {reason}.") from error


def _header(path: Path) -> tuple[int, str]:
    """Number of lines before the header (``sep=,`` as Excel writes it, comments, blank lines), and the header."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for number in range(_HEADER_LINES):
            line = lines.readline(2**20)
            words = line.strip().strip('"').lower()
            if line and (not words or words.startswith("#") or re.fullmatch(r"sep=.?", words)):
                continue
            return number, line
    return 0, ""


def _check_names(names: list[str], path: Path) -> None:
    """Refuse a column that is there twice; pandas would rename the second."""
    double = sorted({name for name in names if name and names.count(name) > 1})
    if double:
        raise UserError(f"The cohort table {path} has more than one column called {', '.join(double)}; rename one.")


def _check_columns(table: pd.DataFrame, path: Path) -> None:
    names = list(table.columns)
    missing = [name for name in ("subject_id", "image") if name not in names]
    if missing:
        found = ", ".join(names) or "none"
        raise UserError(
            f"The cohort table {path} lacks the column{'s' if len(missing) > 1 else ''} {' and '.join(missing)}; "
            f"it has: {found}."
        )
    _check_names(names, path)
    if table.empty:
        raise UserError(f"The cohort table {path} has a header but no rows.")


def _text(value: Any) -> str:
    """A cell as text; Parquet may hold numbers or nothing where text is meant."""
    if value is None or (isinstance(value, float) and value != value) or value is pd.NA:
        return ""
    return str(value).strip()


def _faults_of(subject_id: str, image: str, lungs: str) -> list[str]:
    reasons = [fault] if (fault := fault_of(subject_id)) else []
    if not image:
        reasons.append(f"image is empty{f' (subject {plain(subject_id)[:64]})' if subject_id else ''}")
    for what, name in (("image", image), ("lungs", lungs)):
        if not name.isprintable() or len(name) > _LONGEST_PATH:
            reasons.append(f"{what} cannot be the name of a file (it is too long or holds control characters)")
    return reasons
