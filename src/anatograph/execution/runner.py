"""A run over many subjects that several runs may share: results, lost workers, and subjects claimed by other runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from anatograph.errors import counted
from anatograph.execution import failures
from anatograph.execution.account import Failure, RunAccount
from anatograph.execution.claims import holder
from anatograph.execution.tasks import SchedulerGoneError, SubjectResult, WorkerLost

POLL = 2.0
"""Seconds between two looks at subjects that another run has claimed."""


class SharedWork(Protocol):
    """Where several runs share the work on subjects."""

    @property
    def home(self) -> Path:
        """Folder in which failures are recorded."""

    @property
    def claims(self) -> Path:
        """Folder of the claims."""

    @property
    def finished(self) -> bool:
        """Whether another run has completed everything, so that there is nothing left to wait for."""

    def is_done(self, subject_id: str) -> bool:
        """Whether the subject is done as this run wants it."""


class SharedRun:
    """What has become of each subject of a run so far."""

    def __init__(
        self,
        work: SharedWork,
        subject_ids: Sequence[str],
        since: float,
        account: RunAccount,
        say: Callable[[str], None],
        settled: Callable[[SubjectResult], None],
    ) -> None:
        """Begin a run.

        Args:
            work: where the results go.
            subject_ids: what the run is to do.
            since: when it began, by the clock of the results' file system; a later failure is not retried.
            account: timings go there.
            say: called with sentences for the user.
            settled: called once for each subject that is done, was done already, or failed.
        """
        self.work, self.since, self.account, self.say = work, since, account, say
        self.stopped = ""
        """Why the run cannot go on; empty while it can."""
        self._settled = settled
        self._open = dict.fromkeys(subject_ids)

    @property
    def open_ids(self) -> list[str]:
        """Subjects that are not settled yet."""
        return list(self._open)

    def run(self, attempt: Callable[[list[str]], Generator[SubjectResult]]) -> None:
        """Attempt all subjects, then again those that other runs have claimed and released undone.

        ``attempt`` yields one result for each of the subjects that it is given.
        """
        waiting = self.open_ids
        while waiting and not self.stopped:
            elsewhere: list[str] = []
            try:
                with closing(attempt(waiting)) as results:
                    for result in results:
                        if result.kind == "elsewhere":
                            elsewhere.append(result.subject_id)
                        elif result.kind == "stop":
                            if not self.work.finished:
                                self.stopped = result.reason
                            break
                        else:
                            self.settle(result)
            except SchedulerGoneError as gone:
                self.stopped = str(gone)
            waiting = self._wait_for_release(elsewhere)

    def settle(self, result: SubjectResult) -> None:
        """Take a final result into the account."""
        self._open.pop(result.subject_id, None)
        for stage, seconds in result.timings.items():
            self.account.add_time(stage, seconds)
        self._settled(result)

    def lost(self, subject_ids: Sequence[str], worker: WorkerLost) -> Iterator[SubjectResult]:
        """Results for subjects whose worker died; it may have completed some of them, and recorded no failure."""
        for name in subject_ids:
            if self.work.is_done(name):
                yield SubjectResult(name, "done")
            else:
                failures.record(self.work.home, Failure(name, "worker", worker.reason))
                yield SubjectResult(name, "failed", stage="worker", reason=worker.reason)

    def _wait_for_release(self, subject_ids: Sequence[str]) -> list[str]:
        """Wait until another run has settled each subject, or has released one undone; returns what is then open."""
        waiting = list(subject_ids)
        if waiting and not self.stopped:
            number = counted(len(waiting), "subject")
            self.say(f"Another run is working on {number}; this one waits for it, or takes them over.")
        while waiting and not self.stopped and not self.work.finished:
            still: list[str] = []
            for name in waiting:
                failure = failures.recorded(self.work.home, name, self.since)
                if self.work.is_done(name):
                    self.settle(SubjectResult(name, "there"))
                elif failure is not None:
                    self.settle(SubjectResult(name, "failed", stage=failure.stage, reason=failure.reason))
                elif holder(self.work.claims, f"{name}.claim") is None:
                    return [name for name in waiting if name in self._open]
                else:
                    still.append(name)
            waiting = still
            if waiting:
                time.sleep(POLL)
        return []
