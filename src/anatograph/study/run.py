"""A run that fills a study: jobs to workers, results to the account and to ``failures.csv``."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from anatograph.execution import failures
from anatograph.execution.account import RunAccount
from anatograph.execution.memory import available_gb
from anatograph.execution.progress import Progress
from anatograph.execution.runner import SharedRun
from anatograph.execution.scheduling import Workplace, run_tasks
from anatograph.execution.tasks import SubjectResult, WorkerLost
from anatograph.study.cohort import Cohort
from anatograph.study.quality import table as quality
from anatograph.study.store import Study
from anatograph.study.worker import Job, is_done, process_subject

_TABLE_INTERVAL = 20.0
"""Seconds between two versions of ``failures.csv`` during a run."""


class _StudyWork:
    """The study as several runs share it."""

    finished = False

    def __init__(self, study: Study, jobs: dict[str, Job]) -> None:
        self.home: Path = study.path
        self.claims: Path = study.path / ".claims"
        self._study, self._jobs = study, jobs

    def is_done(self, subject_id: str) -> bool:
        return is_done(self._study, self._jobs[subject_id])


class PreprocessRun:
    """One run that fills a study."""

    def __init__(
        self, study: Study, cohort: Cohort, jobs: Sequence[Job], since: float, account: RunAccount, bar: Progress
    ) -> None:
        self.study, self.cohort, self.account, self.bar = study, cohort, account, bar
        self.flagged: dict[str, list[str]] = {}
        self.done = 0
        self.by_others = 0
        self._jobs = {job.row.subject_id: job for job in jobs}
        self._shared = SharedRun(
            _StudyWork(study, self._jobs), list(self._jobs), since, account, bar.say, self._settled
        )
        self._table_written = time.monotonic()

    def work(self, workers: int, scheduler: str | None, worker_gb: float | None) -> None:
        """Process the jobs; those that lacked memory are retried one at a time."""

        def attempt(names: list[str]) -> Generator[SubjectResult]:
            place = Workplace.choose(workers, scheduler, len(names), worker_gb)
            for note in place.notes:
                self.account.note(note)
                self.bar.say(note)
            alone = place.workers == 1 or scheduler is not None
            large: list[str] = []
            with closing(self._results(names, place, alone)) as results:
                for result in results:
                    if result.kind == "memory":
                        large.append(result.subject_id)
                    else:
                        yield result
            if large:
                self.bar.say(
                    f"{len(large)} scans ran out of memory while others were processed; they are retried one at a time."
                )
            for name in large:  # in a process of its own, which may die without taking the run with it
                free = available_gb()
                yield from self._results([name], Workplace(2, memory_gb=None if free is None else 0.9 * free), True)

        self._shared.run(attempt)

    def _results(self, names: Sequence[str], place: Workplace, alone: bool) -> Generator[SubjectResult]:
        jobs = [replace(self._jobs[name], alone=alone) for name in names]
        with closing(run_tasks(process_subject, jobs, place, self.bar.say, isolated=True)) as results:
            for job, result in results:
                if isinstance(result, WorkerLost):
                    yield from self._shared.lost([job.row.subject_id], result)
                else:
                    yield result

    def _settled(self, result: SubjectResult) -> None:
        name = result.subject_id
        if result.kind == "failed":
            self.account.fail(name, result.stage, result.reason)
            self.bar.say(f"{name}: failed at {result.stage}: {self.account.failures[-1].reason}")
            if time.monotonic() - self._table_written > _TABLE_INTERVAL or len(self.account.failures) == 1:
                self.write_table()
        elif result.kind == "done":
            self.done += 1
            if result.flags:
                self.flagged[name] = list(result.flags)
        else:
            self.by_others += 1
        self.bar.step(failed=len(self.account.failures), flagged=len(self.flagged))

    def write_table(self) -> None:
        """Bring ``failures.csv`` up to date, unless the disk is full."""
        self._table_written = time.monotonic()
        try:
            self.study.refresh()
            failures.write_table(self.study.path, self.study.whole(self.study.subject_ids))
        except OSError as error:
            self.bar.say(f"failures.csv could not be written ({error.strerror or error}); the next run writes it.")

    def _write_quality(self) -> None:
        """Bring ``quality.csv`` up to date, and say which scans are there under several identifiers."""
        if not self.done and not self.by_others and (self.study.path / quality.NAME).is_file():
            return
        try:
            self.study.refresh()
            self.account.output(quality.write_quality(self.study))
        except OSError as error:
            self.bar.say(f"{quality.NAME} could not be written ({error.strerror or error}); the next run writes it.")
            return
        for name, sentence in quality.same_scans(self.study.path).items():
            self.account.note(f"{name}: {sentence.removeprefix('check: ')}")

    def finish(self) -> None:
        """Record what has become of every subject."""
        open_ids = self._shared.open_ids
        if open_ids:  # workers may have been stopped in the middle of a subject
            self.study.clear_leftovers()
        self.write_table()
        self._write_quality()
        self.account.result(
            asked=len(self.cohort.rows),
            already_there=len(self.cohort.rows) - self.bar.total,
            done=self.done,
            done_by_other_runs=self.by_others,
            failed=len(self.account.failures),
            not_tried=len(open_ids),
            flagged=self.flagged,
        )
        if self._shared.stopped:
            left = f"{len(open_ids)} of {len(self.cohort.rows)} subjects were not reached"
            self.account.stop(f"Stopped: {self._shared.stopped}. {left}; the same command continues from there.")
        self.account.output(self.study.path)
        if self.study.failures():
            self.account.output(self.study.path / "failures.csv")
