"""A cohort checked by its table and headers alone: everything that can be known before a long run."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anatograph.checkup.findings import BROKEN, GOOD, POOR, Finding
from anatograph.errors import UserError, counted, plain
from anatograph.execution.scheduling import Workplace, run_tasks
from anatograph.execution.tasks import WorkerLost
from anatograph.study.cohort import Cohort, CohortRow, inspect_cohort, is_there
from anatograph.study.source import same_contents, state

MASKS_MB = 0.6
"""A subject's mask, picture and tables beside its patches."""
_MANY_FOLDERS = 40
"""Number of DICOM folders from which starting several processes pays."""
_BATCH = 8
"""Scans that a process looks at between two messages."""
_NAMES_IN = 4
"""Files of a DICOM folder that are searched for names; `preprocess --deidentified-only` searches all."""
_SCAN = "repair or replace the scan, or remove the row"


@dataclass(frozen=True)
class _Look:
    """What the headers of one row's files show."""

    problem: str = ""
    flags: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    mask_problem: str = ""


def look_at_cohort(path: Path) -> Iterator[Finding]:
    """Findings about a cohort's table and scans.

    Raises:
        UserError: a table that cannot be read.
    """
    cohort, faults = inspect_cohort(path)
    yield Finding(GOOD, f"{path.name}: {counted(len(cohort.rows), 'subject')}")
    for fault in faults:
        yield Finding(BROKEN, fault, "correct the row; a table with a faulty row is refused")
    for sentence in cohort.missing_files():
        yield Finding(POOR, sentence, "correct the path in the table; paths are relative to it")
    yield from _notes(cohort)
    there = [row for row in cohort.rows if is_there(row.image)]
    yield from _same_scans(there)
    looks = _looks(there)
    named = []
    for row, look in zip(there, looks, strict=True):
        if look.problem:
            yield Finding(POOR, look.problem, _SCAN, row.subject_id)
        if look.mask_problem:
            yield Finding(POOR, look.mask_problem, "repair the mask, or empty the cell", row.subject_id)
        for flag in look.flags:
            yield Finding(GOOD, f"will be flagged: {flag}", "", row.subject_id)
        if look.named:
            named.append(row.subject_id)
    if named:
        names = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
        yield Finding(
            GOOD,
            f"headers of {len(named)} scans still name a patient ({names})",
            "de-identify them if your data must be; `preprocess --deidentified-only` refuses them",
        )
    good = sum(not look.problem for look in looks)
    yield Finding(GOOD, f"{good} of {len(cohort.rows)} scans are sound as far as their headers show")
    yield _disk(path, len(cohort.rows))
    if not good:
        yield Finding(BROKEN, "no scan of the table can be used", "check the image column")


def _notes(cohort: Cohort) -> Iterator[Finding]:
    for notes in cohort.notes.values():
        for note in notes:
            yield Finding(GOOD, note, "if that is not what the column means, correct the table")


def _same_scans(rows: Sequence[CohortRow]) -> Iterator[Finding]:
    """Rows with one scan: by the path, links resolved, and by the contents of files of one size."""
    by_place: dict[str, list[CohortRow]] = defaultdict(list)
    for row in rows:
        by_place[os.path.realpath(row.image)].append(row)
    groups = [[row.subject_id for row in same] for same in by_place.values() if len(same) > 1]
    by_size: dict[tuple[int, int], list[CohortRow]] = defaultdict(list)
    for same in by_place.values():
        with suppress(OSError, UserError):  # reported with the scan itself
            size = state(same[0].image)
            by_size[size["files"], size["bytes"]].append(same[0])
    for alike in by_size.values():
        by_contents: dict[str, list[str]] = defaultdict(list)
        for row in alike if len(alike) > 1 else ():
            with suppress(OSError, UserError):
                by_contents[same_contents(row.image)].append(row.subject_id)
        groups += [names for names in by_contents.values() if len(names) > 1]
    for names in groups:
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        yield Finding(POOR, f"{shown} have the same scan", "give each its own scan, or remove rows")


def _looks(rows: Sequence[CohortRow]) -> list[_Look]:
    """What the headers say, in the order of the rows; in processes that a native library may end without harm."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    many = sum(row.image.is_dir() for row in rows) >= _MANY_FOLDERS
    place = Workplace(min(cores, 8) if many else 1)
    batches = [tuple(range(k, min(k + _BATCH, len(rows)))) for k in range(0, len(rows), _BATCH)]
    found: dict[int, _Look] = {}
    lost: list[int] = []
    for batch, looks in run_tasks(_look_at, [[(k, rows[k]) for k in batch] for batch in batches], place, isolated=True):
        if isinstance(looks, WorkerLost):
            lost += [k for k, _ in batch]
        else:
            found |= looks
    for one, looks in run_tasks(_look_at, [[(k, rows[k])] for k in lost], Workplace(1), isolated=True):
        found |= {one[0][0]: _Look(looks.reason)} if isinstance(looks, WorkerLost) else looks
    return [found[k] for k in range(len(rows))]


def _look_at(rows: list[tuple[int, CohortRow]]) -> dict[int, _Look]:
    with ThreadPoolExecutor(4) as threads:  # on a network file system a look is waiting, not work
        return dict(zip([k for k, _ in rows], threads.map(_look, [row for _, row in rows]), strict=True))


def _look(row: CohortRow) -> _Look:
    from anatograph.imaging.identity import identifying_fields
    from anatograph.imaging.reading import inspect_scan

    flags: tuple[str, ...] = ()
    person: tuple[str, ...] = ()

    def scan() -> None:
        nonlocal flags, person
        flags = inspect_scan(row.image)
        person = tuple(identifying_fields(row.image, _NAMES_IN))

    def mask() -> None:
        if row.lungs is not None and is_there(row.lungs):
            inspect_scan(row.lungs, "mask")

    return _Look(_problem(scan), flags, person, _problem(mask))


def _problem(check: Callable[[], None]) -> str:
    """The problem that a check reports, or nothing; a damaged file must not end the check of the others."""
    try:
        check()
    except UserError as error:
        return str(error)
    except Exception as error:
        return f"cannot be read ({type(error).__name__}: {plain(str(error))[:200]})"
    return ""


def _disk(path: Path, subjects: int) -> Finding:
    from anatograph.anatomy.atlas import default_atlas

    atlas = default_atlas()
    needed = subjects * (len(atlas) * atlas.patch_size**3 * 2 / 1e6 + MASKS_MB) / 1e3
    free = shutil.disk_usage(path.resolve().parent).free / 1e9
    what = f"a study of {counted(subjects, 'subject')} on the built-in atlas takes {needed:.1f} GB"
    if needed > free:
        return Finding(
            POOR, f"{what}; {free:.0f} GB are free beside the table", "make room, or put the study on another disk"
        )
    return Finding(GOOD, f"{what}; {free:.0f} GB are free beside the table")
