"""A worker that a native library ends costs one task, with one worker as with many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anatograph.execution import scheduling
from anatograph.execution.scheduling import Workplace, run_tasks
from anatograph.execution.tasks import WorkerLost


def abort_on_two(task: int) -> int:
    if task == 2:
        os.abort()
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_abort_in_a_library_is_the_failure_of_one_task(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "ISOLATE", True)
    found = dict(run_tasks(abort_on_two, [1, 2, 3], Workplace(workers), isolated=True))
    lost = found.pop(2)
    assert isinstance(lost, WorkerLost)
    assert "a native library ended the worker process (SIGABRT)" in lost.reason
    assert os.getpid() not in found.values()


def test_one_worker_needs_no_process_where_nothing_can_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "ISOLATE", True)
    assert dict(run_tasks(abort_on_two, [1], Workplace(1))) == {1: os.getpid()}


def test_a_script_without_a_main_guard_may_start_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from operator import neg\n"
        "from anatograph.execution.scheduling import Workplace, run_tasks\n"
        "print(sorted(dict(run_tasks(neg, [1, 2, 3], Workplace(2))).values()))\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "[-3, -2, -1]", done.stderr
