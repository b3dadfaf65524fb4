"""A cohort checked by its table and headers alone: everything that can be known before a long run."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from anatograph.checkup.findings import BROKEN, GOOD, POOR, Finding
from anatograph.errors import UserError, plain
from anatograph.study.cohort import Cohort, CohortRow, inspect_cohort, is_there

MASKS_MB = 0.6
"""A subject's mask, picture and tables beside its patches."""
_MANY_FOLDERS = 40
"""Number of DICOM folders from which starting several processes pays."""
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
    yield Finding(GOOD, f"{path.name}: {len(cohort.rows)} subjects")
    for fault in faults:
        yield Finding(BROKEN, fault, "correct the row; a table with a faulty row is refused")
    for sentence in cohort.missing_files():
        yield Finding(POOR, sentence, "correct the path in the table; paths are relative to it")
    yield from _same_files(cohort)
    there = [row for row in cohort.rows if is_there(row.image)]
    looks = list(_looks(there))
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
            "de-identify them if they are to be; `preprocess --deidentified-only` refuses them",
        )
    good = sum(not look.problem for look in looks)
    yield Finding(GOOD, f"{good} of {len(cohort.rows)} scans are sound as far as their headers show")
    yield _disk(path, len(cohort.rows))
    if not good:
        yield Finding(BROKEN, "no scan of the table can be used", "check the image column")


def _same_files(cohort: Cohort) -> Iterator[Finding]:
    by_image: dict[str, list[str]] = defaultdict(list)
    for row in cohort.rows:
        by_image[os.path.realpath(row.image)].append(row.subject_id)
    for names in by_image.values():
        if len(names) > 1:
            shown = ", ".join(names[:5])
            yield Finding(POOR, f"{shown} name the same scan", "give each its own scan, or remove rows")


def _looks(rows: Sequence[CohortRow]) -> Iterator[_Look]:
    """What the headers say, row by row; folders, whose headers take long, in several processes where they are many."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    many = sum(row.image.is_dir() for row in rows) >= _MANY_FOLDERS and cores > 1
    spawn = multiprocessing.get_context("spawn")
    pool: Executor = ProcessPoolExecutor(min(cores, 8), spawn) if many else ThreadPoolExecutor(8)
    with pool:
        yield from pool.map(_look, rows, chunksize=4 if many else 1)


def _look(row: CohortRow) -> _Look:
    from anatograph.imaging.identity import fields_naming_a_person
    from anatograph.imaging.reading import inspect_scan

    flags: tuple[str, ...] = ()
    person: tuple[str, ...] = ()

    def scan() -> None:
        nonlocal flags, person
        flags = inspect_scan(row.image)
        person = tuple(fields_naming_a_person(row.image, _NAMES_IN))

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
    what = f"a study of {subjects} subjects on the built-in atlas takes {needed:.1f} GB"
    if needed > free:
        return Finding(
            POOR, f"{what}; {free:.0f} GB are free beside the table", "make room, or put the study on another disk"
        )
    return Finding(GOOD, f"{what}; {free:.0f} GB are free beside the table")
