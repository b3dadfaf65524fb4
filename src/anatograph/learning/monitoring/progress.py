"""How far a run is: a bar with rate and time left on a terminal, one line every half minute in a log."""

from __future__ import annotations

import sys
import time
from typing import Any

_EVERY = 30.0
"""Seconds between two lines of a log."""


class TrainingProgress:
    """The updates of a run on the error stream; silent unless ``shown``."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self._label = self._figures = ""
        self._done = self._total = 0
        self._printed = self._begun = time.monotonic()
        self._first = 0

    def start(self, total: int, done: int) -> None:
        """``done`` of ``total`` updates were made before."""
        self._total, self._done, self._first = total, done, done
        self._begun = self._printed = time.monotonic()
        if self._shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="update", dynamic_ncols=True, smoothing=0.1)

    def stage(self, text: str) -> None:
        """Name what takes time now."""
        if text != self._label:
            self._label = text
            if self._bar is not None:
                self._bar.set_description(text)

    def step(self, level: str) -> None:
        """One update of a level is done."""
        self._done += 1
        self.stage(f"{level} level")
        if self._bar is not None:
            self._bar.update(1)
        elif self._shown and (time.monotonic() - self._printed >= _EVERY or self._done == self._total):
            self._printed = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def figures(self, loss: float | None, accuracy: float | None, speed: float) -> None:
        """The latest figures of the level."""
        parts = [
            f"loss {loss:.3f}" if loss is not None else "",
            f"accuracy {accuracy:.2f}" if accuracy is not None else "",
            f"{speed:.0f} patches/s",
        ]
        self._figures = ", ".join(p for p in parts if p)
        if self._bar is not None:
            self._bar.set_postfix_str(self._figures, refresh=False)

    def say(self, sentence: str) -> None:
        """A message that does not break the bar."""
        if self._bar is not None:
            self._bar.write(sentence, file=sys.stderr)
        elif self._shown:
            print(sentence, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _line(self) -> str:
        seconds = time.monotonic() - self._begun
        left = seconds * (self._total - self._done) / max(self._done - self._first, 1)
        parts = [f"{self._label}: update {self._done} of {self._total}", self._figures, f"{left / 60:.0f} min left"]
        return ", ".join(p for p in parts if p)
