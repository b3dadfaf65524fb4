"""Failed subjects and the reasons: a record for each, written by the worker, and ``failures.csv`` made from them.

A worker writes the record of a subject before it releases its claim, so the record survives the run, and every
run on the study sees it.  The table is for the reader; it is rewritten now and then and when a run ends.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from anatograph.execution.account import Failure
from anatograph.execution.claims import alone
from anatograph.execution.files import write_text

_COLUMNS = ["subject_id", "stage", "reason"]


def failures_in(study: Path) -> list[Failure]:
    """The failures listed in ``failures.csv``, in its order."""
    try:
        with (study / "failures.csv").open(encoding="utf-8", newline="") as file:
            rows = [[row.get(name) or "" for name in _COLUMNS] for row in csv.DictReader(file)]

    except FileNotFoundError:
        return []
    return [Failure(*row) for row in rows]


def record(study: Path, failure: Failure) -> None:
    """Record the failure of a subject; an earlier record is replaced."""
    file = _file(study, failure.subject_id)
    file.parent.mkdir(exist_ok=True)
    write_text(file, json.dumps([failure.subject_id, failure.stage, failure.reason], ensure_ascii=False) + "\n")


def forget(study: Path, subject_id: str) -> None:
    """Remove the record of a subject that has been done since."""
    with suppress(FileNotFoundError):
        _file(study, subject_id).unlink()


def recorded(study: Path, subject_id: str, since: float = 0.0) -> Failure | None:
    """The failure of a subject, if there was one at ``since`` (seconds of the file system's clock) or later."""
    file = _file(study, subject_id)
    try:
        if file.stat().st_mtime < since:
            return None
        return Failure(*json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_table(study: Path, there: Collection[str]) -> list[Failure]:
    """Bring ``failures.csv`` up to date, in alphabetical order, and return it.

    ``there`` are the subjects that the study holds.  Lines of a table that an older version wrote are kept until their
    subject is there.
    """
    with alone(study / ".claims", "failures.lock"):
        found = {failure.subject_id: failure for failure in failures_in(study)}
        folder = study / ".failed"
        if folder.is_dir():
            names = [entry.name.removesuffix(".json") for entry in os.scandir(folder) if entry.name.endswith(".json")]
            found |= {name: failure for name in names if (failure := recorded(study, name)) is not None}
        table = [found[name] for name in sorted(found) if name not in there]
        write_text(study / "failures.csv", _as_csv(table))
    return table


def _as_csv(failures: list[Failure]) -> str:
    from io import StringIO

    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((failure.subject_id, failure.stage, failure.reason) for failure in failures)
    return text.getvalue()


def _file(study: Path, subject_id: str) -> Path:
    return study / ".failed" / f"{subject_id}.json"
