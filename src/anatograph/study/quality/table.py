"""``quality.csv``: one row a scan with all its figures, its level and the reasons, the worst first."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anatograph.errors import UserError, counted
from anatograph.execution.files import write_text
from anatograph.limits import MAX_TABLE_BYTES
from anatograph.study.quality.levels import LEVELS, Concern, Figure, Level, joined, separate, worst
from anatograph.study.store import Study

NAME = "quality.csv"
_FIRST = ("subject_id", "level", "reasons", "lungs_from")
_READERS = 16
_NAMED = 10
_SAME = "the voxels are those of {}"


def write_quality(study: Study) -> Path:
    """Write ``quality.csv`` from the figures of every subject of a study, and return its path.

    Scans with the same voxels under several identifiers are at least a ``check``.

    Raises:
        OSError: where the study cannot be written.
    """
    names = study.subject_ids
    with ThreadPoolExecutor(_READERS) as threads:
        rows = [row for row in threads.map(lambda name: _row(study, name), names) if row is not None]
    by_voxels: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.voxels:
            by_voxels[row.voxels].append(row.subject_id)
    for row in rows:
        others = [name for name in by_voxels.get(row.voxels, ()) if name != row.subject_id]
        if others:
            row.concerns.append(Concern("check", _SAME.format(", ".join(others[:3]))))
    rows.sort(key=lambda row: (-LEVELS.index(row.level), -len(row.concerns), row.subject_id))
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIRST, *columns])
    for row in rows:
        figures = [_cell(row.figures.get(name)) for name in columns]
        writer.writerow([row.subject_id, row.level, joined(row.concerns), row.lungs_from, *figures])
    path = study.path / NAME
    write_text(path, text.getvalue())
    return path


def read_levels(study: Path) -> dict[str, tuple[Level, str]]:
    """Level and reasons of each scan that ``quality.csv`` lists; empty where the file is missing.

    Raises:
        UserError: the file is not what `write_quality` writes.
    """
    path = study / NAME
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise ValueError("it is too long")
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found: dict[str, tuple[Level, str]] = {}
        for row in rows:
            level = next(one for one in LEVELS if one == row["level"])
            found[row["subject_id"]] = (level, row["reasons"])
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, StopIteration, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read ({error or 'a level is unknown'}); remove it, and `anatograph preprocess` with the "
            "same arguments writes it again."
        ) from error


def same_scans(study: Path) -> dict[str, str]:
    """Subjects of ``quality.csv`` whose voxels another subject has too, with the sentence that says so."""
    start = f"check: {_SAME.format('')}"
    return {
        name: reason
        for name, (_, reasons) in read_levels(study).items()
        for reason in separate(reasons)
        if reason.startswith(start)
    }


def to_look_at(study: Path) -> list[str]:
    """Sentences that name the scans of a study at the levels reject and check, with their reasons, or say that there is
    none; empty for a study without a table."""
    found = read_levels(study)
    sentences = []
    for level, words in (("reject", "rejected"), ("check", "to check")):
        named = [
            f"{name} ({'; '.join(r.split(': ', 1)[1] for r in separate(reasons) if r.startswith(f'{level}: '))})"
            for name, (own, reasons) in found.items()
            if own == level
        ]
        if named:
            more = f", and {len(named) - _NAMED} more in {NAME}" if len(named) > _NAMED else ""
            sentences.append(f"{counted(len(named), 'scan')} {words}: {', '.join(named[:_NAMED])}{more}")
    if found and not sentences:
        sentences.append(f"{counted(len(found), 'scan')} in the study, none rejected or to check")
    return sentences


class _Row:
    def __init__(self, subject_id: str, concerns: Sequence[Concern], about: Mapping[str, object]) -> None:
        self.subject_id = subject_id
        self.concerns = list(concerns)
        quality = about["quality"]
        self.figures: dict[str, Figure] = dict(quality) if isinstance(quality, dict) else {}
        self.lungs_from = str(about.get("lungs_from", ""))
        source = about.get("source")
        self.voxels = str(source.get("voxels", "")) if isinstance(source, dict) else ""

    @property
    def level(self) -> Level:
        return worst([concern.level for concern in self.concerns])


def _row(study: Study, name: str) -> _Row | None:
    try:
        subject = study.subject(name)
        return _Row(name, subject.concerns, subject.about)
    except UserError:  # reported where the subject is used
        return None


def _cell(value: Figure | None) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
