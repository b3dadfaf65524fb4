"""Which scans of a study are used: all but those that quality control rejects or the reader excludes."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from anatograph.errors import UserError, counted, plain
from anatograph.limits import MAX_TABLE_BYTES
from anatograph.study.identifiers import fault_of
from anatograph.study.quality.levels import Level, joined
from anatograph.study.quality.table import read_levels
from anatograph.study.store import Study

REVIEW = "review.csv"
Verdict = Literal["keep", "exclude"]
_SHOWN = 3


@dataclass(frozen=True)
class Review:
    """The reader's verdict on one scan."""

    verdict: Verdict | None
    """``keep`` uses a scan that quality control rejects, ``exclude`` leaves out one that it accepts; None where the
    reader only commented."""
    comment: str = ""
    """Why."""


@dataclass(frozen=True)
class Selection:
    """The scans of a study that a command uses."""

    subject_ids: tuple[str, ...]
    """Those used, in the order of the study."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Those that quality control rejects, with the reasons."""
    excluded: dict[str, str] = field(default_factory=dict)
    """Those that ``review.csv`` excludes, with the comments."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """All that are not used."""
        return (*self.rejected, *self.excluded)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say how many scans are left out, and which."""
        found = []
        if self.rejected:
            found.append(
                f"{counted(len(self.rejected), 'scan')} that quality control rejects left out "
                f"({_some(self.rejected)}); --include-flagged uses them"
            )
        if self.excluded:
            excluded = counted(len(self.excluded), "scan")
            found.append(f"{excluded} that {REVIEW} excludes left out ({_some(self.excluded)})")
        return tuple(found)


def select(study: Study, include_flagged: bool = False) -> Selection:
    """The scans of a study that are to be used.

    Left out are those that ``review.csv`` excludes and, unless ``include_flagged``, those at level ``reject`` that it
    does not keep.

    Raises:
        UserError: ``review.csv`` or ``quality.csv`` cannot be read.
    """
    reviews, levels = read_reviews(study.path), read_levels(study.path)
    used, rejected, excluded = [], {}, {}
    for name in study.subject_ids:
        review = reviews.get(name)
        if review is not None and review.verdict == "exclude":
            excluded[name] = review.comment
            continue
        if (review is None or review.verdict is None) and not include_flagged:
            level, reasons = levels.get(name) or _level_of(study, name)
            if level == "reject":
                rejected[name] = reasons
                continue
        used.append(name)
    return Selection(tuple(used), rejected, excluded)


def usable(study: Study, include_flagged: bool = False) -> tuple[Study, Selection]:
    """A study without the scans that are not to be used, see `select`, and what was selected.

    Raises:
        UserError: no scan is left, or a table of the study cannot be read.
    """
    selection = select(study, include_flagged)
    if selection.left_out and not selection.subject_ids:
        raise UserError(f"No scan of the study {study.path} can be used: {'; '.join(selection.notes)}.")
    return study.without(selection.left_out), selection


def read_reviews(study: Path) -> dict[str, Review]:
    """The verdicts and comments of ``review.csv`` by subject; rows with neither are left out.

    Raises:
        UserError: the file cannot be read, lacks a column, or has verdicts other than ``keep`` and ``exclude``.
    """
    path = study / REVIEW
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise UserError(f"{path} is too long for a table of verdicts.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
            if not {"subject_id", "verdict"} <= names.keys():
                raise UserError(f"{path} lacks the columns subject_id and verdict; `anatograph qc` exports both.")
            rows = list(reader)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({plain(str(error))[:200]}); save it as UTF-8 CSV.") from error
    found: dict[str, Review] = {}
    faults: list[str] = []
    for number, row in enumerate(rows, start=1):
        subject = (row[names["subject_id"]] or "").strip()
        word = (row[names["verdict"]] or "").strip().lower()
        if not subject and not word:
            continue
        if fault := fault_of(subject):
            faults.append(f"row {number}: {fault}")
        elif word and word not in get_args(Verdict):
            faults.append(f"row {number} ({subject}): verdict '{plain(word)[:40]}' must be keep, exclude or empty")
        elif subject in found:
            faults.append(f"row {number}: {subject} is listed twice")
        else:
            comment = (row.get(names.get("comment", ""), "") or "").strip()
            if word or comment:
                found[subject] = Review("keep" if word == "keep" else "exclude" if word else None, comment)
    if faults:
        raise UserError(
            f"{path} has {counted(len(faults), 'fault')}; correct these rows:\n  " + "\n  ".join(faults[:10])
        )
    return found


def _level_of(study: Study, name: str) -> tuple[Level, str]:
    """Level and reasons of a scan that ``quality.csv`` does not list yet."""
    try:
        subject = study.subject(name)
        return subject.level, joined(subject.concerns)
    except UserError:  # reported where the subject is used
        return "ok", ""


def _some(names: dict[str, str]) -> str:
    shown = list(names)[:_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
