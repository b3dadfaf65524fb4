"""Filling a study from a cohort: what is missing or failed, whatever happens to single scans."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from anatograph.anatomy.atlas import Atlas, default_atlas, load_atlas
from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from anatograph.runlog import RunAccount
from anatograph.study.cohort import Cohort, CohortRow, read_cohort
from anatograph.study.prepare import Stages, prepare_subject
from anatograph.study.qc import draw_qc
from anatograph.study.scheduling import WorkerLost, run_tasks
from anatograph.study.settings import LungMethod, PreprocessSettings, RegistrationMethod
from anatograph.study.source import fingerprint, has_changed
from anatograph.study.store import Study

__all__ = ["PreprocessSettings", "prepare_subject", "preprocess"]


@dataclass(frozen=True)
class _Task:
    """A subject to be preprocessed, as it travels to a worker."""

    row: CohortRow
    study: Path
    weights: Path | None


@dataclass(frozen=True)
class _Outcome:
    """What became of it."""

    timings: dict[str, float]
    flags: tuple[str, ...] = ()
    failed_stage: str = ""
    reason: str = ""


def preprocess(
    cohort: str | Path | Cohort,
    study: str | Path,
    atlas: str | Path | Atlas | None = None,
    lungs: str = "auto",
    registration: str = "affine",
    workers: int = 1,
    scheduler: str | None = None,
    *,
    settings: PreprocessSettings | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> RunAccount:
    """Bring every scan of a cohort into a study.

    Subjects that the study already holds are left alone; the others, those that failed before among them, are done.
    A scan that cannot be used is recorded in ``failures.csv`` and the run goes on.  Stopped at any moment, the study
    holds whole subjects only, and the same call goes on from there.

    Args:
        cohort: the table, or one that was read with `read_cohort`.
        study: folder of the study, new or made with the same atlas and settings.
        atlas: folder of an atlas, or the atlas; the one that ships with the package if not given.
        lungs: ``auto``, ``given``, ``threshold``, ``lungmask`` or ``totalsegmentator``.
        registration: ``affine``, ``ants-affine`` or ``ants-syn``.
        workers: local processes.
        scheduler: address of a dask scheduler to work on instead.
        settings: all settings at once; ``lungs``, ``registration`` and ``seed`` are then not used.
        weights: file or folder of a lung network's weights.
        seed: for registrations that use chance.
        progress: whether to show a bar on the standard error stream.

    Returns:
        The account of the run, saved in the study as ``preprocess.run.json``; ``exit_status`` is 1 if subjects failed.

    Raises:
        UserError: a faulty table, a study made with other settings or being filled by another run, no scan found.
    """
    settings = settings or PreprocessSettings(
        cast("LungMethod", lungs), cast("RegistrationMethod", registration), seed=seed
    )
    weights = None if weights is None else Path(weights).resolve()
    described = {"cohort": str(getattr(cohort, "path", cohort)), "study": str(study), **settings.as_dict()}
    described |= {"atlas": _name(atlas), "weights": str(weights or ""), "workers": workers, "scheduler": scheduler}
    with RunAccount("preprocess", described, Path(study)) as account:
        table = cohort if isinstance(cohort, Cohort) else read_cohort(cohort)
        _check_request(table, settings, weights)
        opened = Study.create(study, _atlas(atlas), settings)
        with opened.writing():
            account.save()  # so that a run that is killed has left its settings
            _fill(opened, table, account, workers, scheduler, weights, progress)
    return account


def _fill(
    study: Study,
    cohort: Cohort,
    account: RunAccount,
    workers: int,
    scheduler: str | None,
    weights: Path | None,
    progress: bool,
) -> None:
    """Do what is missing and keep ``failures.csv`` up to date on the way."""
    from tqdm import tqdm

    there = set(study.subject_ids)
    rows = [row for row in cohort.rows if row.subject_id not in there]
    _note_changes(study, [row for row in cohort.rows if row.subject_id in there], account)
    asked = set(cohort.subject_ids)
    earlier = [failure for failure in study.failures() if failure.subject_id not in asked]
    folder = study.path.resolve()
    tasks = [_Task(_absolute(row), folder, weights) for row in rows]
    flagged: dict[str, list[str]] = {}
    study.write_failures(earlier)
    with tqdm(total=len(tasks), desc="preprocess", unit="scan", disable=not progress, file=sys.stderr) as bar:
        for task, outcome in run_tasks(_do_subject, tasks, workers, scheduler):
            name = task.row.subject_id
            if isinstance(outcome, WorkerLost):
                outcome = _Outcome({}, failed_stage="worker", reason=outcome.reason)
            for stage, seconds in outcome.timings.items():
                account.add_time(stage, seconds)
            if outcome.failed_stage:
                account.fail(name, outcome.failed_stage, outcome.reason)
                study.write_failures([*earlier, *account.failures])
                bar.write(f"{name}: failed at {outcome.failed_stage}: {outcome.reason}", file=sys.stderr)
            elif outcome.flags:
                flagged[name] = list(outcome.flags)
            bar.update()
            bar.set_postfix(failed=len(account.failures), flagged=len(flagged))
    study.refresh()
    account.result(
        asked=len(cohort.rows),
        already_there=len(cohort.rows) - len(rows),
        done=len(rows) - len(account.failures),
        failed=len(account.failures),
        flagged=flagged,
    )
    account.output(study.path)
    if study.failures():
        account.output(study.path / "failures.csv")


def _do_subject(task: _Task) -> _Outcome:
    """Preprocess one subject in whichever process; everything that goes wrong becomes part of the outcome."""
    stages = Stages()
    row = task.row
    try:
        study = _study(task.study)
        with stages("read"):
            volume = read_volume(row.image)
            source = fingerprint(row.image)
        subject = prepare_subject(
            volume,
            row.lungs,
            study.atlas,
            study.settings,
            subject_id=row.subject_id,
            weights=task.weights,
            stages=stages,
        )
        subject.source.update(source, lungs=str(row.lungs) if subject.lung_method == "given" else "")
        with stages("write"):
            study.write_subject(subject, lambda path: draw_qc(subject, study.atlas, path))
    except UserError as error:
        return _Outcome(stages.timings, failed_stage=stages.current, reason=str(error))
    except MemoryError:
        reason = "not enough memory; use fewer workers or a larger machine"
        return _Outcome(stages.timings, failed_stage=stages.current, reason=reason)
    except Exception as error:
        # A fault of ours or a file damaged in a way that nobody foresaw: one subject must not end the run.
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"unexpected {type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"
        return _Outcome(stages.timings, failed_stage=stages.current, reason=reason)
    return _Outcome(stages.timings, flags=subject.flags)


def _study(path: Path) -> Study:
    """The study, its atlas kept from one subject of a worker to the next."""
    return _opened(path, (path / "study.json").stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _opened(path: Path, modified_ns: int) -> Study:
    return Study.open(path)


def _absolute(row: CohortRow) -> CohortRow:
    """The row for a worker that may have another working directory."""
    return CohortRow(row.subject_id, row.image.absolute(), None if row.lungs is None else row.lungs.absolute())


def _check_request(cohort: Cohort, settings: PreprocessSettings, weights: Path | None) -> None:
    if not any(row.image.exists() for row in cohort.rows):
        raise UserError(
            f"None of the {len(cohort.rows)} images that {cohort.path} names exists, the first is "
            f"{cohort.rows[0].image}; images are looked for relative to the table."
        )
    if settings.lungs == "given" and all(row.lungs is None for row in cohort.rows):
        raise UserError(f"Lungs are to be given, but {cohort.path} names no mask in a column 'lungs'.")
    if weights is not None and not weights.exists():
        raise UserError(f"The lung network's weights {weights} do not exist.")


def _note_changes(study: Study, rows: Sequence[CohortRow], account: RunAccount) -> None:
    """Say whose image is another than the one that the study's patches were cut from."""
    changed = [
        row.subject_id for row in rows if has_changed(row.image, study.subject(row.subject_id).about.get("source", {}))
    ]
    if changed:
        account.note(
            f"The image of {', '.join(changed)} changed since it was preprocessed; the study holds the earlier one. "
            f"To do it anew, remove its folder in {study.path / 'subjects'} and run again."
        )
        print(account.notes[-1], file=sys.stderr)


def _atlas(atlas: str | Path | Atlas | None) -> Atlas:
    if isinstance(atlas, Atlas):
        return atlas
    return default_atlas() if atlas is None else load_atlas(atlas)


def _name(atlas: str | Path | Atlas | None) -> str:
    if atlas is None:
        return "the one that ships with the package"
    return f"{len(atlas)} landmarks, hash {atlas.hash[:12]}" if isinstance(atlas, Atlas) else str(atlas)
