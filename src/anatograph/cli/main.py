"""The commands: they read arguments, call the function of the same name, and say where the results are."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from anatograph import __version__
from anatograph.cli.cohorts import add_cluster, add_embed, add_preprocess
from anatograph.cli.common import (
    BUG,
    DONE,
    INTERRUPTED,
    STATUS,
    WRONG_REQUEST,
    Commands,
    command,
    positive,
    say,
    told,
)
from anatograph.cli.explaining import add_change, add_deviation, add_explain, add_similar
from anatograph.cli.judging import add_benchmark, add_cohort, add_evaluate
from anatograph.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except UserError as error:
        if args.debug:
            traceback.print_exc()
        say(f"anatograph {args.command}: {error}")
        return WRONG_REQUEST
    except KeyboardInterrupt:
        if args.debug:
            traceback.print_exc()
        say(f"anatograph {args.command}: interrupted; what was finished is kept, the same command goes on from there.")
        return INTERRUPTED
    except OSError as error:
        if args.debug:
            traceback.print_exc()
        where = f"{error.filename}: " if error.filename else ""
        say(f"anatograph {args.command}: {where}{error.strerror or error}; check that it is there and may be written.")
        return WRONG_REQUEST
    except Exception:
        traceback.print_exc()
        say(f"anatograph {args.command}: this is a fault of anatograph {__version__}, not yours; please report it.")
        return BUG


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; building it imports nothing heavy."""
    top = argparse.ArgumentParser(
        prog="anatograph",
        description="Chest CTs to embeddings that know anatomy, and what they tell.",
        epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"anatograph {__version__}")
    top.add_argument("--debug", action="store_true", default=False, help="show a traceback with every error")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for add in (
        _add_demo, _add_doctor, _add_phantom, _add_atlas, add_preprocess, add_cluster, _add_pretrain, add_embed,
        add_evaluate, add_benchmark, add_cohort, add_explain, add_deviation, add_similar, add_change, _add_report,
        _add_import_reference,
    ):  # fmt: skip
        add(commands)
    return top


def _add_demo(commands: Commands) -> None:
    def run(args: argparse.Namespace) -> int:
        from anatograph.demonstration import demo

        page = demo(args.out, subjects=args.subjects, seed=args.seed, workers=args.workers, say=say)
        print(f"Report: {page}")
        return DONE

    made = command(commands, "demo", run, "the whole way on a small built-in phantom cohort, ending in a report")
    made.add_argument("out", metavar="OUT", type=Path, help="folder for everything it makes")
    made.add_argument("--subjects", type=positive, default=None, metavar="N", help="people in the cohort (default: 16)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument(
        "--workers", type=positive, default=None, metavar="N", help="default: the processor's cores, at most 4"
    )


def _add_doctor(commands: Commands) -> None:
    def run(args: argparse.Namespace) -> int:
        from anatograph.checkup.installation import doctor

        findings = doctor(args.cohort)
        if args.json:
            import json

            print(json.dumps([finding.as_dict() for finding in findings], indent=1))
        else:
            for finding in findings:
                print(finding)
        return max((finding.status for finding in findings), default=DONE)

    made = command(commands, "doctor", run, "check the installation, and a cohort's scans before a long run")
    made.add_argument("cohort", metavar="COHORT", nargs="?", type=Path, help="a cohort table whose scans to check")
    made.add_argument("--json", action="store_true", help="print the findings as JSON")


def _add_phantom(commands: Commands) -> None:
    def run(args: argparse.Namespace) -> int:
        from anatograph.preparation import phantom

        table = phantom(args.out, args.subjects, args.seed, args.format, args.workers, args.sites, args.spacing,
                        diseases=args.diseases)  # fmt: skip
        print(f"Cohort: {table}")
        return DONE

    made = command(commands, "phantom", run, "write a synthetic chest-CT cohort with known disease")
    made.add_argument("out", metavar="OUT", type=Path, help="folder for cohort.csv, images and disease masks")
    made.add_argument("--subjects", type=positive, required=True, metavar="N", help="how many people")
    made.add_argument("--seed", type=int, default=0, help="the same seed gives the same people (default: 0)")
    made.add_argument("--format", choices=("nifti", "dicom"), default="nifti", help="default: nifti")
    made.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")
    made.add_argument("--sites", metavar="A,B", help="scanners to take people from (default: all)")
    made.add_argument("--diseases", metavar="D,E", help="what the diseased have: copd, covid (default: both kinds)")
    made.add_argument("--spacing", type=float, metavar="MM", help="isotropic voxels of this size, 2.5 for small scans")


def _add_atlas(commands: Commands) -> None:
    def run(args: argparse.Namespace) -> int:
        from anatograph.preparation import atlas

        built = atlas(args.image_or_mask, args.out, args.lungs, args.patch_size, args.step, args.min_coverage)
        print(f"Atlas: {args.out} ({len(built)} landmarks, hash {built.hash[:12]})")
        return DONE

    made = command(commands, "atlas", run, "build an atlas: landmarks and location codes")
    made.add_argument("image_or_mask", metavar="IMAGE_OR_MASK", type=Path, help="a lung mask, or a chest CT")
    made.add_argument("out", metavar="OUT", type=Path, help="folder of the atlas")
    made.add_argument("--lungs", type=Path, metavar="MASK", help="the lungs of the CT, if not to be found")
    made.add_argument("--patch-size", type=int, default=32, metavar="MM", help="edge of a patch (default: 32)")
    made.add_argument("--step", type=int, default=26, metavar="MM", help="distance of the grid places (default: 26)")
    made.add_argument(
        "--min-coverage", type=float, default=0.1, metavar="SHARE", help="least share of lung (default: 0.1)"
    )


def _add_pretrain(commands: Commands) -> None:
    def run(args: argparse.Namespace) -> int:
        from anatograph.preparation import pretrain

        overrides = [*args.set, *([] if args.seed is None else [f"seed={args.seed}"])]
        account = pretrain(args.study, args.run_folder, args.preset, args.config, overrides, args.resume)
        print(f"Model: {args.run_folder / 'model'}")
        return told(account)

    made = command(commands, "pretrain", run, "interleaved pretraining; data-parallel under torchrun")
    made.add_argument("study", metavar="STUDY", type=Path)
    made.add_argument("run_folder", metavar="RUN", type=Path, help="folder for settings, checkpoints, metrics, model")
    made.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML or JSON")
    made.add_argument(
        "--preset", metavar="NAME", help="paper, reference or quick (default: what works best per minute)"
    )
    made.add_argument("--set", action="append", default=[], metavar="key=value", help="one setting; may be repeated")
    made.add_argument("--seed", type=int, default=None, help="the same as --set seed=S")
    made.add_argument("--resume", action="store_true", help="go on from the last checkpoint")


def _add_report(commands: Commands) -> None:
    def run(args: argparse.Namespace) -> int:
        from anatograph.reporting import report

        page = report(args.study, args.out, run=args.run_folder, embeddings=args.embeddings,
                      evaluation=args.evaluation, explanations=args.explanations, cohort=args.cohort,
                      benchmark=args.benchmark, subjects=args.subject, title=args.title,
                      identities=args.identities, progress=True)  # fmt: skip
        print(f"Report: {page}")
        return DONE

    made = command(commands, "report", run, "one self-contained page of a study and what was found")
    made.add_argument("study", metavar="STUDY", type=Path)
    made.add_argument("--run", dest="run_folder", type=Path, metavar="RUN", help="folder of a pretraining")
    made.add_argument("--embeddings", type=Path, metavar="FILE", help="table that `embed` wrote")
    made.add_argument("--evaluation", type=Path, metavar="DIR", help="what `evaluate` wrote")
    made.add_argument("--benchmark", type=Path, metavar="DIR", help="what `benchmark` wrote")
    made.add_argument("--explanations", type=Path, nargs="+", action="extend", default=[], metavar="DIR",
                      help="folders with maps, for the viewer")  # fmt: skip
    made.add_argument("--cohort", type=Path, metavar="COHORT", help="table to colour by (default: the study's)")
    made.add_argument("--subject", nargs="+", action="extend", default=[], metavar="ID",
                      help="whose scans the viewer holds (default: the first few that have maps)")  # fmt: skip
    made.add_argument("--title", default="Study", metavar="TEXT", help="heading of the page")
    made.add_argument("--identities", action="store_true",
                      help="show columns and names that look like names, identifiers, dates or paths")  # fmt: skip
    made.add_argument("--out", type=Path, required=True, metavar="FILE.html")


def _add_import_reference(commands: Commands) -> None:
    def run(args: argparse.Namespace) -> int:
        from anatograph.preparation import import_reference

        print(f"Model: {import_reference(args.patch, args.graph, args.model, args.atlas)}")
        return DONE

    made = command(commands, "import-reference", run, "the published checkpoints as a model folder")
    made.add_argument("patch", metavar="PATCH.pth.tar", type=Path)
    made.add_argument("graph", metavar="GRAPH.pth.tar", type=Path)
    made.add_argument("model", metavar="MODEL", type=Path, help="folder to write")
    made.add_argument("--atlas", type=Path, required=True, metavar="ATLAS", help="the atlas they were trained on")


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        say(f"warning: {message}")


def _exit() -> NoReturn:
    sys.exit(main())


if __name__ == "__main__":
    _exit()
