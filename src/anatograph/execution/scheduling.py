"""Many independent tasks: one after the other, in local processes, or on a dask cluster."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from anatograph.errors import UserError
from anatograph.execution.memory import WORKER_GB, available_gb, workers_that_fit
from anatograph.execution.tasks import Result, Task, WorkerLost

ISOLATE = True
"""Whether `run_tasks` heeds ``isolated``; a debugger wants it off, so that a task runs in this process."""


@dataclass(frozen=True)
class Workplace:
    """Where tasks run."""

    workers: int = 1
    """Local processes of one thread each; a single one has all threads of the machine."""
    scheduler: str | None = None
    """Address of a dask scheduler, or its scheduler file, that does the work instead, on machines that see the same
    files."""
    memory_gb: float | None = None
    """Memory that a local worker may take; None lets the workers share what is free."""
    notes: tuple[str, ...] = ()
    """Decisions that the user should know of."""

    @classmethod
    def choose(cls, workers: int, scheduler: str | None, tasks: int, worker_gb: float | None = None) -> Workplace:
        """A place for this number of tasks: no more workers than tasks, nor than fit into memory.

        Raises:
            UserError: fewer than one worker, or no positive memory.
        """
        if workers < 1:
            raise UserError(f"The number of workers must be at least 1, not {workers}.")
        if worker_gb is not None and not worker_gb > 0:
            raise UserError(f"The memory of a worker must be more than 0 GB, not {worker_gb:g}.")
        if scheduler is not None:
            return cls(1, scheduler)
        count, sentence = workers_that_fit(max(1, min(workers, tasks)), worker_gb or WORKER_GB)
        there = available_gb()
        share = None if there is None else max(worker_gb or WORKER_GB, 0.9 * there / count)
        return cls(count, None, share, (sentence,) if sentence else ())


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    place: Workplace | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    isolated: bool = False,
) -> Generator[tuple[Task, Result | WorkerLost]]:
    """Yield each task with its result, in order of completion.

    ``function`` must catch the errors of a task; a task whose process dies (killed, out of memory) is tried once more
    and then yields `WorkerLost`, while the others continue.  If the scheduler goes away, its tasks are submitted again
    when it is back.

    Args:
        function: importable by name; called with one task.
        tasks: the tasks; function, tasks and results must be picklable.
        place: where to run them; in this process if not given.
        say: called with sentences for the user.
        isolated: whether even a single worker has a process of its own, because a native library might end it.

    Raises:
        UserError: a scheduler that cannot be reached.
        SchedulerGoneError: a scheduler that disappeared and did not come back.
    """
    place = place or Workplace()
    if not tasks:
        return
    if place.scheduler is not None:
        from anatograph.execution.dask_pool import on_dask

        yield from on_dask(function, tasks, place.scheduler, say)
    elif place.workers == 1 and not (isolated and ISOLATE):
        for task in tasks:
            yield task, function(task)
    else:
        from anatograph.execution.local_pool import in_processes

        alone = place.workers == 1
        memory = None if alone else place.memory_gb
        yield from in_processes(function, tasks, min(place.workers, len(tasks)), memory, all_threads=alone)


@contextmanager
def ended_like_interrupted() -> Iterator[None]:
    """Inside, SIGTERM (a batch system's time limit, a shutdown) ends the run as Ctrl-C does: in an orderly way."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
