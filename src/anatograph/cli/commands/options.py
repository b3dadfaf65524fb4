"""Groups of options that several commands share; a command inherits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anatograph.cli.command import Command, option, required

_PARALLEL = "parallel processing"


@dataclass(frozen=True, kw_only=True)
class Parallel(Command):
    """Options of the commands that work through a whole cohort."""

    workers: int = option(1, "processes", metavar="N", minimum=1, group=_PARALLEL)
    scheduler: str | None = option(
        None, "address or scheduler file of a Dask scheduler to use instead", metavar="ADDRESS", group=_PARALLEL
    )
    worker_memory: float | None = option(
        None,
        "expected memory of a process; fewer are started where they would not fit",
        metavar="GB",
        group=_PARALLEL,
    )


@dataclass(frozen=True, kw_only=True)
class Excluding(Command):
    """Option of the commands that can leave scans out."""

    exclude: tuple[str, ...] = option((), "scans to leave out, by subject_id", metavar="ID")


@dataclass(frozen=True, kw_only=True)
class Selecting(Excluding):
    """Options of the commands that leave out what quality control rejects."""

    include_flagged: bool = option(False, "use scans at quality level reject too")


@dataclass(frozen=True, kw_only=True)
class Scoring(Selecting):
    """Options of the commands that predict targets by cross-validation."""

    targets: tuple[str, ...] = required("columns to predict", flag="--target", metavar="NAME")
    folds: int = option(5)
    repeats: int = option(1, "repeat the cross-validation with R different splits", metavar="R")
    bootstrap: int = option(0, "95 % intervals from B bootstrap samples of the subjects", metavar="B")
    group: str | None = option(
        None, "column whose equal values stay in one fold, such as the patient of several scans", metavar="COLUMN"
    )
    leave_out: str | None = option(
        None, "also leave out each value of a column, such as the scanner, and predict it", metavar="COLUMN"
    )
    task: tuple[str, ...] = option(
        (),
        "NAME=regression, =classification or =ordinal (a grade); a single TASK applies to all",
        metavar="NAME=TASK",
        passed=False,
    )
    log: tuple[str, ...] = option((), "targets to take the logarithm of", metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class Comparison(Excluding):
    """Options of the commands that compare a scan with reference subjects."""

    cohort: Path | None = option(None, "table with the columns of --reference and --group", metavar="COHORT")
    reference: str | None = option(None, "reference subjects", unset="all", metavar="COLUMN=VALUE")
    group: str | None = option(
        None, "column that identifies the patient; their other scans are excluded too", metavar="COLUMN"
    )
    seed: int = option(0)
