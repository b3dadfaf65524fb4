"""Tasks in this process, in others, on a cluster; and workers that die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from anatograph.errors import UserError
from anatograph.study.scheduling import WorkerLost, run_tasks


def square(task: int) -> tuple[int, str | None]:
    return task * task, os.environ.get("OMP_NUM_THREADS")


def die_on_three(task: tuple[int, str]) -> int:
    number, folder = task
    with Path(folder, f"{number}-{os.getpid()}").open("w"):
        pass
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_once(folder: str) -> str:
    marker = Path(folder, "tried")
    if not marker.exists():
        marker.touch()
        os._exit(7)
    return "done"


def wait_and_tell(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    time.sleep(300)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_comes_back_once(workers: int) -> None:
    found = dict(run_tasks(square, list(range(20)), workers))
    assert {task: result[0] for task, result in found.items() if not isinstance(result, WorkerLost)} == {
        n: n * n for n in range(20)
    }


def test_workers_have_one_thread_and_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert all(result == (task * task, "1") for task, result in run_tasks(square, [1, 2, 3], 2))
    assert "OMP_NUM_THREADS" not in os.environ


def test_a_task_that_kills_its_worker_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    tasks = [(number, str(tmp_path)) for number in range(6)]
    found = {task[0]: result for task, result in run_tasks(die_on_three, tasks, 2)}
    lost = found.pop(3)
    assert isinstance(lost, WorkerLost)
    assert "memory" in lost.reason
    assert found == {n: n for n in (0, 1, 2, 4, 5)}
    assert len(list(tmp_path.glob("3-*"))) == 2  # it was given a second chance


def test_a_task_whose_worker_died_by_chance_is_done_in_the_end(tmp_path: Path) -> None:
    assert list(run_tasks(die_once, [str(tmp_path)], 2)) == [(str(tmp_path), "done")]


def test_no_tasks() -> None:
    assert list(run_tasks(square, [], 4)) == []


def test_wrong_requests() -> None:
    with pytest.raises(UserError, match="at least 1"):
        list(run_tasks(square, [1], 0))


def test_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=40
    ) as cluster:
        found = dict(run_tasks(square, [1, 2, 3], scheduler=cluster.scheduler_address))
    assert {task: result[0] for task, result in found.items() if not isinstance(result, WorkerLost)} == {
        1: 1,
        2: 4,
        3: 9,
    }


def test_a_scheduler_that_is_not_there() -> None:
    pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    with pytest.raises(UserError, match="cannot be reached"):
        list(run_tasks(square, [1], scheduler="tcp://127.0.0.1:9"))
