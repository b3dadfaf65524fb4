"""From a cohort table or a folder of scans to a study beside the vectors, kept or removed afterwards."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from anatograph.anatomy.atlas import Atlas
from anatograph.embedding.table import parquet_path
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.study.cohort.scan_folders import scans_in
from anatograph.study.cohort.table import Cohort, CohortRow, read_cohort
from anatograph.study.preprocess import preprocess
from anatograph.study.quality.exclusion import excluded_ids
from anatograph.study.settings import PreprocessSettings

_TABLES = {".csv", ".tsv", ".parquet"}


@dataclass(frozen=True)
class Preparation:
    """How scans are brought into a study."""

    atlas: Atlas
    """The model's."""
    settings: PreprocessSettings
    """As the model's training scans were prepared."""
    weights: Path | None = None
    """Of a lung network."""
    workers: int = 1
    """Local processes."""
    scheduler: str | None = None
    """A Dask scheduler to use instead."""
    worker_memory: float | None = None
    """GB to expect of a worker."""
    shown: bool = False
    """Whether to show progress on the standard error stream."""


@dataclass(frozen=True)
class ScanStudy:
    """A study made of scans that were given without one."""

    path: Path
    """Its folder."""
    account: RunAccount
    """Which scans failed, and why."""


def is_cohort(source: Path) -> bool:
    """Whether a path is a cohort table or a folder of scans; False for one CT, a volume file or a DICOM folder."""
    if source.is_dir():
        return bool(scans_in(source))
    return source.is_file() and source.suffix.lower() in _TABLES


@contextmanager
def study_of(
    source: Path, out: str | Path | None, keep: bool, how: Preparation, exclude: Sequence[str] = ()
) -> Iterator[ScanStudy]:
    """Preprocess the scans of a cohort table or a folder, but for those in ``exclude``, and give the study.

    With ``out`` and ``keep`` it is ``OUT.study``, and a folder's scans are listed in ``OUT.cohort.csv``; otherwise it
    is hidden beside ``OUT`` and removed on leaving without an error: a run that was stopped continues.  Without ``out``
    it is in the system's folder for temporary files.

    Raises:
        UserError: a faulty table, a study of other settings at that place, or no scan that could be used.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="anatograph-") as folder:
            yield _made(source, Path(folder), "scans", how, exclude)
        return
    table = parquet_path(out)
    table.parent.mkdir(parents=True, exist_ok=True)
    name = table.stem if keep else f".{table.stem}"
    yield _made(source, table.parent, name, how, exclude)
    if not keep:
        shutil.rmtree(table.with_name(f"{name}.study"), ignore_errors=True)
        table.with_name(f"{name}.cohort.csv").unlink(missing_ok=True)


@contextmanager
def study_of_one(scan: Path, mask: Path | None, subject_id: str, how: Preparation) -> Iterator[ScanStudy]:
    """A study of a single scan in the system's folder for temporary files, removed on leaving.

    Raises:
        UserError: the scan cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="anatograph-") as folder:
        table = Path(folder) / "scan.cohort.csv"
        _write_table(table, [CohortRow(subject_id, scan, mask)])
        yield _made(table, Path(folder), "scan", how)


def _made(source: Path, place: Path, name: str, how: Preparation, exclude: Sequence[str] = ()) -> ScanStudy:
    cohort = source
    if source.is_dir():
        cohort = place / f"{name}.cohort.csv"
        _write_table(cohort, scans_in(source))
    study = place / f"{name}.study"
    account = preprocess(
        _without(read_cohort(cohort), exclude),
        study,
        how.atlas,
        workers=how.workers,
        scheduler=how.scheduler,
        settings=how.settings,
        weights=how.weights,
        worker_memory=how.worker_memory,
        progress=how.shown,
    )
    if not any((study / "subjects").iterdir()):
        reason = account.failures[0].reason if account.failures else account.stopped
        raise UserError(f"No scan of {source} could be used; the first reason: {reason}")
    return ScanStudy(study, account)


def _without(cohort: Cohort, exclude: Sequence[str]) -> Cohort:
    """A cohort without some of its scans. Raises UserError where it does not list them, or lists no other."""
    named = excluded_ids(exclude, cohort.subject_ids, cohort.path)
    kept = [number for number, row in enumerate(cohort.rows) if row.subject_id not in named]
    if not kept:
        raise UserError(f"--exclude leaves out every scan of {cohort.path}.")
    rows, table = [cohort.rows[number] for number in kept], cohort.table.iloc[kept].reset_index(drop=True)
    numbers = tuple(cohort.numbers[number] for number in kept) if cohort.numbers else ()
    return replace(cohort, rows=rows, table=table, numbers=numbers)


def _write_table(path: Path, rows: Sequence[CohortRow]) -> None:
    """A cohort table of scans wherever they lie."""
    masks = any(row.lungs is not None for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject_id", "image", "lungs"] if masks else ["subject_id", "image"])
    for row in rows:
        lungs = "" if row.lungs is None else str(row.lungs.absolute())
        writer.writerow([row.subject_id, str(row.image.absolute()), *([lungs] if masks else [])])
    write_text(path, text.getvalue())
