"""The figures of a run on disk: metrics.csv and TensorBoard events."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatograph.execution.files import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

COLUMNS = (
    "step",
    "epoch",
    "level",
    "loss",
    "accuracy",
    "positive",
    "negatives",
    "learning_rate",
    "alignment",
    "uniformity",
    "effective_rank",
    "skipped",
    "probe",
    "patches_per_second",
    "seconds",
)
"""Of metrics.csv. One row every few updates and level: means since the last row; empty where a figure does not apply.

``step`` counts updates of both levels, ``level`` is patch, graph or probe, ``accuracy`` is how often a query's own key
was the nearest, ``positive`` its mean cosine, ``skipped`` how many updates were not finite so far in the run;
``patches_per_second`` and ``seconds`` (since the run was started or resumed) differ from run to run."""
TIMED = ("patches_per_second", "seconds")
"""Columns that depend on the clock."""


class Averages:
    """Running sums between two rows of metrics.csv; plain numbers, which a checkpoint stores exactly."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, **values: float) -> None:
        """Add one update's figures; those that are not finite are left out."""
        for name, value in values.items():
            if math.isfinite(value):
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


class MetricsFile:
    """metrics.csv and TensorBoard events in a run's folder."""

    def __init__(self, folder: Path, step: int) -> None:
        """Rows after ``step`` (left by a run killed after its last checkpoint) and half-written ones are removed."""
        self.path = folder / "metrics.csv"
        self._events: SummaryWriter | None = None
        self._folder = folder
        self._step = step
        kept = [row for row in read_metrics(self.path) if int(row["step"]) <= step] if step else []
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self.path, text.getvalue())

    def write(self, row: dict[str, Any]) -> None:
        """Add a row; numbers are written so that they read back exactly."""
        text = io.StringIO()
        csv.DictWriter(text, COLUMNS, lineterminator="\n").writerow(
            {name: repr(value) if isinstance(value, float) else value for name, value in row.items()}
        )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())
        for name, value in row.items():
            if isinstance(value, float) and name != "seconds":
                self._tensorboard().add_scalar(f"{row['level']}/{name}", value, int(row["step"]))

    def _tensorboard(self) -> SummaryWriter:
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter

            # Events after the checkpoint are hidden from view, as their rows are.
            purge = self._step + 1 if self._step else None
            self._events = SummaryWriter(str(self._folder / "tensorboard"), purge_step=purge)
        return self._events

    def close(self) -> None:
        """Write out what is pending."""
        if self._events is not None:
            self._events.close()


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The whole rows of a metrics.csv as text; a row that a kill cut short is left out."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = list(csv.DictReader(io.StringIO(whole)))
    return [row for row in rows if None not in row and None not in row.values() and (row.get("step") or "").isdigit()]
