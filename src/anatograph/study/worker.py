"""One subject of a cohort, in whichever process on whichever machine: claimed, done and written, or said why not."""

from __future__ import annotations

import errno
import os
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from anatograph.choices import Redo
from anatograph.errors import UserError
from anatograph.execution import failures as failed
from anatograph.execution.account import Failure
from anatograph.execution.claims import Claim, claim
from anatograph.execution.files import clear_leftovers
from anatograph.imaging.identity import refuse_identified
from anatograph.imaging.reading import read_volume
from anatograph.study.cohort import CohortRow
from anatograph.study.prepare import Stages, prepare_subject
from anatograph.study.qc import draw_qc
from anatograph.study.source import fingerprint, has_changed, state
from anatograph.study.store import Study
from anatograph.study.versions import VERSIONS, outdated

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""A disk that takes nothing more is no matter of one subject."""


@dataclass(frozen=True)
class Job:
    """A subject to be preprocessed, as it travels to a worker."""

    row: CohortRow
    """Who and from which files, with absolute paths."""
    study: Path
    """Folder of the study."""
    weights: Path | None
    """Of a lung network."""
    since: float = 0.0
    """When the run began, by the clock of the study's file system: a later failure is not tried again."""
    alone: bool = True
    """Whether all the memory there is was its; if not, it is tried again so before it counts as failed."""
    redo: tuple[Redo, ...] = ()
    """What makes a subject that is there be done all the same."""
    deidentified_only: bool = False
    """Whether scans whose headers still name a person are refused."""
    versions: Mapping[str, int] = field(default_factory=lambda: dict(VERSIONS))
    """Steps of the run's own version, which the worker's must equal."""


@dataclass(frozen=True)
class Outcome:
    """What became of it."""

    kind: Literal["done", "there", "elsewhere", "failed", "memory", "stop"]
    """Done here; there already; claimed by somebody else; failed; failed for want of memory; no use in going on."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Wall-clock seconds by stage."""
    flags: tuple[str, ...] = ()
    """What a person should look at."""
    stage: str = ""
    """Where it failed."""
    reason: str = ""
    """Why."""


def do_subject(job: Job) -> Outcome:
    """Preprocess a subject unless it is there or somebody is at it; whatever goes wrong becomes part of the outcome."""
    if dict(job.versions) != VERSIONS:
        return Outcome("stop", stage="worker", reason="the workers run another version of anatograph than this command")
    name = job.row.subject_id
    try:
        study = _study(job.study)
        if is_done(study, job):
            return Outcome("there")
        held = claim(job.study / ".claims", f"{name}.claim")
        if held is None:
            return Outcome("elsewhere")
        try:
            if held.dead:
                clear_leftovers(job.study / ".unfinished", lambda n, t, dead=held.dead: (n, t) != (name, dead))  # type: ignore[misc]
            if is_done(study, job):  # between looking and claiming
                return Outcome("there")
            earlier = failed.recorded(job.study, name, job.since)
            if earlier is not None:
                return Outcome("failed", stage=earlier.stage, reason=earlier.reason)
            outcome = _attempt(study, job, held)
            _keep(job, outcome)
            return outcome
        finally:
            held.release()
    except (OSError, UserError) as error:  # the study itself: gone, full, or not to be written
        return Outcome("stop", stage="study", reason=f"the study {job.study} cannot be used: {_text(error)}")


def is_done(study: Study, job: Job) -> bool:
    """Whether the subject is in the study as the run wants it; looks into it only where something is to be redone."""
    name = job.row.subject_id
    if not study.is_whole(name):
        return False
    if not job.redo:
        return True
    try:
        subject = study.subject(name)
        if "outdated" in job.redo and outdated(subject.recipe):
            return False
        return not ("changed" in job.redo and has_changed(job.row.image, subject.about.get("source", {})))
    except UserError:  # its subject.json cannot be read
        return False


def _attempt(study: Study, job: Job, held: Claim) -> Outcome:
    stages, row = Stages(), job.row
    need = study.bytes_of_patches
    if shutil.disk_usage(job.study).free < need:
        return Outcome("stop", stage="write", reason=_full(job.study, need))
    try:
        with stages("read"):
            if job.deidentified_only:
                for path in (row.image, row.lungs):
                    if path is not None and path.exists():
                        refuse_identified(path)
            before = state(row.image) if row.image.exists() else None
            volume = read_volume(row.image)
            source = fingerprint(row.image)
            if before is not None and any(source[what] != before[what] for what in before):
                raise UserError(
                    f"{row.image} changed while it was read; run again when whatever is writing it has finished."
                )
        subject = prepare_subject(
            volume,
            row.lungs,
            study.atlas,
            study.settings,
            subject_id=row.subject_id,
            weights=job.weights,
            stages=stages,
        )
        subject.source.update(source, lungs=str(row.lungs) if subject.lung_method == "given" else "")
        with stages("write"):
            study.write_subject(subject, lambda path: draw_qc(subject, study.atlas, path), held.token)
    except UserError as error:
        return Outcome("failed", stages.timings, stage=stages.current, reason=str(error))
    except MemoryError:
        return _no_memory(job, stages)
    except OSError as error:
        return _disk_error(error, job, stages, need)
    except Exception as error:
        if "allocate" in str(error):  # what torch and ITK say when they are refused memory
            return _no_memory(job, stages)
        # A fault of ours or a file damaged in a way that nobody foresaw: one subject must not end the run.
        return Outcome("failed", stages.timings, stage=stages.current, reason=_unexpected(error))
    return Outcome("done", stages.timings, flags=subject.flags)


def _disk_error(error: OSError, job: Job, stages: Stages, need: int) -> Outcome:
    if stages.current == "write":
        if error.errno in FULL:
            return Outcome("stop", stages.timings, stage="write", reason=_full(job.study, need))
        if error.errno in (errno.EIO, None):  # numpy says of a short write how many bytes are missing, and no number
            # Another worker may have given its room back between the file that was cut short and the look at the disk.
            return Outcome("stop", stages.timings, stage="write", reason=_cut_short(job.study))
        if error.errno == errno.ENOENT and (job.study / "subjects" / job.row.subject_id / "subject.json").is_file():
            return Outcome("there", stages.timings)  # this process was thought dead, and another did the subject
        return Outcome("failed", stages.timings, stage="write", reason=f"could not be written: {_text(error)}")
    if stages.current in ("read", "lungs"):
        what = f"{error.filename}: " if error.filename else ""
        reason = f"{what}{error.strerror or error}; it vanished or its disk failed while it was read"
        return Outcome("failed", stages.timings, stage=stages.current, reason=reason)
    return Outcome("failed", stages.timings, stage=stages.current, reason=_unexpected(error))


def _keep(job: Job, outcome: Outcome) -> None:
    """Write down a failure, or that there is none any more."""
    name = job.row.subject_id
    if outcome.kind == "failed":
        failed.record(job.study, Failure(name, outcome.stage, " ".join(outcome.reason.split())))
    elif outcome.kind == "done":
        failed.forget(job.study, name)


def _study(path: Path) -> Study:
    """The study, its atlas kept from one subject of a worker to the next."""
    return _opened(path, (path / "study.json").stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _opened(path: Path, modified_ns: int) -> Study:
    return Study.open(path)


def _full(study: Path, need: int) -> str:
    free = shutil.disk_usage(study).free
    return f"the disk of {study} is full ({free / 1e6:.0f} MB free, a subject takes {need / 1e6:.0f} MB); make room"


def _cut_short(study: Path) -> str:
    free = shutil.disk_usage(study).free / 1e6
    return (
        f"a file in {study} was not written whole: its disk was full at that moment ({free:.0f} MB are free now) or is "
        "failing; make room, or look after the disk"
    )


def _no_memory(job: Job, stages: Stages) -> Outcome:
    reason = "not enough memory, with all that is free; use a larger machine"
    return Outcome("failed" if job.alone else "memory", stages.timings, stage=stages.current, reason=reason)


def _unexpected(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"{error.filename}: {os.strerror(error.errno)}" if error.filename else os.strerror(error.errno)
    return str(error)
