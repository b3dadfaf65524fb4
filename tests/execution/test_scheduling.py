"""Tasks in this process, in others, on a cluster; and workers that die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from anatograph.errors import UserError
from anatograph.execution import memory
from anatograph.execution.progress import Progress
from anatograph.execution.scheduling import Workplace, ended_like_interrupted, run_tasks
from anatograph.execution.tasks import WorkerLost


def square(task: int) -> int:
    return task * task


def threads(task: int) -> list[int]:
    """What every library that computes is set to in this process."""
    import SimpleITK as sitk
    import torch
    from threadpoolctl import threadpool_info

    pools = [pool["num_threads"] for pool in threadpool_info()]
    return [torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(), *pools]


def take(gigabytes: float) -> str:
    try:
        return str(len(bytearray(int(gigabytes * 1e9))))
    except MemoryError:
        return "refused"


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


@pytest.mark.parametrize("workers", [1, 3])
def test_every_task_comes_back_once(workers: int) -> None:
    assert dict(run_tasks(square, list(range(20)), Workplace(workers))) == {n: n * n for n in range(20)}


def test_workers_use_one_thread_in_every_library_and_the_environment_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for _, found in run_tasks(threads, [1, 2], Workplace(2)):
        assert isinstance(found, list)
        assert len(found) > 2
        assert set(found) == {1}
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited on Linux only")
def test_a_worker_is_refused_more_memory_than_its_share_and_goes_on() -> None:
    found = dict(run_tasks(take, [3.0, 0.2, 2.5, 0.1], Workplace(2, memory_gb=1.5)))
    assert found == {3.0: "refused", 2.5: "refused", 0.2: "200000000", 0.1: "100000000"}


def test_no_more_workers_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_gb", lambda: 5.0)
    place = Workplace.choose(8, None, 100, 1.5)
    assert place.workers == 3
    assert place.notes[0].startswith("3 of the 8 requested workers are started: 5.0 GB of memory are free")
    assert Workplace.choose(3, None, 100, 1.5).notes == ()
    assert Workplace.choose(8, None, 2, 1.5).workers == 2
    monkeypatch.setattr(memory, "available_gb", lambda: 0.5)
    assert Workplace.choose(8, None, 100).workers == 1
    monkeypatch.setattr(memory, "available_gb", lambda: None)
    assert Workplace.choose(8, None, 100).workers == 8


def test_memory_that_a_control_group_allows_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = memory.available_gb()
    if there is None:
        pytest.skip("this system does not tell its memory")
    assert 0 < there < 1e5
    monkeypatch.setattr(memory, "_groups", lambda: [int(0.25e9)])
    assert memory.available_gb() == 0.25


def test_a_task_that_kills_its_worker_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    tasks = [(number, str(tmp_path)) for number in range(6)]
    found = {task[0]: result for task, result in run_tasks(die_on_three, tasks, Workplace(2))}
    lost = found.pop(3)
    assert isinstance(lost, WorkerLost)
    assert "memory" in lost.reason
    assert found == {n: n for n in (0, 1, 2, 4, 5)}
    assert len(list(tmp_path.glob("3-*"))) == 2  # it was given a second chance


def test_a_task_whose_worker_died_by_chance_is_done_in_the_end(tmp_path: Path) -> None:
    assert list(run_tasks(die_once, [str(tmp_path)], Workplace(2))) == [(str(tmp_path), "done")]


def test_no_tasks() -> None:
    assert list(run_tasks(square, [], Workplace(4))) == []


def test_wrong_requests() -> None:
    with pytest.raises(UserError, match="at least 1"):
        Workplace.choose(0, None, 5)
    with pytest.raises(UserError, match="more than 0 GB"):
        Workplace.choose(1, None, 5, 0.0)


def test_sigterm_ends_a_run_as_an_interrupt_does() -> None:
    with pytest.raises(KeyboardInterrupt), ended_like_interrupted():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_log_gives_rate_and_time_left() -> None:
    progress = Progress("preprocess", 9180, "scan", shown=False)
    progress.step(120, failed=3, flagged=0)
    assert progress.line(60.0) == "preprocess: 120 of 9180, 3 failed, 120 scans a minute, 76 min left"
    progress.step(9060)
    assert progress.line(4590.0) == "preprocess: 9180 of 9180, 3 failed, 120 scans a minute, took 76 min"


def test_a_log_hears_of_work_between_two_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress("training", 20, "update")
    progress.between("views, 1 of 9 subjects")
    assert capsys.readouterr().err == ""  # not before its time
    monkeypatch.setattr("anatograph.execution.progress.INTERVAL", 0.0)
    progress.between("views, 2 of 9 subjects")
    assert capsys.readouterr().err == "views, 2 of 9 subjects: 0 of 20\n"
