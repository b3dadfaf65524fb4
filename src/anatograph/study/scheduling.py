"""Many independent tasks: one after the other, in local processes, or on a dask cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from anatograph.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
_ATTEMPTS = 2
"""How often a task is tried whose worker dies."""


@dataclass(frozen=True)
class WorkerLost:
    """In the place of a result: the process that worked on the task died each time."""

    reason: str
    """What is known about it."""


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int = 1, scheduler: str | None = None
) -> Iterator[tuple[Task, Result | WorkerLost]]:
    """Yield each task with its result, in the order in which they are done.

    ``function`` must catch what can go wrong in a task; a task whose process dies (killed, out of memory) is tried
    once more and then yields `WorkerLost`, and the others go on.

    Args:
        function: importable by name; called with one task.
        tasks: what to work on; function, tasks and results travel between processes.
        workers: local processes, each with one thread; with 1 the work is done in this process.
        scheduler: address of a dask scheduler that does the work instead, on machines that see the same files.

    Raises:
        UserError: fewer than one worker, or a scheduler that cannot be reached.
    """
    if workers < 1:
        raise UserError(f"The number of workers must be at least 1, not {workers}.")
    if scheduler is not None:
        yield from _on_dask(function, tasks, scheduler)
    elif workers == 1:
        for task in tasks:
            yield task, function(task)
    else:
        yield from _in_processes(function, tasks, min(workers, max(len(tasks), 1)))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started inside find in their environment that numerical libraries are to use one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Worker(Generic[Task, Result]):
    """A local process that does one task at a time."""

    def __init__(self, function: Callable[[Task], Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs, function), daemon=True)
        with one_thread_each():
            self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.ready = False

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(OSError):  # it just died; its sentinel will tell
            self.pipe.send(task)

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(timeout=2)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=5)


def _serve(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Body of a worker: take tasks until the pipe closes, and never outlive the process that started it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    try:
        pipe.send(None)  # ready
        while True:
            pipe.send(function(pipe.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], count: int
) -> Iterator[tuple[Task, Result | WorkerLost]]:
    waiting = deque((task, 1) for task in tasks)
    attempts: dict[int, int] = {}
    workers: list[_Worker[Task, Result]] = []
    try:
        workers = [_Worker(function) for _ in range(count)]
        while waiting or any(worker.task is not None for worker in workers):
            for worker in workers:
                if waiting and worker.ready and worker.task is None:
                    task, attempt = waiting.popleft()
                    attempts[id(worker)] = attempt
                    worker.give(task)
            events = wait([w.pipe for w in workers] + [w.process.sentinel for w in workers])
            for position, worker in enumerate(workers):
                if worker.pipe not in events and worker.process.sentinel not in events:
                    continue
                message = _receive(worker)
                task_done = worker.task
                if message is _DEAD:
                    worker.stop()
                    if not worker.ready:
                        raise RuntimeError(
                            "A worker process could not start. In a script of your own, call this below "
                            "`if __name__ == '__main__':`, or use one worker."
                        )
                    workers[position] = _Worker(function)
                    if task_done is None:
                        continue
                    attempt = attempts.pop(id(worker))
                    if attempt < _ATTEMPTS:
                        waiting.append((task_done, attempt + 1))
                    else:
                        yield task_done, WorkerLost(_cause_of_death(worker.process.exitcode))
                elif not worker.ready:
                    worker.ready = True
                elif task_done is not None:
                    worker.task = None
                    yield task_done, message
    finally:
        for worker in workers:
            worker.stop()


_DEAD = object()


def _receive(worker: _Worker[Any, Any]) -> Any:
    try:
        return worker.pipe.recv() if worker.pipe.poll() or worker.process.is_alive() else _DEAD
    except (EOFError, OSError):
        return _DEAD


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode == -9:
        return "the worker process was killed, most likely for want of memory; use fewer workers"
    return f"the worker process died (exit code {exitcode})"


def _on_dask(
    function: Callable[[Task], Result], tasks: Sequence[Task], address: str
) -> Iterator[tuple[Task, Result | WorkerLost]]:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise UserError("A scheduler needs the extra 'dask'; run: pip install 'anatograph[dask]'") from error
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"The dask scheduler at {address} cannot be reached ({error}); check the address.") from error
    with client:
        futures = {client.submit(function, task, pure=False, retries=1): task for task in tasks}
        for future in as_completed(list(futures)):
            task = futures.pop(future)
            problem = future.exception()
            yield task, future.result() if problem is None else WorkerLost(f"lost on the cluster: {problem}")
            future.release()
