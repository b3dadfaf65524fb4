"""Progress of a long command: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

INTERVAL = 30.0
"""Seconds between two lines of a log."""

Item = TypeVar("Item")


class Progress:
    """Counts what is done out of ``total`` on the standard error stream.

    On a terminal it is a bar; elsewhere (a file, a pipe, a batch system's log) a line with rate and time left every
    `INTERVAL` seconds and at the end.
    """

    def __init__(self, what: str, total: int, unit: str, shown: bool = True, done: int = 0) -> None:
        """``done`` of ``total`` were done by an earlier run and do not count for the rate."""
        self.what, self.total, self.unit, self.shown = what, total, unit, shown
        self.done = self._before = done
        self._figures: dict[str, int | str] = {}
        self._bar: Any = None
        self._start = self._reported = time.monotonic()

    def __enter__(self) -> Self:
        if self.shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.total, initial=self.done, desc=self.what, unit=self.unit, dynamic_ncols=True,
                             smoothing=0.05)  # fmt: skip
        return self

    def step(self, count: int = 1, **figures: int) -> None:
        """``count`` more are done; ``figures`` such as ``failed=3`` are shown where they are not 0."""
        self.done += count
        if figures:
            self.figures(**figures)
        if self._bar is not None:
            self._bar.update(count)
        elif self.shown and count and (time.monotonic() - self._reported >= INTERVAL or self.done == self.total):
            self._reported = time.monotonic()
            print(self.line(self._reported - self._start), file=sys.stderr, flush=True)

    def figures(self, **figures: int | str) -> None:
        """Figures shown from now on beside the count, those that are not 0 or empty."""
        self._figures = {name: value for name, value in figures.items() if value}
        if self._bar is not None:
            self._bar.set_postfix(self._figures, refresh=False)

    def stage(self, what: str) -> None:
        """Name what is being worked on now."""
        self.what = what
        if self._bar is not None and self._bar.desc != f"{what}: ":
            self._bar.set_description(what)

    def between(self, what: str) -> None:
        """As `stage`, for work between two steps: redrawn at once, and a log gets its line in time."""
        self.what = what
        if self._bar is not None:
            self._bar.set_description(what)
        elif self.shown and time.monotonic() - self._reported >= INTERVAL:
            self._reported = time.monotonic()
            print(self.line(self._reported - self._start), file=sys.stderr, flush=True)

    def reached(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` are done, the last was ``name``; for commands that learn the total on the way."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total
        self.step(done - self.done)

    def line(self, seconds: float) -> str:
        """The state after this many seconds, in one line."""
        parts = [f"{self.what}: {self.done} of {self.total}" if self.total else self.what]
        parts += [f"{value} {name}" if isinstance(value, int) else f"{name} {value}"
                  for name, value in self._figures.items()]  # fmt: skip
        fresh = self.done - self._before
        if fresh > 0 and seconds > 0:
            rate = fresh / seconds
            parts.append(f"{60 * rate:.3g} {self.unit}s a minute")
            left = (self.total - self.done) / rate
            parts.append(f"{duration(left)} left" if left else f"took {duration(seconds)}")
        return ", ".join(parts)

    def say(self, sentence: str) -> None:
        """Print a sentence without breaking the bar."""
        if self._bar is not None:
            self._bar.write(sentence, file=sys.stderr)
        elif self.shown:
            print(sentence, file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def progress_over(
    items: Iterable[Item], what: str, unit: str, *, total: int | None = None, shown: bool = True
) -> Iterator[Item]:
    """The same items, counted as the caller takes the next; ``total`` is needed where they have no length."""
    count = len(items) if total is None else total  # type: ignore[arg-type]
    with Progress(what, count, unit, shown) as bar:
        for item in items:
            yield item
            bar.step()


def duration(seconds: float) -> str:
    """Seconds in words, in a unit that fits: ``12 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
