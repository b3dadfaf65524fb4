"""Job scripts for Slurm: a dask cluster inside one job, or an array of independent runs that share a study."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from anatograph.errors import UserError

_PLACED = {"--workers", "--scheduler", "--worker-memory"}


@dataclass(frozen=True)
class SlurmJob:
    """Resources requested from the batch system."""

    workers: int
    """Processes of one core each, on as many machines as Slurm chooses."""
    memory_gb: float = 3.0
    """For each."""
    hours: float = 12.0
    """After which Slurm ends the job; the same script continues from there."""
    partition: str | None = None
    account: str | None = None
    name: str = "anatograph"
    python: str = sys.executable
    """The interpreter that has anatograph installed, on the cluster's machines as well."""
    array: int | None = None
    """Number of independent jobs, of ``workers`` processes each on one machine, in place of one job with dask."""
    extra: tuple[str, ...] = ()
    """Further options of ``sbatch``, such as ``--gres=gpu:1``."""

    def __post_init__(self) -> None:
        for what, value in (("workers", self.workers), ("memory", self.memory_gb), ("time", self.hours)):
            if not value > 0:
                raise UserError(f"The {what} of a job must be more than 0, not {value:g}.")
        for option in (self.partition, self.account, self.name, *self.extra):
            if option is not None and ("\n" in option or not option.strip()):
                raise UserError(f"{option!r} cannot be an option of sbatch; it must be text on one line.")
        if any(not option.startswith("-") for option in self.extra):
            raise UserError(f"Options of sbatch begin with '-': {' '.join(self.extra)}.")


def job_script(job: SlurmJob, command: Sequence[str]) -> str:
    """A script for ``sbatch`` that runs an anatograph command on a cluster.

    Args:
        job: what to ask for.
        command: as after ``anatograph``, such as ``["preprocess", "cohort.csv", "study"]``.

    Raises:
        UserError: a command that is not spread over workers, or one that itself says where to run.
    """
    if not command or command[0] not in ("preprocess", "embed"):
        raise UserError(
            "A job script is for `preprocess` or `embed`, such as: "
            "anatograph cluster --workers 64 -- preprocess COHORT STUDY"
        )
    said = [word for word in command if word.split("=")[0] in _PLACED]
    if said:
        raise UserError(f"Leave {', '.join(said)} out of the command; the job script sets it.")
    line = shlex.join(command)
    head = ["#!/bin/bash", *(f"#SBATCH {option}" for option in _options(job))]
    body = _ARRAY if job.array is not None else _DASK
    values = {
        "python": shlex.quote(job.python),
        "command": line,
        "memory": f"{job.memory_gb:g}",
        "limit": f"{int(job.memory_gb * 1000)}MB",
        "count": str(job.workers),
    }
    for name, value in values.items():
        body = body.replace(f"@{name}@", value)
    return "\n".join(head) + "\n" + body


def _options(job: SlurmJob) -> list[str]:
    minutes = max(1, round(job.hours * 60))
    one = job.array is not None
    return [
        f"--job-name={job.name}",
        *(
            ["--ntasks=1", f"--cpus-per-task={job.workers}"]
            if one
            else [f"--ntasks={job.workers}", "--cpus-per-task=1"]
        ),
        *([f"--array=1-{job.array}"] if one else []),
        f"--mem-per-cpu={int(job.memory_gb * 1024)}M",
        f"--time={minutes // 60:02d}:{minutes % 60:02d}:00",
        f"--output={job.name}-{'%A_%a' if one else '%j'}.log",
        "--open-mode=append",
        "--requeue",
        *([f"--partition={job.partition}"] if job.partition else []),
        *([f"--account={job.account}"] if job.account else []),
        *job.extra,
    ]


_COMMON = """\
# Submit with `sbatch`, from the folder that the command's paths are relative to. Submitted again, or requeued by Slurm,
# it does what is missing.
set -euo pipefail
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1
python=@python@
"""

_ARRAY = (
    _COMMON
    + """\
# Every job of the array runs the whole command; they claim subjects one by one and so share the work.
exec "$python" -m anatograph @command@ --workers @count@ --worker-memory @memory@
"""
)

_DASK = (
    _COMMON
    + """\
# A scheduler, one worker for each task of the job, and the command that gives them work. Any client of a dask
# scheduler can run code as its user, so it accepts only holders of this job's key (mktemp keeps it private).
place=$(mktemp -d "$PWD/.anatograph-job-${SLURM_JOB_ID:-0}-XXXXXX")
trap 'kill $(jobs -p) 2>/dev/null || true; wait || true; rm -rf "$place"' EXIT
trap 'exit 143' TERM
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=anatograph \\
    -keyout "$place/key.pem" -out "$place/cert.pem" 2>/dev/null
for who in SCHEDULER WORKER CLIENT; do
    export "DASK_DISTRIBUTED__COMM__TLS__${who}__KEY=$place/key.pem"
    export "DASK_DISTRIBUTED__COMM__TLS__${who}__CERT=$place/cert.pem"
done
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$place/cert.pem" DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True

"$python" -m distributed.cli.dask_scheduler --protocol tls --port 0 --no-dashboard \\
    ${ANATOGRAPH_HOST:+--host "$ANATOGRAPH_HOST"} --scheduler-file "$place/scheduler.json" &
until [ -s "$place/scheduler.json" ]; do kill -0 $!; sleep 1; done
srun --ntasks=@count@ --cpus-per-task=1 --kill-on-bad-exit=0 \\
    "$python" -m distributed.cli.dask_worker --protocol tls --scheduler-file "$place/scheduler.json" --no-dashboard \\
    ${ANATOGRAPH_HOST:+--host "$ANATOGRAPH_HOST"} \\
    --nthreads 1 --memory-limit @limit@ --death-timeout 300 --local-directory "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}" &
"$python" -m anatograph @command@ --scheduler "$place/scheduler.json" &
wait $!
"""
)
