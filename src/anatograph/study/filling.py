"""A run that fills a study: jobs to workers, what became of them to the account and to ``failures.csv``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from anatograph.execution import failures as failed
from anatograph.execution.account import Failure, RunAccount
from anatograph.execution.claims import holder
from anatograph.execution.memory import available_gb
from anatograph.execution.progress import Progress
from anatograph.execution.scheduling import SchedulerGoneError, WorkerLost, Workplace, run_tasks
from anatograph.study.cohort import Cohort
from anatograph.study.store import Study
from anatograph.study.worker import Job, Outcome, do_subject, is_done

_LOOK = 2.0
"""Seconds between two looks at subjects that another run is at."""
_TABLE_EVERY = 20.0
"""Seconds between two versions of ``failures.csv`` while the run goes on."""


class Filling:
    """One run that fills a study: what it asks for, and what has become of it so far."""

    def __init__(self, study: Study, cohort: Cohort, account: RunAccount, bar: Progress, scheduler: str | None) -> None:
        self.study, self.cohort, self.account, self.bar, self.scheduler = study, cohort, account, bar, scheduler
        self.flagged: dict[str, list[str]] = {}
        self.done = 0
        self.by_others = 0
        self.stopped = ""
        self._open: set[str] = set()
        self._told = time.monotonic()

    def work(self, jobs: Sequence[Job], workers: int, worker_gb: float | None) -> None:
        """Do the jobs; then those that lacked memory, one at a time; then those that others let go."""
        self._open = {job.row.subject_id for job in jobs}
        waiting = list(jobs)
        while waiting and not self.stopped:
            place = Workplace.choose(workers, self.scheduler, len(waiting), worker_gb)
            for note in place.notes:
                self.account.note(note)
                self.bar.say(note)
            alone = place.workers == 1 or self.scheduler is not None
            large, elsewhere = self._pass([replace(job, alone=alone) for job in waiting], place)
            if large and not self.stopped:
                self.bar.say(f"{len(large)} scans lacked memory beside others and are tried alone.")
                for job in large:  # in a process of its own, which may die without the run
                    room = available_gb()
                    own = Workplace(2, memory_gb=None if room is None else 0.9 * room)
                    elsewhere += self._pass([replace(job, alone=True)], own)[1]
            waiting = self._those_let_go(elsewhere)

    def _pass(self, jobs: Sequence[Job], place: Workplace) -> tuple[list[Job], list[Job]]:
        """Each job once; returns those that lacked memory and those that somebody else was at."""
        large: list[Job] = []
        elsewhere: list[Job] = []
        try:
            with closing(run_tasks(do_subject, jobs, place, self.bar.say)) as results:
                for job, outcome in results:
                    if isinstance(outcome, WorkerLost):
                        outcome = self._lost(job, outcome)
                    if outcome.kind == "memory":
                        large.append(job)
                    elif outcome.kind == "elsewhere":
                        elsewhere.append(job)
                    elif outcome.kind == "stop":
                        self.stopped = outcome.reason
                        break
                    else:
                        self._tell(job.row.subject_id, outcome)
        except SchedulerGoneError as gone:
            self.stopped = str(gone)
        return large, elsewhere

    def _lost(self, job: Job, lost: WorkerLost) -> Outcome:
        """The workers that tried it died, so nobody has written that down yet."""
        name = job.row.subject_id
        if is_done(self.study, job):  # it died just after
            return Outcome("done")
        failed.record(self.study.path, Failure(name, "worker", lost.reason))
        return Outcome("failed", stage="worker", reason=lost.reason)

    def _tell(self, name: str, outcome: Outcome) -> None:
        self._open.discard(name)
        for stage, seconds in outcome.timings.items():
            self.account.add_time(stage, seconds)
        if outcome.kind == "failed":
            self.account.fail(name, outcome.stage, outcome.reason)
            self.bar.say(f"{name}: failed at {outcome.stage}: {self.account.failures[-1].reason}")
            if time.monotonic() - self._told > _TABLE_EVERY or len(self.account.failures) == 1:
                self.write_table()
        elif outcome.kind == "done":
            self.done += 1
            if outcome.flags:
                self.flagged[name] = list(outcome.flags)
        else:
            self.by_others += 1
        self.bar.step(failed=len(self.account.failures), flagged=len(self.flagged))

    def _those_let_go(self, jobs: Sequence[Job]) -> list[Job]:
        """Wait until somebody else has done or failed each job, or let go of it (then it is returned)."""
        waiting = list(jobs)
        if waiting and not self.stopped:
            self.bar.say(f"Another run is at {len(waiting)} subjects; this one waits for it, or takes them over.")
        claims = self.study.path / ".claims"
        while waiting and not self.stopped:
            still: list[Job] = []
            for job in waiting:
                name = job.row.subject_id
                if is_done(self.study, job):
                    self._tell(name, Outcome("there"))
                elif (failure := failed.recorded(self.study.path, name, job.since)) is not None:
                    self._tell(name, Outcome("failed", stage=failure.stage, reason=failure.reason))
                elif holder(claims, f"{name}.claim") is None:
                    return [job for job in waiting if job.row.subject_id in self._open]
                else:
                    still.append(job)
            waiting = still
            if waiting:
                time.sleep(_LOOK)
        return []

    def write_table(self) -> None:
        """Bring ``failures.csv`` up to date, if the disk takes it."""
        self._told = time.monotonic()
        try:
            self.study.refresh()
            failed.write_table(self.study.path, self.study.whole(self.study.subject_ids))
        except OSError as error:
            self.bar.say(f"failures.csv could not be written ({error.strerror or error}); the next run writes it.")

    def finish(self) -> None:
        """Write down what became of everything."""
        if self._open:  # workers may have been stopped in the middle of a subject
            self.study.clear_leftovers()
        self.write_table()
        self.account.result(
            asked=len(self.cohort.rows),
            already_there=len(self.cohort.rows) - self.bar.total,
            done=self.done,
            done_by_other_runs=self.by_others,
            failed=len(self.account.failures),
            not_tried=len(self._open),
            flagged=self.flagged,
        )
        if self.stopped:
            left = f"{len(self._open)} of {len(self.cohort.rows)} subjects were not reached"
            self.account.stop(f"Stopped: {self.stopped}. {left}; the same command goes on from there.")
        self.account.output(self.study.path)
        if self.study.failures():
            self.account.output(self.study.path / "failures.csv")
