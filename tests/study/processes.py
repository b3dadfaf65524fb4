"""Real commands and a real dask cluster in processes of their own, to be watched and killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from anatograph.study.store import Study

WHOLE = {
    "patches.npy",
    "landmarks.npy",
    "edges.npy",
    "present.npy",
    "lungs.nii.gz",
    "transform.tfm",
    "qc.png",
    "subject.json",
}
Process = subprocess.Popen[str]


def start(*words: str | Path, log: Path) -> Process:
    """A Python program (``-m`` and so on), its output in a file."""
    with log.open("a") as file:
        return subprocess.Popen([sys.executable, *map(str, words)], stdout=file, stderr=file, encoding="utf-8")


def kill(process: Process) -> None:
    """SIGKILL, as the system does for want of memory."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def until(what: Callable[[], bool], process: Process | None = None, seconds: float = 900) -> None:
    """Wait for something to happen, or for the process to end."""
    end = time.monotonic() + seconds
    while not what():
        if process is not None and process.poll() is not None:
            return
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def there(study: Path) -> dict[str, tuple[int, int]]:
    """The subjects of a study, and which folder each is: another if it was replaced."""
    if not (study / "subjects").is_dir():
        return {}
    states = {entry.name: entry.stat() for entry in os.scandir(study / "subjects")}
    return {name: (state.st_ino, state.st_ctime_ns) for name, state in states.items()}


def assert_whole(study: Path, names: set[str] | None = None) -> None:
    """Every subject has all its files, and they can be read."""
    opened = Study.open(study)
    for name in opened.subject_ids:
        assert {file.name for file in (study / "subjects" / name).iterdir()} == WHOLE
        stored = opened.subject(name)
        assert stored.load_patches().shape[0] == len(opened.atlas)
        _ = stored.map(), stored.lungs(), stored.edges, stored.present, stored.quality
    if names is not None:
        assert set(opened.subject_ids) == names


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


class Cluster:
    """A dask scheduler and workers on the loopback device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler = self.start_scheduler()
        self.workers: list[Process] = []

    def start_scheduler(self) -> Process:
        words = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port))
        self.scheduler = start(*words, "--no-dashboard", log=self.folder / "scheduler.log")
        return self.scheduler

    def add_worker(self) -> Process:
        words = ("-m", "distributed.cli.dask_worker", self.address, "--host", "127.0.0.1", "--nthreads", "1")
        more = ("--no-nanny", "--no-dashboard", "--memory-limit", "0", "--local-directory", str(self.folder))
        self.workers.append(start(*words, *more, log=self.folder / "workers.log"))
        return self.workers[-1]

    def close(self) -> None:
        for process in [*self.workers, self.scheduler]:
            if process.poll() is None:
                kill(process)
