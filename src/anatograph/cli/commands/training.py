"""The commands that make models: pretrain and import-reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.cli.command import Command, argument, option, required
from anatograph.cli.commands.options import Selecting
from anatograph.cli.output import DONE, finish


@dataclass(frozen=True, kw_only=True)
class Pretrain(Selecting):
    """Interleaved contrastive pretraining; data-parallel under torchrun."""

    page = "pretraining.md"
    study: Path = argument("STUDY", "folder of the study")
    run: Path = argument("RUN", "folder for settings, checkpoints, metrics and the model")
    config: Path | None = option(None, "settings in TOML or JSON", metavar="FILE")
    preset: str | None = option(
        None, "paper, reference or quick", unset="the recipe that works best per minute", metavar="NAME"
    )
    overrides: tuple[str, ...] = option(
        (), "one setting; may be repeated", flag="--set", metavar="key=value", each=True
    )
    group: str | None = option(
        None, "column of the cohort table, such as the patient, whose scans are not contrasted", metavar="COLUMN"
    )
    negatives_within: str | None = option(
        None, "column, such as the scanner: only scans with the same value are contrasted", metavar="COLUMN"
    )
    cohort: Path | None = option(
        None, "table with these columns", unset="the one the study was made from", metavar="COHORT"
    )
    seed: int | None = option(None, "the same as --set seed=S", passed=False)
    minutes: float | None = option(
        None, "plan a run that takes at most M minutes on this machine", unset="the whole recipe", metavar="M"
    )
    resume: bool = option(False, "continue with the run's own settings; the same command continues it too")

    def execute(self) -> int:
        """Train and name the model's folder."""
        overrides = [*self.overrides, *([] if self.seed is None else [f"seed={self.seed}"])]
        account = self.call(overrides=overrides)
        print(f"Model: {self.run / 'model'}")
        return finish(account)


@dataclass(frozen=True, kw_only=True)
class ImportReference(Command):
    """Convert the published checkpoints into a model folder."""

    page = "model.md"
    patch_checkpoint: Path = argument("PATCH.pth.tar", "checkpoint of the patch encoder")
    graph_checkpoint: Path = argument("GRAPH.pth.tar", "checkpoint of the graph network")
    model: Path = argument("MODEL", "folder to write")
    atlas: Path = required("the atlas that they were trained on", metavar="ATLAS")

    def execute(self) -> int:
        """Convert and name the folder."""
        print(f"Model: {self.call()}")
        return DONE
