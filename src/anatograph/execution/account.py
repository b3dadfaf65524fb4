"""The JSON account that every long command leaves of its run: settings, versions, timings, failures, outputs."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anatograph._version import __version__
from anatograph.errors import UserError
from anatograph.execution.files import write_text

FORMAT_VERSION = 1
_PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "torch",
    "SimpleITK",
    "scikit-learn",
    "antspyx",
    "lungmask",
    "TotalSegmentator",
)
_FILE_SUFFIXES = {
    ".parquet",
    ".html",
    ".csv",
    ".tsv",
    ".json",
    ".zarr",
    ".gz",
    ".png",
    ".nrrd",
    ".mha",
    ".nii",
    ".h5ad",
    ".dta",
    ".safetensors",
}


@dataclasses.dataclass(frozen=True)
class Failure:
    """One subject that could not be processed."""

    subject_id: str
    """The subject."""
    stage: str
    """The stage at which it failed."""
    reason: str
    """Why, in one sentence."""


class RunAccount:
    """Records what a command did and writes it as JSON, also when the command ends by an error.

    Used as a context manager: on leaving, the account is saved with the status ``done``, ``stopped`` (before it had
    tried everything), ``failed`` or ``interrupted``, and an exception is passed on.  ``out`` is the folder or the
    file that the command writes; the account lies in the folder as ``COMMAND.run.json``, or beside the file as
    ``NAME.run.json``.
    """

    def __init__(self, command: str, settings: Mapping[str, Any], out: Path | str) -> None:
        self.command = command
        self.settings = dict(settings)
        self.out = Path(out)
        self.timings: dict[str, float] = {}
        self.failures: list[Failure] = []
        self.outputs: list[str] = []
        self.notes: list[str] = []
        self.results: dict[str, Any] = {}
        self.stopped = ""
        """Why the run ended before it had tried everything; empty where it did not."""
        self._status = "running"
        self._error = ""
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._finished: datetime | None = None
        self._seconds = 0.0

    @property
    def path(self) -> Path:
        """Where the account is written."""
        if self.out.is_dir() or self.out.suffix not in _FILE_SUFFIXES:
            return self.out / f"{self.command}.run.json"
        name = self.out.name[: -len(".nii.gz")] if self.out.name.endswith(".nii.gz") else self.out.stem
        return self.out.with_name(f"{name}.run.json")

    @property
    def exit_status(self) -> int:
        """0 when all is done, 1 when some subjects failed or were not reached and the rest is usable."""
        return 1 if self.failures or self.stopped else 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall-clock seconds spent inside to the stage ``name``; a stage may be entered many times."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add_time(name, time.perf_counter() - begin)

    def add_time(self, name: str, seconds: float) -> None:
        """Add seconds measured elsewhere, in a worker for instance, to the stage ``name``."""
        self.timings[name] = self.timings.get(name, 0.0) + seconds

    def fail(self, subject: str, stage: str, reason: str) -> None:
        """Record that a subject could not be processed."""
        self.failures.append(Failure(subject, stage, " ".join(reason.split())))

    def stop(self, sentence: str) -> None:
        """Record why the run ends before it has tried everything; no single subject is at fault."""
        self.stopped = sentence
        self.notes.append(sentence)

    def output(self, path: Path | str) -> None:
        """Record a file or folder that the command wrote."""
        if str(path) not in self.outputs:
            self.outputs.append(str(path))

    def note(self, sentence: str) -> None:
        """Record something a reader of the results should know."""
        self.notes.append(sentence)

    def result(self, **values: Any) -> None:
        """Record figures of the run, such as the number of subjects done."""
        self.results.update(values)

    def to_dict(self) -> dict[str, Any]:
        """The account as it is written."""
        return {
            "format_version": FORMAT_VERSION,
            "command": self.command,
            "arguments": sys.argv[1:],
            "status": self._status,
            "error": self._error,
            "started": self._started.isoformat(timespec="seconds"),
            "finished": self._finished.isoformat(timespec="seconds") if self._finished else None,
            "seconds": round(self._seconds or time.perf_counter() - self._clock, 3),
            "peak_memory_mb": peak_memory_mb(),
            "settings": _plain(self.settings),
            "versions": versions(),
            "timings": {name: round(seconds, 3) for name, seconds in self.timings.items()},
            "results": _plain(self.results),
            "notes": self.notes,
            "failures": [dataclasses.asdict(failure) for failure in self.failures],
            "outputs": self.outputs,
        }

    def save(self) -> Path:
        """Write the account and return its path."""
        path = self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")
        return path

    def __enter__(self) -> Self:
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finished = datetime.now(UTC)
        self._seconds = time.perf_counter() - self._clock
        if error is None:
            self._status = "stopped" if self.stopped else "done"
        else:
            self._status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self._error = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        # A request refused before anything was written leaves no folder behind.
        if isinstance(error, UserError) and not self.path.parent.is_dir():
            return
        try:
            self.save()
        except OSError:
            if error is None and not self.stopped:
                raise  # otherwise the first error is the one to report


def versions() -> dict[str, str]:
    """Versions of Python, of the machine and of the packages that results depend on, read without importing them."""
    found = {"anatograph": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process so far in MB; None where the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3 / 1.024), 1)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; settings may be dataclasses, paths or numpy numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if hasattr(value, "tolist"):  # numpy numbers and arrays, torch tensors
        return _plain(value.tolist())
    return str(value)
