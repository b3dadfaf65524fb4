"""One subject of a cohort in a worker, on any machine: claimed, prepared and written, or refused with the reason."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from anatograph.choices import Redo
from anatograph.errors import UserError
from anatograph.execution import failures
from anatograph.execution.account import Failure
from anatograph.execution.claims import Claim, claim
from anatograph.execution.files import clear_leftovers
from anatograph.execution.tasks import SubjectResult
from anatograph.imaging.identity import refuse_identified
from anatograph.imaging.reading import read_volume
from anatograph.imaging.volume import Volume
from anatograph.study.cohort import CohortRow
from anatograph.study.prepare import Stages, prepare_subject
from anatograph.study.quality.picture import draw_qc
from anatograph.study.source import fingerprint, has_changed, state
from anatograph.study.store import Study
from anatograph.study.versions import VERSIONS, outdated

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors of a full or read-only disk, which concern the whole run and not one subject."""


@dataclass(frozen=True)
class Job:
    """A subject to be preprocessed, as sent to a worker."""

    row: CohortRow
    """The subject and its files, with absolute paths."""
    study: Path
    """Folder of the study."""
    weights: Path | None
    """Of a lung network."""
    since: float = 0.0
    """When the run began, by the clock of the study's file system: a later failure is not retried."""
    alone: bool = True
    """Whether it has all available memory; if not, it is retried alone before it counts as failed."""
    redo: tuple[Redo, ...] = ()
    """Reasons to redo a subject that the study already holds."""
    deidentified_only: bool = False
    """Whether scans whose headers still name a patient are refused."""
    versions: Mapping[str, int] = field(default_factory=lambda: dict(VERSIONS))
    """Step versions of the run, which must equal the worker's."""


def process_subject(job: Job) -> SubjectResult:
    """Preprocess a subject unless it is done or claimed by another run; every error becomes part of the result."""
    name = job.row.subject_id
    if dict(job.versions) != VERSIONS:
        return SubjectResult(
            name, "stop", stage="worker", reason="the workers run a different version of anatograph from this command's"
        )
    try:
        study = _study(job.study)
        if is_done(study, job):
            return SubjectResult(name, "there")
        held = claim(job.study / ".claims", f"{name}.claim")
        if held is None:
            return SubjectResult(name, "elsewhere")
        try:
            if held.dead:
                clear_leftovers(job.study / ".unfinished", lambda n, t, dead=held.dead: (n, t) != (name, dead))  # type: ignore[misc]
            if is_done(study, job):  # between the check and the claim
                return SubjectResult(name, "there")
            earlier = failures.recorded(job.study, name, job.since)
            if earlier is not None:
                return SubjectResult(name, "failed", stage=earlier.stage, reason=earlier.reason)
            result = _attempt(study, job, held)
            _record(job, result)
            return result
        finally:
            held.release()
    except (OSError, UserError) as error:  # the study itself: gone, full, or not to be written
        return SubjectResult(
            name, "stop", stage="study", reason=f"the study {job.study} cannot be used: {_text(error)}"
        )


def is_done(study: Study, job: Job) -> bool:
    """Whether the study holds the subject as the run wants it; its files are read only where subjects are redone."""
    name = job.row.subject_id
    if not study.is_whole(name):
        return False
    if not job.redo:
        return True
    try:
        subject = study.subject(name)
        if "outdated" in job.redo and outdated(subject.step_versions):
            return False
        return not ("changed" in job.redo and has_changed(job.row.image, subject.about.get("source", {})))
    except UserError:  # its subject.json cannot be read
        return False


def _attempt(study: Study, job: Job, held: Claim) -> SubjectResult:
    stages, row, name = Stages(), job.row, job.row.subject_id
    need = study.bytes_of_patches
    if shutil.disk_usage(job.study).free < need:
        return SubjectResult(name, "stop", stage="write", reason=_full(job.study, need))
    try:
        with stages("read"):
            if job.deidentified_only:
                for path in (row.image, row.lungs):
                    if path is not None and path.exists():
                        refuse_identified(path)
            before = state(row.image) if row.image.exists() else None
            volume = read_volume(row.image)
            source = {**fingerprint(row.image), "voxels": _digest(volume)}
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
        return SubjectResult(name, "failed", stages.timings, stage=stages.current, reason=str(error))
    except MemoryError:
        return _no_memory(job, stages)
    except OSError as error:
        return _disk_error(error, job, stages, need)
    except Exception as error:
        if "allocate" in str(error):  # what torch and ITK say when an allocation fails
            return _no_memory(job, stages)
        if stages.current == "write" and os.strerror(errno.ENOSPC) in str(error):  # HDF5 says so in its own error
            return SubjectResult(name, "stop", stages.timings, stage="write", reason=_full(job.study, need))
        # A bug, or a file damaged in an unforeseen way: one subject must not end the run.
        return SubjectResult(name, "failed", stages.timings, stage=stages.current, reason=_unexpected(error))
    return SubjectResult(name, "done", stages.timings, flags=subject.flags)


def _disk_error(error: OSError, job: Job, stages: Stages, need: int) -> SubjectResult:
    name = job.row.subject_id
    if stages.current == "write":
        if error.errno in FULL:
            return SubjectResult(name, "stop", stages.timings, stage="write", reason=_full(job.study, need))
        if error.errno in (errno.EIO, None):  # numpy reports a short write without an error number
            # Another worker may have freed space between the truncated write and the check of the disk.
            return SubjectResult(name, "stop", stages.timings, stage="write", reason=_cut_short(job.study))
        if error.errno == errno.ENOENT and (job.study / "subjects" / job.row.subject_id / "subject.json").is_file():
            return SubjectResult(
                name, "there", stages.timings
            )  # this process was taken for dead, and another one did the subject
        return SubjectResult(
            name, "failed", stages.timings, stage="write", reason=f"could not be written: {_text(error)}"
        )
    if stages.current in ("read", "lungs"):
        what = f"{error.filename}: " if error.filename else ""
        reason = f"{what}{error.strerror or error}; it vanished or its disk failed while it was read"
        return SubjectResult(name, "failed", stages.timings, stage=stages.current, reason=reason)
    return SubjectResult(name, "failed", stages.timings, stage=stages.current, reason=_unexpected(error))


def _record(job: Job, result: SubjectResult) -> None:
    """Record a failure, or remove the record of an earlier one."""
    name = job.row.subject_id
    if result.kind == "failed":
        failures.record(job.study, Failure(name, result.stage, " ".join(result.reason.split())))
    elif result.kind == "done":
        failures.forget(job.study, name)


def _digest(volume: Volume) -> str:
    """Of the voxels alone: the same scan has the same under any name, in any format."""
    return hashlib.blake2b(np.ascontiguousarray(volume.array).data, digest_size=16).hexdigest()


def _study(path: Path) -> Study:
    """The study; a worker keeps its atlas from one subject to the next."""
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
        "failing; make room, or check the disk"
    )


def _no_memory(job: Job, stages: Stages) -> SubjectResult:
    name = job.row.subject_id
    reason = "not enough memory even with all that is free; use a larger machine"
    return SubjectResult(name, "failed" if job.alone else "memory", stages.timings, stage=stages.current, reason=reason)


def _unexpected(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"{error.filename}: {os.strerror(error.errno)}" if error.filename else os.strerror(error.errno)
    return str(error)
