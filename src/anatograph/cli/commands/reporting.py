"""The commands that write pages: qc and report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.cli.command import Command, argument, option, required
from anatograph.cli.commands.options import Excluding
from anatograph.cli.output import DONE


@dataclass(frozen=True, kw_only=True)
class Qc(Command):
    """Thumbnails of every scan to look through; exports the verdicts.

    The page works offline and by keyboard. It exports review.csv; put that into the study's folder, and all later
    commands obey it."""

    page = "study.md"
    study: Path = argument("STUDY", "folder of the study")
    out: Path = required("the page to write", metavar="FILE.html")

    def execute(self) -> int:
        """Write the page and name it."""
        print(f"Quality control: {self.call(progress=True)}")
        return DONE


@dataclass(frozen=True, kw_only=True)
class Report(Excluding):
    """One self-contained page of a study and its results."""

    page = "report.md"
    study: Path = argument("STUDY", "folder of the study")
    run: Path | None = option(None, "folder of a pretraining", metavar="RUN")
    embeddings: Path | None = option(None, "table that `embed` wrote", metavar="FILE")
    evaluation: tuple[Path, ...] = option((), "folders that `evaluate` and `audit` wrote", metavar="DIR")
    benchmark: Path | None = option(None, "folder that `benchmark` wrote", metavar="DIR")
    densitometry: Path | None = option(
        None, "table that `densitometry` wrote", unset="densitometry.parquet in the study or beside the embeddings",
        metavar="FILE",
    )  # fmt: skip
    explanations: tuple[Path, ...] = option((), "folders of maps, and of `change --repeat-scans`", metavar="DIR")
    cohort: Path | None = option(None, "table to colour by", unset="the study's", metavar="COHORT")
    subjects: tuple[str, ...] = option(
        (), "scans in the viewer", unset="the first few with maps", flag="--subject", metavar="ID"
    )
    title: str = option("Study", "heading of the page", metavar="TEXT")
    identities: bool = option(False, "show columns and names that look like names, identifiers, dates or paths")
    out: Path = required("the page to write", metavar="FILE.html")

    def execute(self) -> int:
        """Write the page and name it."""
        print(f"Report: {self.call(progress=True)}")
        return DONE
