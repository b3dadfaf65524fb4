"""The updates of a run: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

from collections.abc import Callable

from anatograph.errors import counted
from anatograph.execution.progress import Progress


class TrainingProgress:
    """`Progress` over the updates of a run, with the level and its latest figures; silent unless ``shown``."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._bar = Progress("training", 0, "update", shown)

    def start(self, total: int, done: int) -> None:
        """``done`` of ``total`` updates were made before."""
        self._bar = Progress("training", total, "update", self._shown, done)
        self._bar.__enter__()

    def stage(self, text: str) -> None:
        """Name what takes time now."""
        self._bar.stage(text)

    def counter(self, what: str, of: int | None = None) -> Callable[[int], None]:
        """Name work between two updates; what is returned takes the number of subjects done so far."""
        self.stage(what)

        def tick(done: int) -> None:
            number = counted(done, "subject") if of is None else f"{done} of {counted(of, 'subject')}"
            self._bar.between(f"{what}, {number}")

        return tick

    def step(self, level: str) -> None:
        """One update of a level is done."""
        self._bar.stage(f"{level} level")
        self._bar.step()

    def figures(self, loss: float | None, accuracy: float | None, speed: float) -> None:
        """The latest figures of the level."""
        shown = {
            "loss": "" if loss is None else f"{loss:.3f}",
            "accuracy": "" if accuracy is None else f"{accuracy:.2f}",
            "patches/s": f"{speed:.0f}",
        }
        self._bar.figures(**shown)

    def say(self, sentence: str) -> None:
        """A message that does not break the bar."""
        self._bar.say(sentence)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.__exit__(None, None, None)
