"""Tasks on a dask cluster, whose workers and scheduler may disappear and come back."""

from __future__ import annotations

import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.execution.tasks import Result, SchedulerGoneError, Task, WorkerLost
from anatograph.execution.threads import use_one_thread

PATIENCE = 600.0
"""Seconds in which a scheduler that was lost may come back."""
_LEAST = 32
"""Least number of tasks submitted at a time; else three for each thread of its workers.  A cohort of a million never
lies in the scheduler's memory."""
_LOOK = 5.0
"""Seconds between two checks of the number of workers and of whether the scheduler still answers."""

_HANDOVER = 60.0
"""Seconds that the result of a task may take from its worker to here, by way of the scheduler."""
_GONE = (OSError, TimeoutError, CancelledError, FutureCancelled)
"""Raised for a result that cannot be fetched: a broken connection, a timeout, futures that the client gave up."""


def on_dask(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    address: str,
    say: Callable[[str], None],
    patience: float | None = None,
) -> Iterator[tuple[Task, Result | WorkerLost]]:
    """`run_tasks` on the cluster whose scheduler has this address, or wrote this scheduler file."""
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UserError("A scheduler needs the extra 'dask'; run: pip install 'anatograph[dask]'") from error
    waiting: deque[Task] = deque(tasks)
    client = _connect(address)
    if client is None:
        raise UserError(f"The dask scheduler at {address} cannot be reached; check the address and that it runs.")
    while True:
        threads = _threads(client)
        say(f"The scheduler at {client.scheduler.address} has {threads} worker threads"
            f"{'; waiting for workers' if not threads else ''}.")  # fmt: skip
        try:
            yield from _drain(client, function, waiting)
        finally:
            _close(client)
        if not waiting:
            return
        say(f"The scheduler cannot be reached; its {len(waiting)} open tasks are submitted again when it is back.")
        client = _reconnect(address, PATIENCE if patience is None else patience)


def _drain(
    client: Any, function: Callable[[Task], Result], waiting: deque[Task]
) -> Iterator[tuple[Task, Result | WorkerLost]]:
    """Work on ``waiting`` until it is empty or the scheduler is gone; unfinished tasks are put back."""
    from distributed import as_completed
    from distributed.client import ClosedClientError

    running: dict[Any, Task] = {}
    done = as_completed(loop=client.loop)
    looked, most = 0.0, _LEAST
    try:
        while waiting or running:
            if time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                threads = _threads(client)
                if threads is None:
                    return
                most = max(_LEAST, 3 * threads)
            while waiting and len(running) < most:
                try:
                    future = client.submit(_alone, function, waiting[0], pure=False)
                except ClosedClientError:  # it gave up while the last results were being written
                    return
                running[future] = waiting.popleft()
                done.add(future)
            for future in _finished(done):
                task = running.pop(future)
                if future.status not in ("finished", "error"):  # lost with the scheduler
                    waiting.appendleft(task)
                    return
                try:
                    result: Any = _fetch(future)
                except _GONE:  # done, but the scheduler went down before it delivered the result
                    waiting.appendleft(task)
                    return
                future.release()
                yield task, result
    finally:
        waiting.extendleft(running.values())


def _finished(done: Any) -> list[Any]:
    """Futures that ended, waiting a moment for one."""
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        batch = done.next_batch(block=False)
        if batch:
            return list(batch)
        time.sleep(0.01)
    return []


def _fetch(future: Any) -> Any:
    """The result of a future that ended, or `WorkerLost` with the reason why it has none.

    Raises:
        OSError, TimeoutError, CancelledError: the scheduler, which hands results over, is gone.
    """
    problem = future.exception(timeout=_HANDOVER)
    if problem is None:
        try:
            return future.result(timeout=_HANDOVER)
        except _GONE:
            raise
        except Exception as error:  # a result that cannot be unpickled here; another attempt would not help
            problem = error
    return WorkerLost(_reason(problem))


def _alone(function: Callable[[Any], Any], task: Any) -> Any:
    """A task on a cluster's worker, which may be set up for more threads than one."""
    use_one_thread()
    return function(task)


def _connect(address: str) -> Any:
    """A client, or None if the scheduler does not answer."""
    from distributed import Client

    try:
        if address.endswith(".json") or Path(address).is_file():
            if not Path(address).is_file():
                return None
            return Client(scheduler_file=address, timeout="10s", set_as_default=False)
        return Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError):
        return None


def _reconnect(address: str, patience: float) -> Any:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        client = _connect(address)
        if client is not None:
            return client
        time.sleep(1.0)
    raise SchedulerGoneError(
        f"the scheduler at {address} was lost and did not come back within {patience / 60:.0f} minutes; "
        "start it and its workers, and run the same command again"
    )


def _threads(client: Any) -> int | None:
    """Threads of all workers, or None where the scheduler does not answer."""
    try:
        return int(sum(client.sync(client.scheduler.ncores, callback_timeout=10).values()))
    except Exception:  # whatever a broken connection raises in this version of distributed
        return None


def _close(client: Any) -> None:
    try:
        client.close(timeout=2)
    except Exception:  # the scheduler is gone already
        return


def _reason(problem: BaseException) -> str:
    if type(problem).__name__ == "KilledWorker":
        return "the workers that tried it died, most likely out of memory; give each worker more"
    return f"lost on the cluster: {type(problem).__name__}: {problem}"
