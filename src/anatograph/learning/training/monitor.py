"""What a run reports while it trains: rows of metrics.csv, the progress bar, warnings; it stops a diverging run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.learning.collectives import own_share
from anatograph.learning.monitoring.diagnostics import alignment, collapse, effective_rank, uniformity
from anatograph.learning.monitoring.metrics import MetricsFile
from anatograph.learning.monitoring.progress import TrainingProgress
from anatograph.learning.training.contrast_step import UpdateResult, figures_of
from anatograph.learning.training.schedule import Level, Place, Schedule
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import HISTORY, TrainState

_AVERAGED = ("loss", "accuracy", "positive", "negatives")
_BEFORE_ALARM = 2
"""Collapsed looks in a row before it is reported."""


class Monitor:
    """Follows a run, update by update; averages since the last row are part of the state and of its checkpoints."""

    def __init__(
        self, settings: PretrainSettings, schedule: Schedule, state: TrainState, account: RunAccount, shown: bool
    ) -> None:
        """``shown``: whether to write to the terminal."""
        self.settings, self.schedule, self.state, self.account = settings, schedule, state, account
        self.progress = TrainingProgress(shown)
        self.collapsed = False
        """Whether the features have coincided; reported once."""
        self._metrics: MetricsFile | None = None
        self._suspected = 0
        self._pending: list[tuple[Level, Tensor]] = []
        self._begun = self._marked = time.monotonic()
        self._patches = 0

    def start(self, update: int, folder: Path | None) -> None:
        """Begin after ``update``; ``folder`` is where rows are written, None in all processes but the first."""
        self._metrics = None if folder is None else MetricsFile(folder, update)
        self.progress.start(self.schedule.total, update)
        self.mark()

    def close(self) -> None:
        """Write out what is pending."""
        self.progress.close()
        if self._metrics is not None:
            self._metrics.close()

    def mark(self) -> None:
        """Measure patches per second from now on."""
        self._marked, self._patches = time.monotonic(), 0

    def after(self, update: int, place: Place, result: UpdateResult, rate: float, patches: int) -> None:
        """Record one update of ``patches`` patches. Raises ``UserError`` where too many were not finite."""
        self._pending.append((place.level, result.figures))
        self._patches += patches
        if place.update % self.settings.watch_every == 0:
            self._diagnose(result, place)
        if (place.update + 1) % self.settings.log_every == 0 or place.left == 1:
            self._log(update, place, rate)
        self.progress.step(place.level)

    def flush(self) -> None:
        """Read the figures of the updates since the last call from their device, all at once."""
        if not self._pending:
            return
        rows = torch.stack([figures for _, figures in self._pending]).tolist()
        levels = [level for level, _ in self._pending]
        self._pending = []
        for level, row in zip(levels, rows, strict=True):
            figures = figures_of(row)
            self.state.record(figures.finite)
            if figures.finite:
                self.state.averages[level].add(**{name: getattr(figures, name) for name in _AVERAGED})
            self._stop_if_diverging(level)

    def _stop_if_diverging(self, level: Level) -> None:
        skipped = sum(self.state.history)
        if skipped > self.settings.max_skipped * HISTORY:
            raise UserError(
                f"training diverges: {skipped} of the last {len(self.state.history)} updates were not finite and were "
                f"skipped ({level} level); lower learning_rate, raise warmup, or set "
                "precision=fp32."
            )

    def probed(self, update: int, epoch: int, score: float) -> None:
        """Record the online probe's score after an epoch."""
        if self._metrics is not None:
            self._metrics.write({"step": update, "epoch": epoch, "level": "probe", "probe": score})
            self.progress.say(f"Epoch {epoch + 1}: probe of {self.settings.probe_target} {score:.3f}.")

    def _diagnose(self, result: UpdateResult, place: Place) -> None:
        self.flush()
        if self.state.history and self.state.history[-1]:
            return
        keys = result.key
        own = keys[own_share(len(keys))]
        rank, spread = effective_rank(keys), uniformity(keys)
        self.state.averages[place.level].add(
            alignment=alignment(result.query, own), uniformity=spread, effective_rank=rank
        )
        sentence = collapse(rank, spread, len(keys))
        # Features of random weights lie close together too: a tenth of the run is allowed for pulling them apart.
        early = place.update < max(100, self.schedule.of_level(place.level) // 10)
        self._suspected = self._suspected + 1 if sentence and not early else 0
        if self._suspected == _BEFORE_ALARM and not self.collapsed:
            self.collapsed = True
            self.progress.say(sentence)
            self.account.note(sentence)

    def _log(self, update: int, place: Place, rate: float) -> None:
        self.flush()
        means = self.state.averages[place.level].take()
        speed = self._patches / max(time.monotonic() - self._marked, 1e-9)
        self.mark()
        self.progress.figures(means.get("loss"), means.get("accuracy"), speed)
        if self._metrics is None:
            return
        row: dict[str, Any] = {"step": update, "epoch": place.epoch, "level": place.level, **means}
        row |= {"learning_rate": rate, "skipped": self.state.skipped, "patches_per_second": speed}
        self._metrics.write({**row, "seconds": round(time.monotonic() - self._begun, 3)})
