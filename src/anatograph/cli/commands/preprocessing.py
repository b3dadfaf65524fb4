"""The commands that fill a study: preprocess, and cluster for a batch system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anatograph.choices import GraphRule, LungMethod, Redo, RegistrationMethod
from anatograph.cli.command import Command, argument, option, required
from anatograph.cli.commands.options import Parallel
from anatograph.cli.output import DONE, finish


@dataclass(frozen=True, kw_only=True)
class Preprocess(Parallel):
    """Fill a study; run again, it does only what is missing or failed."""

    page = "study.md"
    cohort: Path = argument("COHORT", "table with subject_id, image and labels")
    study: Path = argument("STUDY", "folder of the study")
    atlas: Path | None = option(None, "folder of an atlas", unset="the built-in one", metavar="ATLAS")
    lungs: LungMethod = option("auto", "source of the lung masks")
    registration: RegistrationMethod = option("deformable", "registration of the atlas to a subject")
    graph: GraphRule = option("atlas", "rule for the neighbours in a subject's graph; distance is eq. 3 of the paper")
    rho: float | None = option(
        None,
        "largest distance of neighbours, for atlas and distance",
        unset="1.2 or 1.5 steps of the grid",
        metavar="MM",
    )
    weights: Path | None = option(
        None, "weights of a lung network, to work offline", flag="--lung-weights", metavar="FILE"
    )
    seed: int = option(0, "for registrations that draw random numbers")
    redo: tuple[Redo, ...] = option((), "process again what an older version made, or whose image changed since")
    mixed: bool = option(False, "add to a study of an older version without --redo")
    deidentified_only: bool = option(False, "refuse scans whose headers still identify a patient")

    def execute(self) -> int:
        """Fill the study and report what failed."""
        from anatograph.study.quality.table import to_look_at

        account = self.call()
        print(f"Study: {self.study}")
        for sentence in to_look_at(self.study):
            print(sentence[0].upper() + sentence[1:])
        return finish(account)


@dataclass(frozen=True, kw_only=True)
class Cluster(Command):
    """Print a job script that spreads a command over the nodes of a cluster."""

    function = None
    page = "cohorts.md"
    usage = "anatograph cluster --workers N [options] -- preprocess COHORT STUDY > job.sh"
    system: Literal["slurm"] = option("slurm", "the batch system")
    workers: int = required("processes (of each job of --array)", metavar="N", minimum=1)
    memory: float = option(3.0, "memory of each process", metavar="GB")
    hours: float = option(12.0, "time limit")
    array: int | None = option(None, "N independent jobs that share the work, without Dask", metavar="N", minimum=1)
    partition: str | None = option(None)
    account: str | None = option(None)
    name_of_job: str = option("anatograph", "name of the job", flag="--name", metavar="NAME")
    python: str | None = option(
        None, "interpreter with anatograph on the cluster", unset="the current one", metavar="PATH"
    )
    sbatch: tuple[str, ...] = option(
        (), "another option of sbatch, such as --sbatch=--gres=gpu:1; may be repeated", metavar="OPTION", each=True
    )
    line: tuple[str, ...] = argument("COMMAND", "after --: a preprocess or embed command")

    def execute(self) -> int:
        """Print the script."""
        from anatograph.execution.slurm import SlurmJob, job_script

        python = {} if self.python is None else {"python": self.python}
        job = SlurmJob(self.workers, self.memory, self.hours, self.partition, self.account, self.name_of_job,
                       array=self.array, extra=self.sbatch, **python)  # fmt: skip
        print(job_script(job, list(self.line)), end="")
        return DONE
