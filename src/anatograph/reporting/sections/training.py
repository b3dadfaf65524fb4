"""The section about a pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.reporting.figures.figure import Figure
from anatograph.reporting.figures.training import curves
from anatograph.reporting.sections.tables import read_json, read_table


@dataclass(frozen=True)
class TrainingSection:
    """Pretraining."""

    figures: list[Figure]
    """Curves."""
    summary: str
    """One line in words."""
    collapsed: bool
    """Whether the run says so."""


def training(run: Path) -> TrainingSection:
    """Curves of ``metrics.csv``, and what the account says.

    Raises:
        UserError: a folder that is not a run.
    """
    metrics = read_table(run / "metrics.csv", run, "anatograph pretrain", ("step", "level"))
    account = read_json(run / "pretrain.run.json") or {}
    done = account.get("results", {})
    facts = [f"{done[key]} {key}" for key in ("updates", "subjects") if isinstance(done.get(key), int)]
    if isinstance(account.get("seconds"), int | float):
        facts.append(f"{account['seconds'] / 60:.1f} minutes")
    return TrainingSection(curves(metrics), ", ".join(facts), bool(done.get("collapsed")))
