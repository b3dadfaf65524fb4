"""The commands that judge: evaluate, benchmark, and cohort for the archives to judge on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anatograph.cli.common import DONE, Commands, command, say, told
from anatograph.errors import UserError


def add_evaluate(commands: Commands) -> None:
    """``anatograph evaluate``."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.evaluation.evaluate import evaluate

        found = evaluate(
            args.embeddings, args.cohort, args.target, args.folds, args.group, args.out, args.seed,
            _tasks(args.task, args.target), args.log, args.permutations, say, args.repeats,
            args.bootstrap,
        )  # fmt: skip
        for note in found.notes:
            say(f"note: {note}")
        print(found.results.round(3).to_string(index=False))
        if found.permutations is not None:
            print(found.permutations.round(3).to_string(index=False))
        print(f"Evaluation: {args.out}" if args.out else "Nothing was written; give --out DIR to keep it.")
        return DONE

    made = command(commands, "evaluate", run, "cross-validated linear or logistic probe for each target")
    made.add_argument("embeddings", metavar="EMBEDDINGS", type=Path, help="table that `embed` wrote")
    made.add_argument("cohort", metavar="COHORT", type=Path, help="table with the labels")
    _add_judging(made)
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for results.csv and predictions.parquet")
    made.add_argument("--permutations", type=int, default=0, metavar="N", help="repeat with shuffled targets")
    made.add_argument("--seed", type=int, default=0, help="of the folds (default: 0)")


def add_benchmark(commands: Commands) -> None:
    """``anatograph benchmark``."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.baselines.benchmark import benchmark
        from anatograph.baselines.registry import MethodOptions

        models = {
            "anatograph": args.model, "without-ce": args.model_without_ce, "without-graph": args.model_without_graph,
        }  # fmt: skip
        options = MethodOptions(
            {slug: path for slug, path in models.items() if path is not None}, _paths(args.weights), args.allow_random
        )
        done = benchmark(
            args.study, args.cohort, args.target, args.out, _listed(args.methods), folds=args.folds,
            repeats=args.repeats, bootstrap=args.bootstrap, group=args.group, log=args.log,
            task=_tasks(args.task, args.target), seed=args.seed, preset=args.preset,
            covariates=_listed(args.covariates), options=options, pretrained_on=args.pretrained_on,
            region_truth=args.region_truth, device=args.device, say=say,
        )  # fmt: skip
        print(done.table)
        print(f"Benchmark: {args.out} (table.md, results.csv, comparisons.csv, predictions.parquet)")
        return told(done.account)

    made = command(commands, "benchmark", run, "every method of the paper's tables on the same folds")
    made.add_argument("study", metavar="STUDY", type=Path, help="a study of the people")
    made.add_argument("cohort", metavar="COHORT", type=Path, help="table with the labels")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of results; run again, it goes on")
    _add_judging(made)
    made.add_argument("--methods", nargs="+", action="extend", metavar="METHOD",
                      help="rows, such as anatograph moco (default: all)")  # fmt: skip
    made.add_argument("--covariates", nargs="+", action="extend", metavar="COLUMN",
                      help="columns of the floor that needs no scan (default: age sex site, where there)")  # fmt: skip
    made.add_argument("--preset", choices=("default", "quick"), default="default",
                      help="sizes of the original papers, or such as suit two cores")  # fmt: skip
    made.add_argument("--region-truth", action="store_true", help="also region by region, where there are masks")
    made.add_argument("--seed", type=int, default=0, help="of folds and methods (default: 0)")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    given = made.add_argument_group("what rows are given (else they are pretrained on the study)")
    given.add_argument(
        "--model", type=Path, metavar="MODEL", help="for anatograph and without-graph, such as RUN/model"
    )
    given.add_argument("--model-without-ce", type=Path, metavar="MODEL", help="a model without location code")
    given.add_argument("--model-without-graph", type=Path, metavar="MODEL", help="if not that of --model")
    given.add_argument("--pretrained-on", metavar="NAME", help="cohort that the given models come from, for the table")
    given.add_argument("--weights", nargs="+", action="extend", default=[], metavar="METHOD=FILE",
                       help="the authors' weights: medicalnet=FILE, models-genesis=FILE")  # fmt: skip
    given.add_argument("--allow-random", action="store_true", help="let a row without its weights run with random ones")


def add_cohort(commands: Commands) -> None:
    """``anatograph cohort``."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.study.archives.build import build_cohort

        made = build_cohort(args.archive, args.folder, args.out, args.phenotypes, args.pattern)
        for note in made.notes:
            say(f"note: {note}")
        print(f"Cohort: {made.path} ({made.people} people)")
        return DONE

    made = command(commands, "cohort", run, "the cohort table of a public archive as it lies on disk")
    made.add_argument("archive", metavar="ARCHIVE", choices=("copdgene", "covid-ct-md", "mosmeddata"),
                      help="copdgene, covid-ct-md or mosmeddata")  # fmt: skip
    made.add_argument("folder", metavar="FOLDER", type=Path, help="the unpacked archive; of copdgene, the scans")
    made.add_argument("out", metavar="OUT.csv", type=Path, help="the table to write")
    made.add_argument("--phenotypes", nargs="+", action="extend", default=[], type=Path, metavar="FILE",
                      help="of copdgene: phenotype file, and those of visual scores and of the follow-up")  # fmt: skip
    made.add_argument("--pattern", metavar="GLOB", help="of copdgene: names of scans to take, '*_INSP_STD_*'")


def _add_judging(made: Any) -> None:
    """What `evaluate` and `benchmark` have in common."""
    made.add_argument("--target", nargs="+", action="extend", required=True, metavar="NAME", help="columns to predict")
    made.add_argument("--folds", type=int, default=5, help="default: 5")
    made.add_argument("--repeats", type=int, default=1, metavar="R", help="divide the people anew R times (default: 1)")
    made.add_argument("--bootstrap", type=int, default=0, metavar="B", help="95 %% intervals from B samples of people")
    made.add_argument("--group", metavar="COLUMN", help="column whose equal values stay together, such as the person")
    made.add_argument("--task", nargs="+", action="extend", default=[], metavar="NAME=TASK",
                      help="NAME=regression, =classification or =ordinal (a score); one TASK for all")  # fmt: skip
    made.add_argument(
        "--log", nargs="+", action="extend", default=[], metavar="NAME", help="targets to take the log of"
    )


def _tasks(texts: Sequence[str], targets: Sequence[str]) -> Any:
    """``NAME=TASK`` texts as a mapping; one bare TASK as itself."""
    kinds = ("regression", "classification", "ordinal")
    if len(texts) == 1 and texts[0] in kinds:
        return texts[0]
    pairs = dict(text.rpartition("=")[::2] for text in texts)
    wrong = [text for text in texts if text.rpartition("=")[0] not in targets or text.rpartition("=")[2] not in kinds]
    if wrong:
        raise UserError(f"--task {wrong[0]} must be TARGET=regression, TARGET=classification or TARGET=ordinal.")
    return pairs or None


def _paths(texts: Sequence[str]) -> dict[str, Path]:
    """``METHOD=FILE`` texts as a mapping."""
    wrong = [text for text in texts if not all(text.partition("=")[::2])]
    if wrong:
        raise UserError(f"--weights {wrong[0]} must be METHOD=FILE, such as medicalnet=resnet_50_23dataset.pth.")
    return {name: Path(file) for name, _, file in (text.partition("=") for text in texts)}


def _listed(texts: Sequence[str] | None) -> list[str] | None:
    """Words, however they were given: ``a b``, ``a,b``; None where nothing was."""
    return None if texts is None else [word for text in texts for word in text.split(",") if word]
