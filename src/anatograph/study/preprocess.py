"""Fill a study from a cohort table: subjects that are missing or failed, one failed scan never ending the run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from anatograph.anatomy.atlas import Atlas, default_atlas, load_atlas
from anatograph.choices import GraphRule, LungMethod, Redo, RegistrationMethod
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.progress import Progress
from anatograph.execution.scheduling import ended_like_interrupted
from anatograph.study.cohort import Cohort, CohortRow, read_cohort
from anatograph.study.cohort.origin import record_table
from anatograph.study.pending import find_pending, settle_versions
from anatograph.study.prepare import prepare_subject
from anatograph.study.run import PreprocessRun
from anatograph.study.settings import PreprocessSettings
from anatograph.study.store import Study
from anatograph.study.worker import Job

__all__ = ["PreprocessSettings", "prepare_subject", "preprocess"]


def preprocess(
    cohort: str | Path | Cohort,
    study: str | Path,
    atlas: str | Path | Atlas | None = None,
    lungs: LungMethod = "auto",
    registration: RegistrationMethod = "deformable",
    workers: int = 1,
    scheduler: str | None = None,
    *,
    graph: GraphRule = "atlas",
    rho: float | None = None,
    settings: PreprocessSettings | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    worker_memory: float | None = None,
    redo: Sequence[Redo] = (),
    mixed: bool = False,
    deidentified_only: bool = False,
    progress: bool = True,
) -> RunAccount:
    """Bring every scan of a cohort into a study.

    Subjects that the study already holds are left alone; all others, including earlier failures, are processed.
    A scan that cannot be used is recorded in ``failures.csv`` and the run continues.  Stopped at any moment, the study
    holds complete subjects only, and the same call continues from there, on this machine or another.  Several runs may
    fill one study at a time: they share the work.

    Args:
        cohort: the table, or one that was read with `read_cohort`.
        study: folder of the study, new or made with the same atlas and settings.
        atlas: folder of an atlas, or the atlas; the one that ships with the package if not given.
        lungs: ``auto``, ``given``, ``threshold``, ``lungmask`` or ``totalsegmentator``.
        registration: ``deformable``, ``affine``, ``ants-affine`` or ``ants-syn``.
        workers: local processes; fewer are started where memory has no room for them.
        scheduler: address of a dask scheduler to work on instead, or its scheduler file.
        graph: which landmarks are neighbours: ``atlas``, ``distance`` (eq. 3) or ``overlap`` (the published code).
        rho: ρ of eq. 3 in mm; 1.2 steps of the landmark grid for ``atlas`` and 1.5 for ``distance`` if not given.
        settings: all settings at once; ``lungs``, ``registration``, ``graph``, ``rho`` and ``seed`` are then not used.
        weights: file or folder of a lung network's weights.
        seed: for registrations that use chance.
        worker_memory: GB that a worker is expected to need; `anatograph.execution.memory.WORKER_GB` if not given.
        redo: subjects of the study to reprocess: ``outdated``, made by an older version of the steps, and ``changed``,
            whose image has changed since.
        mixed: add subjects to a study that an older version made, without reprocessing its subjects.
        deidentified_only: refuse scans and masks whose headers still name a patient, and name the fields.
        progress: whether to show a bar on the standard error stream.

    Returns:
        The account of the run, saved in the study as ``preprocess.run.json``; ``exit_status`` is 1 if subjects failed
        or were not reached (a full disk, a scheduler that was lost).

    Raises:
        UserError: a faulty table, a study made with other settings or by an older version, no scan found.
    """
    settings = settings or PreprocessSettings(lungs, registration, graph_rule=graph, rho=rho, seed=seed)
    weights = None if weights is None else Path(weights).resolve()
    described = {
        "cohort": str((cohort.path if isinstance(cohort, Cohort) else Path(cohort)).absolute()),
        "study": str(study),
        **settings.to_dict(),
    }
    described |= {"atlas": _name(atlas), "weights": str(weights or ""), "workers": workers, "scheduler": scheduler}
    described["deidentified_only"] = deidentified_only
    with RunAccount("preprocess", described, Path(study)) as account:
        table = cohort if isinstance(cohort, Cohort) else read_cohort(cohort)
        _check_request(table, settings, weights)
        opened = Study.create(study, _atlas(atlas), settings)
        since = account.save().stat().st_mtime  # saved so that a run that is killed has left its settings
        opened.clear_leftovers()
        pending = find_pending(opened, table, tuple(redo), mixed)
        record_table(opened, table.path)
        for note in pending.notes:
            account.note(note)
        jobs = [
            Job(
                _absolute(row),
                opened.path.resolve(),
                weights,
                since,
                redo=pending.redo,
                deidentified_only=deidentified_only,
            )
            for row in table.rows
            if row.subject_id in pending.subject_ids
        ]
        _note_disk(opened, len(jobs), account)
        with Progress("preprocess", len(jobs), "scan", progress) as bar, ended_like_interrupted():
            run = PreprocessRun(opened, table, jobs, since, account, bar)
            try:
                run.work(workers, scheduler, worker_memory)
            finally:
                run.finish()
        settle_versions(opened)
    return account


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
        raise UserError(
            f"--lungs given takes the table's masks, but {cohort.path} names no mask in a column 'lungs'; "
            "add it, or use --lungs auto."
        )
    if weights is not None and not weights.exists():
        raise UserError(f"The lung network's weights {weights} do not exist.")


def _note_disk(study: Study, subjects: int, account: RunAccount) -> None:
    """Warn that the disk is too small."""
    need, free = subjects * study.bytes_of_patches, shutil.disk_usage(study.path).free
    if need > free:
        account.note(
            f"{subjects} subjects take {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free in {study.path}; "
            "the run will stop when the disk is full."
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
