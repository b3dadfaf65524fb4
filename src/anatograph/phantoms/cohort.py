"""A cohort of phantoms on disk: scans, true masks and the table."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anatograph.choices import ImageFormat
from anatograph.errors import UserError
from anatograph.execution.progress import progress_over
from anatograph.phantoms.dicom import write_series
from anatograph.phantoms.expiration import exhale
from anatograph.phantoms.folder import (
    claim_cohort,
    is_complete,
    plain_settings,
    subject_folder,
    write_masks,
    write_nifti,
    write_table,
    write_truth,
)
from anatograph.phantoms.settings import PhantomSettings
from anatograph.phantoms.subject import PhantomSubject, make_subject

J = TypeVar("J")
R = TypeVar("R")
BREATHS = ("inspiration", "expiration")
"""Values of the column ``breath``."""


@dataclass(frozen=True)
class Schedule:
    """When each subject is scanned."""

    visits: int = 1
    """How often."""
    interval: float = 1.5
    """Years between visits; 0 for repeat scans of one day."""
    expiration: bool = False
    """Whether each subject has an expiratory scan beside the inspiratory one."""

    def __post_init__(self) -> None:
        if not 1 <= self.visits <= 99:
            raise UserError(f"{self.visits} visits are not possible; choose 1 to 99.")
        if not 0.0 <= self.interval <= 10.0:
            raise UserError(f"Visits cannot be {self.interval} years apart; choose 0 to 10.")
        if self.expiration and self.visits > 1:
            raise UserError("Expiratory scans are drawn for one visit; leave --visits or --expiration out.")


@dataclass(frozen=True)
class _Job:
    out: str
    index: int
    seed: int
    format: ImageFormat
    settings: PhantomSettings
    visit: int | None = None
    """Counted from 0; None in a cohort with one visit each."""
    years: float = 0.0
    """Time since the first visit."""
    breath: str = ""
    """inspiration or expiration; empty in a cohort without expiratory scans."""

    @property
    def name(self) -> str:
        """subject_id."""
        person = subject_name(self.index)
        if self.breath:
            return f"{person}-{self.breath[:4].rstrip('i')}"
        return person if self.visit is None else f"{person}-v{self.visit + 1}"


def write_cohort(
    out: str | Path,
    subjects: int,
    seed: int = 0,
    format: ImageFormat = "nifti",
    workers: int = 1,
    *,
    schedule: Schedule | None = None,
    settings: PhantomSettings | None = None,
    progress: bool = True,
) -> Path:
    """Write a synthetic cohort of ``subjects`` subjects into the folder ``out`` and return its ``cohort.csv``.

    A subject depends on ``seed`` and its number alone, not on the size of the cohort or the ``workers``. An
    interrupted cohort continues where it stopped; finished subjects are kept. With several visits of the ``schedule``
    the columns person, visit and years are added; with expiratory scans (`exhale`) the columns person and breath.

    Raises UserError when ``out`` holds anything other than this cohort, or a number is out of range.
    """
    folder = Path(out)
    if subjects < 1 or subjects > 99_999:
        raise UserError(f"A phantom cohort cannot have {subjects} subjects; choose 1 to 99999.")
    if format not in ("nifti", "dicom"):
        raise UserError(f"Unknown phantom format {format!r}; choose nifti or dicom.")
    check_numbers(seed, workers)
    settings, schedule = settings or PhantomSettings(), schedule or Schedule()
    account: dict[str, Any] = {"seed": seed, "format": format, "settings": plain_settings(settings)}
    account |= {"visits": schedule.visits, "interval": schedule.interval} if schedule.visits > 1 else {}
    claim_cohort(folder, account | ({"expiration": True} if schedule.expiration else {}))

    jobs = [_Job(str(folder), i, seed, format, settings) for i in range(subjects)]
    if schedule.visits > 1:
        jobs = [replace(job, visit=k, years=k * schedule.interval) for job in jobs for k in range(schedule.visits)]
    if schedule.expiration:
        jobs = [replace(job, breath=breath) for job in jobs for breath in BREATHS]
    missing = [job for job in jobs if not is_complete(folder, job.name)]
    done = run_jobs(_work, missing, workers)
    for _ in progress_over(done, "phantom", "subject", total=len(missing), shown=progress):
        pass
    return write_table(folder, [job.name for job in jobs])


def check_numbers(seed: int, workers: int) -> None:
    """Raise UserError for a negative seed or no workers."""
    if workers < 1:
        raise UserError(f"{workers} workers cannot draw a cohort; choose at least one.")
    if seed < 0:
        raise UserError(f"The seed {seed} is negative; choose 0 or more.")


def subject_name(index: int) -> str:
    """subject_id of subject number ``index``."""
    return f"phantom-{index + 1:04d}"


def run_jobs(work: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[R]:
    """Results of ``work``, as they come, here or in ``workers`` processes."""
    if workers == 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), maxtasksperchild=20) as pool:
        yield from pool.imap_unordered(work, jobs)


def _work(job: _Job) -> str:
    """Draw one subject."""
    subject = make_subject(job.seed, job.index, job.settings, job.visit or 0, job.years)
    if job.breath:
        subject = _at_breath(subject, job)
    with subject_folder(Path(job.out), job.name) as building:
        _write_subject(subject, building, job)
    return job.name


def _at_breath(subject: PhantomSubject, job: _Job) -> PhantomSubject:
    """The subject at the job's breath; the true response of the pair stands in the rows of both."""
    exhaled = exhale(subject, np.random.default_rng(np.random.SeedSequence(job.seed, spawn_key=(job.index, 9))))
    if job.breath == BREATHS[1]:
        return exhaled
    response = {name: value for name, value in exhaled.variables.items() if name.startswith("prm_")}
    return replace(subject, variables=subject.variables | response)


def _write_subject(subject: PhantomSubject, folder: Path, job: _Job) -> None:
    frame, profile, name = subject.volume.frame, subject.profile, job.name
    relative = Path("subjects") / name
    row: dict[str, Any] = {"subject_id": name}
    if job.format == "nifti":
        write_nifti(subject.volume.array, frame, folder / "image.nii.gz")
        row["image"] = str(relative / "image.nii.gz")
    else:
        key = f"{job.seed}/{name}/{json.dumps(plain_settings(job.settings), sort_keys=True)}"
        write_series(subject.volume, folder / "dicom", key, name, profile.sex, profile.age, profile.scanner.site)
        row["image"] = str(relative / "dicom")
    write_nifti(subject.lungs.array, frame, folder / "lungs.nii.gz")
    row["lungs"] = str(relative / "lungs.nii.gz")
    if job.visit is not None:
        row |= {"person": subject_name(job.index), "visit": job.visit + 1, "years": round(job.years, 3)}
    if job.breath:
        row |= {"person": subject_name(job.index), "breath": job.breath}
    row |= subject.variables
    row |= write_masks(folder, subject.diseases, frame)
    write_truth(folder, row, profile=asdict(profile))
