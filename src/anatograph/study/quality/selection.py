"""Which scans of a study are used: all but those that quality control rejects, or that a person takes out."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from anatograph.errors import UserError, counted, plain
from anatograph.limits import MAX_TABLE_BYTES
from anatograph.study.identifiers import fault_of
from anatograph.study.quality.exclusion import excluded_ids, known_ids, unlisted_ids
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
    """The scans of a study that a command uses; every scan that it does not use is counted once."""

    subject_ids: tuple[str, ...]
    """Those used, in the order of the study."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Those that quality control rejects, with the reasons."""
    excluded: dict[str, str] = field(default_factory=dict)
    """Those that ``review.csv`` excludes, with the comments."""
    named: tuple[str, ...] = ()
    """Those that the user names to be left out, with ``--exclude``."""
    unlisted: tuple[str, ...] = ()
    """Those that no cohort table of the study lists any more."""

    @property
    def withdrawn(self) -> tuple[str, ...]:
        """Those that a person takes out of the analysis, not quality control: excluded, named or unlisted."""
        return (*self.excluded, *self.named, *self.unlisted)

    @property
    def left_out(self) -> tuple[str, ...]:
        """All that are not used."""
        return (*self.rejected, *self.withdrawn)

    def among(self, subject_ids: Collection[str]) -> Selection:
        """The same for some of the scans only."""
        return Selection(
            tuple(name for name in self.subject_ids if name in subject_ids),
            {name: why for name, why in self.rejected.items() if name in subject_ids},
            {name: why for name, why in self.excluded.items() if name in subject_ids},
            tuple(name for name in self.named if name in subject_ids),
            tuple(name for name in self.unlisted if name in subject_ids),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say how many scans are left out, and which."""
        found = []
        if self.rejected:
            found.append(
                f"{counted(len(self.rejected), 'scan')} that quality control rejects left out "
                f"({some(self.rejected)}); --include-flagged uses them"
            )
        if self.excluded:
            excluded = counted(len(self.excluded), "scan")
            found.append(f"{excluded} that {REVIEW} excludes left out ({some(self.excluded)})")
        if self.named:
            found.append(f"{counted(len(self.named), 'scan')} left out by --exclude ({some(self.named)})")
        if self.unlisted:
            unlisted = counted(len(self.unlisted), "scan")
            found.append(f"{unlisted} that the study's cohort table no longer lists left out ({some(self.unlisted)})")
        return tuple(found)


def select(
    study: Study, include_flagged: bool = False, exclude: Sequence[str] = (), by_table: bool = True
) -> Selection:
    """The scans of a study that are to be used.

    Left out are those that ``review.csv`` excludes, those in ``exclude``, with ``by_table`` those that no cohort table
    of the study lists any more, and, unless ``include_flagged``, those at level ``reject`` that ``review.csv`` does not
    keep.

    Raises:
        UserError: ``review.csv`` or ``quality.csv`` cannot be read, or ``exclude`` names a scan that is unknown.
    """
    named = excluded_ids(exclude, known_ids(study), f"the study {study.path}") if exclude else frozenset()
    return choose(study, include_flagged, named, by_table)


def choose(study: Study, include_flagged: bool, named: Collection[str], by_table: bool = True) -> Selection:
    """As `select`, for identifiers that have been checked.

    Raises:
        UserError: ``review.csv`` or ``quality.csv`` cannot be read.
    """
    reviews, levels = read_reviews(study.path), read_levels(study.path)
    gone = set(unlisted_ids(study, study.subject_ids)) if by_table else set()
    used, rejected, excluded = [], {}, {}
    left_out: list[str] = []
    unlisted: list[str] = []
    for name in study.subject_ids:
        review = reviews.get(name)
        if review is not None and review.verdict == "exclude":
            excluded[name] = review.comment
        elif name in named:
            left_out.append(name)
        elif name in gone:
            unlisted.append(name)
        elif not include_flagged and (why := _rejection(study, name, review, levels)) is not None:
            rejected[name] = why
        else:
            used.append(name)
    return Selection(tuple(used), rejected, excluded, tuple(left_out), tuple(unlisted))


def usable(study: Study, include_flagged: bool = False, exclude: Sequence[str] = ()) -> tuple[Study, Selection]:
    """A study without the scans that are not to be used, see `select`, and what was selected.

    Raises:
        UserError: no scan is left, an unknown one is excluded, or a table of the study cannot be read.
    """
    selection = select(study, include_flagged, exclude)
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


def some(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    known = list(names)
    return ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")


def _rejection(study: Study, name: str, review: Review | None, levels: Mapping[str, tuple[Level, str]]) -> str | None:
    """Why quality control rejects a scan; None where it does not, or where the reader keeps the scan."""
    if review is not None and review.verdict is not None:
        return None
    level, reasons = levels.get(name) or _level_of(study, name)
    return reasons if level == "reject" else None


def _level_of(study: Study, name: str) -> tuple[Level, str]:
    """Level and reasons of a scan that ``quality.csv`` does not list yet."""
    try:
        subject = study.subject(name)
        return subject.level, joined(subject.concerns)
    except UserError:  # reported where the subject is used
        return "ok", ""
