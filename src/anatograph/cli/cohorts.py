"""The commands that work through whole cohorts: preprocess, embed, and cluster for the batch system."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from anatograph.cli.common import DONE, Commands, command, positive, told


def add_preprocess(commands: Commands) -> None:
    """``anatograph preprocess``."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.study.preprocess import preprocess

        account = preprocess(args.cohort, args.study, args.atlas, args.lungs, args.registration, args.workers,
                             args.scheduler, weights=args.lung_weights, seed=args.seed,
                             worker_memory=args.worker_memory, redo=args.redo, mixed=args.mixed,
                             deidentified_only=args.deidentified_only)  # fmt: skip
        print(f"Study: {args.study}")
        return told(account)

    made = command(commands, "preprocess", run, "fill a study; run again, it does only what is missing or failed")
    made.add_argument("cohort", metavar="COHORT", type=Path, help="table with subject_id, image and labels")
    made.add_argument("study", metavar="STUDY", type=Path, help="folder of the study")
    made.add_argument("--atlas", type=Path, metavar="ATLAS", help="folder of an atlas (default: the one that ships)")
    made.add_argument("--lungs", choices=("auto", "given", "threshold", "lungmask", "totalsegmentator"), default="auto",
                      help="where lung masks come from (default: auto)")  # fmt: skip
    made.add_argument("--registration", choices=("affine", "ants-affine", "ants-syn"), default="affine",
                      help="how the atlas is laid onto a subject (default: affine)")  # fmt: skip
    made.add_argument("--lung-weights", type=Path, metavar="FILE", help="weights of a lung network, to work offline")
    made.add_argument("--seed", type=int, default=0, help="for registrations that use chance (default: 0)")
    made.add_argument("--redo", nargs="+", action="extend", default=[], choices=("outdated", "changed"),
                      help="do anew what an older version made, or whose image changed since")  # fmt: skip
    made.add_argument("--mixed", action="store_true", help="add to a study of an older version without --redo")
    made.add_argument("--deidentified-only", action="store_true", help="refuse scans whose headers still name a person")
    _add_workers(made)


def add_embed(commands: Commands) -> None:
    """``anatograph embed``."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.embedding.api import embed
        from anatograph.execution.progress import Progress

        with Progress("embed", 0, "subject") as bar:
            done = embed(
                args.source, args.out, model=args.model, lungs=args.lungs, lung_mask=args.lung_mask,
                lung_weights=args.lung_weights, registration=args.registration, subject_id=args.subject_id,
                patch_features=args.patch_features, batch_size=args.batch_size, device=args.device,
                workers=args.workers, scheduler=args.scheduler, worker_memory=args.worker_memory,
                progress=bar.reached, say=bar.say,
            )  # fmt: skip
        if done.table is not None:
            print(f"Embeddings: {done.table} ({len(done.subject_ids)} subjects, {done.features.shape[1]} features)")
        return told(done.account)

    made = command(commands, "embed", run, "embeddings of a study, or of one CT without a study")
    made.add_argument("source", metavar="STUDY_OR_IMAGE", type=Path, help="a study, a volume file or a DICOM folder")
    made.add_argument("out", metavar="OUT", type=Path, help="writes OUT.parquet and OUT.regions.zarr")
    made.add_argument("--model", type=Path, required=True, metavar="MODEL", help="model folder, such as RUN/model")
    made.add_argument(
        "--patch-features", action="store_true", help="also write OUT.patches.zarr, before the graph network"
    )
    made.add_argument("--batch-size", type=positive, default=64, metavar="N", help="patches at a time (default: 64)")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    _add_workers(made)
    one = made.add_argument_group("for one CT (as the model's training scans by default)")
    one.add_argument("--lungs", choices=("auto", "given", "threshold", "lungmask", "totalsegmentator"))
    one.add_argument("--lung-mask", type=Path, metavar="MASK", help="the lungs, if not to be found")
    one.add_argument("--lung-weights", type=Path, metavar="FILE", help="weights of a lung network")
    one.add_argument("--registration", choices=("affine", "ants-affine", "ants-syn"))
    one.add_argument("--subject-id", metavar="ID", help="name in the table (default: from the file's name)")


def add_cluster(commands: Commands) -> None:
    """``anatograph cluster``."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.execution.slurm import SlurmJob, job_script

        python = {} if args.python is None else {"python": args.python}
        job = SlurmJob(args.workers, args.memory, args.hours, args.partition, args.account, args.name,
                       array=args.array, extra=tuple(args.sbatch), **python)  # fmt: skip
        print(job_script(job, args.line), end="")
        return DONE

    made = command(commands, "cluster", run, "print a job script that spreads a command over a cluster's machines")
    made.usage = "anatograph cluster --workers N [options] -- preprocess COHORT STUDY > job.sh"
    made.add_argument("--system", choices=("slurm",), default="slurm", help="the batch system (default: slurm)")
    made.add_argument("--workers", type=positive, required=True, metavar="N", help="processes (of each job of --array)")
    made.add_argument("--memory", type=float, default=3.0, metavar="GB", help="for each process (default: 3)")
    made.add_argument("--hours", type=float, default=12.0, help="time limit (default: 12)")
    made.add_argument("--array", type=positive, metavar="N", help="N independent jobs that share the work, no Dask")
    made.add_argument("--partition")
    made.add_argument("--account")
    made.add_argument("--name", default="anatograph", help="of the job (default: anatograph)")
    made.add_argument("--python", metavar="PATH", help="interpreter with anatograph on the cluster (default: this one)")
    made.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="another option of sbatch, such "
                      "as --sbatch=--gres=gpu:1; may be repeated")  # fmt: skip
    made.add_argument("line", nargs="+", metavar="COMMAND", help="after --: a preprocess or embed command")


def _add_workers(made: Any) -> None:
    group = made.add_argument_group("many at a time")
    group.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")
    group.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler to send the work to, or its file")
    group.add_argument("--worker-memory", type=float, metavar="GB", help="what a process is reckoned with; fewer start "
                       "where memory has no room")  # fmt: skip
