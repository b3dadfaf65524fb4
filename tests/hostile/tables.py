"""Cohort tables as they come out of spreadsheets, and such as nobody means well with."""

# ruff: noqa: E501 - what the user sees stands here as one line
from __future__ import annotations

from pathlib import Path

import pandas as pd

from hostile.case import case
from hostile.material import write


def _table(folder: Path, data: str | bytes, name: str = "cohort.csv") -> Path:
    write(folder / "a.nii.gz")
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@case("a byte-order mark and Windows line ends", "usable", "table")
def marked(folder: Path) -> Path:
    return _table(folder, b"\xef\xbb\xbfsubject_id,image\r\np1,a.nii.gz\r\n")


@case(
    "UTF-16 (Excel's Unicode Text)",
    "The cohort table TABLE is UTF-16 text (what Excel calls Unicode Text); save it as CSV UTF-8.",
    "table",
)
def utf16(folder: Path) -> Path:
    return _table(folder, "subject_id,image\np1,a.nii.gz\n".encode("utf-16"))


@case("Latin-1 with an umlaut", "The cohort table TABLE is not UTF-8 text; save it as UTF-8 (…).", "table")
def latin(folder: Path) -> Path:
    return _table(folder, "subject_id,image,städt\np1,a.nii.gz,1\n".encode("latin-1"))


@case(
    "semicolons between the cells",
    "The cohort table TABLE is separated by semicolons; save it with commas between the cells.",
    "table",
)
def semicolons(folder: Path) -> Path:
    return _table(folder, "subject_id;image\np1;a.nii.gz\n")


@case("quoted commas", "usable", "table")
def quoted(folder: Path) -> Path:
    return _table(folder, 'subject_id,image,note\np1,a.nii.gz,"severe, progressive"\n')


@case(
    "a comma that is not quoted",
    "The cohort table TABLE cannot be read as CSV: a row has more cells than the header; put cells that hold a separator in quotes.",
    "table",
)
def unquoted(folder: Path) -> Path:
    return _table(folder, "subject_id,image,note\np1,a.nii.gz,severe, progressive\n")


@case("spaces around names and cells", "usable", "table")
def spaces(folder: Path) -> Path:
    return _table(folder, "subject_id , image\n p1 , a.nii.gz \n")


@case(
    "an identifier that occurs twice",
    "The cohort table TABLE has 1 fault; correct these rows (row 1 is the first after the header):\n  row 2: subject_id 'p1' is already that of row 1",
    "table",
)
def twice(folder: Path) -> Path:
    return _table(folder, "subject_id,image\np1,a.nii.gz\np1,a.nii.gz\n")


@case(
    "the identifier ../x",
    "The cohort table TABLE has 1 fault; correct these rows (row 1 is the first after the header):\n  row 1: subject_id '../x' must be 1 to 64 of the characters A-Z a-z 0-9 . _ -",
    "table",
)
def path_like(folder: Path) -> Path:
    return _table(folder, "subject_id,image\n../x,a.nii.gz\n")


@case(
    "the identifier ..",
    "The cohort table TABLE has 1 fault; correct these rows (row 1 is the first after the header):\n  row 1: subject_id '..' cannot be the name of a folder",
    "table",
)
def dots(folder: Path) -> Path:
    return _table(folder, "subject_id,image\n..,a.nii.gz\n")


@case(
    "an identifier with a space",
    "The cohort table TABLE has 1 fault; correct these rows (row 1 is the first after the header):\n  row 1: subject_id 'patient 1' must be 1 to 64 of the characters A-Z a-z 0-9 . _ -",
    "table",
)
def spaced(folder: Path) -> Path:
    return _table(folder, "subject_id,image\npatient 1,a.nii.gz\n")


@case(
    "an identifier with a terminal's control characters",
    "The cohort table TABLE has 1 fault; correct these rows (row 1 is the first after the header):\n  row 1: subject_id '[2Jp1' must be 1 to 64 of the characters A-Z a-z 0-9 . _ -",
    "table",
)
def control(folder: Path) -> Path:
    return _table(folder, "subject_id,image\n\x1b[2Jp1,a.nii.gz\n")


@case(
    "a faulty row and a file that is not there",
    "The cohort table TABLE has 2 faults; correct these rows (row 1 is the first after the header):\n  row 3: subject_id is empty\n  row 2 (p2): image b.nii.gz does not exist",
    "table",
)
def missing(folder: Path) -> Path:
    return _table(folder, "subject_id,image\np1,a.nii.gz\np2,b.nii.gz\n,a.nii.gz\n")


@case("no column image", "The cohort table TABLE lacks the column image; it has: subject_id, scan.", "table")
def no_image(folder: Path) -> Path:
    return _table(folder, "subject_id,scan\np1,a.nii.gz\n")


@case("a header without rows", "The cohort table TABLE has a header but no rows.", "table")
def no_rows(folder: Path) -> Path:
    return _table(folder, "subject_id,image\n")


@case("an empty table", "The cohort table TABLE cannot be read as CSV: ….", "table")
def empty(folder: Path) -> Path:
    return _table(folder, "")


@case("text called .parquet", "The cohort table TABLE cannot be read as PARQUET: ….", "table")
def no_parquet(folder: Path) -> Path:
    return _table(folder, "subject_id,image\np1,a.nii.gz\n", "cohort.parquet")


@case(
    "a spreadsheet (.xlsx)",
    "The cohort table TABLE is not CSV, TSV or Parquet by its name; save it as one of these.",
    "table",
)
def spreadsheet(folder: Path) -> Path:
    return _table(folder, b"PK\x03\x04", "cohort.xlsx")


@case("Parquet with numbers as identifiers", "usable", "table")
def numbers(folder: Path) -> Path:
    write(folder / "a.nii.gz")
    pd.DataFrame({"subject_id": [7], "image": ["a.nii.gz"]}).to_parquet(folder / "cohort.parquet")
    return folder / "cohort.parquet"
