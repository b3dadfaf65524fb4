"""A progress bar with rate and time left, and messages that do not break it."""

from __future__ import annotations

from typing import Any


class Progress:
    """Bar over the updates of a run on the error stream; silent where not wanted."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self._level = ""

    def start(self, total: int, done: int) -> None:
        """Show the bar."""
        if self._shown:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit="update", dynamic_ncols=True, smoothing=0.1)

    def stage(self, text: str) -> None:
        """Say what takes time now."""
        if self._bar is not None and text != self._level:
            self._level = text
            self._bar.set_description(text)

    def step(self, level: str) -> None:
        """One update is done."""
        if self._bar is not None:
            self.stage(f"{level} level")
            self._bar.update(1)

    def figures(self, loss: float | None, accuracy: float | None, speed: float) -> None:
        """The latest figures, beside the bar."""
        if self._bar is not None:
            parts = [f"loss {loss:.3f}" if loss is not None else "", f"{speed:.0f} patches/s"]
            if accuracy is not None:
                parts.insert(1, f"accuracy {accuracy:.2f}")
            self._bar.set_postfix_str(", ".join(p for p in parts if p), refresh=False)

    def say(self, sentence: str) -> None:
        """A message above the bar."""
        if self._shown:
            from tqdm import tqdm

            tqdm.write(sentence)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
