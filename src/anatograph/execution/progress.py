"""How far a long command is: a bar where somebody looks, lines with rate and time left where a log is kept."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

EVERY = 30.0
"""Seconds between two lines of a log."""


class Progress:
    """Counts what is done out of ``total`` on the error stream."""

    def __init__(self, what: str, total: int, unit: str, shown: bool = True) -> None:
        self.what, self.total, self.unit, self.shown = what, total, unit, shown
        self.done = 0
        self._figures: dict[str, int] = {}
        self._bar: Any = None
        self._start = self._told = time.monotonic()

    def __enter__(self) -> Self:
        if self.shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, desc=self.what, unit=self.unit, dynamic_ncols=True, smoothing=0.05)
        return self

    def step(self, count: int = 1, **figures: int) -> None:
        """``count`` more are done; ``figures`` such as ``failed=3`` are shown where they are not 0."""
        self.done += count
        self._figures = {name: value for name, value in figures.items() if value}
        if self._bar is not None:
            self._bar.set_postfix(self._figures, refresh=False)
            self._bar.update(count)
        elif self.shown and (time.monotonic() - self._told >= EVERY or self.done == self.total):
            self._told = time.monotonic()
            print(self.line(self._told - self._start), file=sys.stderr, flush=True)

    def reached(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` are done, the last was ``name``; for commands that know only later how many."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total
        self.step(done - self.done)

    def line(self, seconds: float) -> str:
        """Where things are after so many seconds, in one line."""
        parts = [f"{self.what}: {self.done} of {self.total}"]
        parts += [f"{value} {name}" for name, value in self._figures.items()]
        if self.done and seconds > 0:
            rate = self.done / seconds
            parts.append(f"{60 * rate:.3g} {self.unit}s a minute")
            left = (self.total - self.done) / rate
            parts.append(f"{_duration(left)} left" if left else f"took {_duration(seconds)}")
        return ", ".join(parts)

    def say(self, sentence: str) -> None:
        """A sentence that does not break the bar."""
        if self._bar is not None:
            self._bar.write(sentence, file=sys.stderr)
        elif self.shown:
            print(sentence, file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
