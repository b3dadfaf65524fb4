"""Tasks in local processes, which may die without taking the run with them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any, Generic

from anatograph.errors import UserError
from anatograph.execution.memory import limit_memory
from anatograph.execution.tasks import Result, Task, WorkerLost
from anatograph.execution.threads import one_thread_each, use_one_thread

_ATTEMPTS = 2
"""Attempts at a task whose worker dies."""
_DEAD = object()


def in_processes(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    count: int,
    memory_gb: float | None = None,
    all_threads: bool = False,
) -> Iterator[tuple[Task, Result | WorkerLost]]:
    """`run_tasks` in ``count`` processes, each with up to ``memory_gb`` and one thread, or ``all_threads``."""
    waiting = deque((task, 1) for task in tasks)
    attempts: dict[int, int] = {}
    workers: list[_Worker[Task, Result]] = []
    try:
        workers = [_Worker(function, memory_gb, all_threads) for _ in range(count)]
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
                        raise UserError(
                            f"A worker process could not start: {_cause_of_death(worker.process.exitcode)}. Check the "
                            "memory that is free and the limits on processes."
                        )
                    workers[position] = _Worker(function, memory_gb, all_threads)
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


class _Worker(Generic[Task, Result]):
    """A local process that does one task at a time."""

    def __init__(self, function: Callable[[Task], Result], memory_gb: float | None, all_threads: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, function, memory_gb, all_threads)
        self.process: SpawnProcess = context.Process(target=_serve, args=arguments, daemon=True)
        with nullcontext() if all_threads else one_thread_each(), _without_main(function):
            self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.ready = False

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(OSError):  # it just died; its sentinel will say so
            self.pipe.send(task)

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(timeout=2)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=5)


@contextmanager
def _without_main(function: Callable[..., Any]) -> Iterator[None]:
    """A process started inside does not run the user's script again, so the script needs no ``__main__`` guard."""
    main = sys.modules["__main__"]
    if function.__module__ == "__main__":  # to be found there by the worker
        yield
        return
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(pipe: Connection, function: Callable[[Any], Any], memory_gb: float | None, all_threads: bool) -> None:
    """Body of a worker: take tasks until the pipe closes, and never outlive the process that started it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    try:
        if not all_threads:
            use_one_thread()
        if memory_gb is not None:
            limit_memory(memory_gb)
        pipe.send(None)  # ready
        while True:
            pipe.send(function(pipe.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _receive(worker: _Worker[Any, Any]) -> Any:
    try:
        return worker.pipe.recv() if worker.pipe.poll() or worker.process.is_alive() else _DEAD
    except (EOFError, OSError):
        return _DEAD


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode == -9:
        return "the worker process was killed, most likely out of memory; use fewer workers"
    if exitcode is not None and exitcode < 0:
        with suppress(ValueError):
            name = signal.Signals(-exitcode).name
            return f"a native library ended the worker process ({name}), most likely over a damaged or unusual file"
    return f"the worker process died (exit code {exitcode})"
