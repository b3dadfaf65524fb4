"""Tasks in local processes, which may die without taking the run with them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic

from anatograph.errors import UserError
from anatograph.execution.memory import limit_memory
from anatograph.execution.tasks import Result, Task, WorkerLost
from anatograph.execution.threads import one_thread_each, use_one_thread

_ATTEMPTS = 2
"""Attempts at a task whose worker dies."""
_DEAD = object()


def in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], count: int, memory_gb: float | None = None
) -> Iterator[tuple[Task, Result | WorkerLost]]:
    """`run_tasks` in ``count`` processes of one thread, each of which may take ``memory_gb``."""
    waiting = deque((task, 1) for task in tasks)
    attempts: dict[int, int] = {}
    workers: list[_Worker[Task, Result]] = []
    try:
        workers = [_Worker(function, memory_gb) for _ in range(count)]
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
                            "A worker process could not start. In a script of your own, call this below "
                            "`if __name__ == '__main__':`, or use one worker."
                        )
                    workers[position] = _Worker(function, memory_gb)
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

    def __init__(self, function: Callable[[Task], Result], memory_gb: float | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs, function, memory_gb), daemon=True)
        with one_thread_each():
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


def _serve(pipe: Connection, function: Callable[[Any], Any], memory_gb: float | None) -> None:
    """Body of a worker: take tasks until the pipe closes, and never outlive the process that started it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    try:
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
    return f"the worker process died (exit code {exitcode})"
