"""A process that holds the model and embeds one scan at a time; it is restarted after it ends."""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from anatograph.errors import UserError
from anatograph.execution.threads import one_thread_each

Kind = Literal["done", "refused", "failed", "late"]
"""An answer; a scan that cannot be used; an error or the end of the process; the time limit was reached."""
_START_SECONDS = 300.0


@dataclass(frozen=True)
class Outcome:
    """The result for one scan."""

    kind: Kind
    value: Any
    """The answer where it is done, else one sentence."""


class Worker:
    """One process; its methods are for one thread at a time."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    @property
    def process_id(self) -> int | None:
        """Of the process; None where it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process and wait until the model is loaded; nothing happens where it runs.

        Raises:
            UserError: the model cannot be loaded.
        """
        # An idle worker sends nothing: if its pipe is readable, the process has ended.
        if self._process is not None and self._pipe is not None and self._process.is_alive() and not self._pipe.poll(0):
            return
        self.stop()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, str(self._model)), daemon=True)
        with one_thread_each():
            self._process.start()
        theirs.close()
        kind, value = self._receive(_START_SECONDS, "loading the model")
        if kind != "ready":
            self.stop()
            raise UserError(str(value))

    def embed(self, scan: Path, folder: Path, seconds: float) -> Outcome:
        """Embed a scan within a time limit; a process that dies or takes longer is replaced at the next call."""
        try:
            self.start()
        except UserError as error:
            return Outcome("failed", str(error))
        if self._pipe is None:
            raise RuntimeError("a worker that started has a pipe")
        self._pipe.send((str(scan), str(folder)))
        kind, value = self._receive(seconds, "the scan")
        if kind in ("failed", "late"):
            self.stop()
        return Outcome(kind, value)

    def stop(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _receive(self, seconds: float, task: str) -> tuple[Any, Any]:
        if self._pipe is None or self._process is None:
            raise RuntimeError("a worker that started has a pipe")
        try:
            if self._pipe.poll(seconds):
                kind, value = self._pipe.recv()
                return kind, value
            return "late", f"{task} took longer than {seconds:g} s"
        except (EOFError, OSError):
            return "failed", f"the process ended during {task} (out of memory, or an error in a native library)"


def _work(pipe: Connection, model_folder: str) -> None:
    """Embed the scans whose paths arrive until the other end is closed."""
    from anatograph.execution.threads import use_one_thread

    try:
        from anatograph.learning.model.folder import load_model
        from anatograph.service.answer import answer

        use_one_thread()
        model = load_model(model_folder)
    except UserError as error:
        pipe.send(("refused", str(error)))
        return
    pipe.send(("ready", None))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            scan, folder = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(("done", answer(model, Path(scan), Path(folder))))
        except UserError as error:
            pipe.send(("refused", str(error)))
        except Exception as error:  # whatever a file causes, the service continues
            pipe.send(("failed", f"this is a bug in anatograph ({type(error).__name__}); please report it"))


def _end_with_parent() -> None:
    """End this process when the server is gone, whatever it is doing."""
    import os

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(0)
