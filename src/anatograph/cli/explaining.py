"""The commands that explain: explain, deviation, similar, change."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from anatograph.cli.common import Commands, command, counter, positive, told


def add_explain(commands: Commands) -> None:
    """Declare `anatograph explain`."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.explanation.explain import explain

        done = explain(
            args.study, args.embeddings, args.cohort, args.target, args.subject, args.out, group=args.group,
            task=args.task, class_name=args.class_name, every_class=args.every_class, scale=args.scale, log=args.log,
            folds=args.folds, seed=args.seed, probe=args.probe, progress=counter,
        )  # fmt: skip
        print(f"Explanations: {args.out} ({len(done.maps)} maps)")
        return told(done.account)

    made = command(commands, "explain", run, "heatmaps of what speaks for a target, on the scan's own grid")
    made.add_argument("study", metavar="STUDY", type=Path)
    made.add_argument("embeddings", metavar="EMBEDDINGS", type=Path, help="table that `embed` wrote for this study")
    made.add_argument("cohort", metavar="COHORT", type=Path, help="table with the labels")
    made.add_argument("--target", required=True, metavar="NAME", help="column to explain")
    made.add_argument("--subject", nargs="+", action="extend", required=True, metavar="ID", help="whose scans")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for ID_TARGET.nii.gz and .png")
    made.add_argument("--group", metavar="COLUMN", help="people of the subject's group are not fitted on either")
    made.add_argument("--task", choices=("regression", "classification", "ordinal"), help="where the guess is wrong")
    made.add_argument(
        "--class",
        dest="class_name",
        metavar="CLASS",
        help="which class (default: the last of two, or the predicted one)",
    )
    made.add_argument("--every-class", action="store_true", help="also a map of each class, ID_TARGET_CLASS.nii.gz")
    made.add_argument("--scale", choices=("relative", "eq10"), default="relative",
                      help="against the people fitted on, or eq. 10 as it stands (default: relative)")  # fmt: skip
    made.add_argument("--probe", choices=("evaluate", "calm"), default="evaluate",
                      help="that of `evaluate`, whose predictions are in its table, or of those that predict about as "
                           "well the one with the calmest map (default: evaluate)")  # fmt: skip
    made.add_argument("--log", action="store_true", help="take the logarithm of the target")
    made.add_argument("--folds", type=int, default=5, help="as in `evaluate` (default: 5)")
    made.add_argument("--seed", type=int, default=0, help="of the folds, as in `evaluate` (default: 0)")


def add_deviation(commands: Commands) -> None:
    """Declare `anatograph deviation`."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.explanation.deviation import deviation

        done = deviation(args.study, args.embeddings, args.subject, args.out, args.cohort, args.reference, args.group,
                         args.seed, counter)  # fmt: skip
        for found in done.found:
            print(f"{found.subject_id}: {100 * found.share:.1f} % of the regions are unusual (2.3 % in the reference); "
                  f"as many or more in {100 * found.p:.0f} % of its people")  # fmt: skip
            for _, row in found.table.head(5).iterrows():
                print(f"  {row['deviation']:5.1f}  {row['place']} (landmark {row['landmark']}, q {row['q']:.2g})")
        print(f"Deviations: {args.out} ({len(done.maps)} maps)")
        return told(done.account)

    made = command(
        commands, "deviation", run, "what is unusual for its place, against reference people, without labels"
    )
    made.add_argument("study", metavar="STUDY", type=Path)
    made.add_argument("embeddings", metavar="EMBEDDINGS", type=Path, help="table that `embed` wrote for this study")
    made.add_argument("--subject", nargs="+", action="extend", required=True, metavar="ID", help="whose scans")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for ID_deviation.nii.gz and .png")
    _add_reference(made)


def add_similar(commands: Commands) -> None:
    """Declare `anatograph similar`."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.explanation.similar import similar

        done = similar(args.embeddings, args.subject, args.out, args.k, args.study, args.landmark, args.cohort,
                       args.group, args.seed)  # fmt: skip
        for _, row in done.subjects.iterrows():
            print(f"  {row['rank']}. {row['subject_id']}  distance {row['distance']:.2f}, nearer than "
                  f"{100 * row['closer_than']:.0f} % of all pairs")  # fmt: skip
        print(f"Similar: {args.out}")
        return told(done.account)

    made = command(commands, "similar", run, "the people, and the regions, that are most like a subject's")
    made.add_argument("embeddings", metavar="EMBEDDINGS", type=Path, help="table that `embed` wrote")
    made.add_argument("--subject", required=True, metavar="ID", help="who")
    made.add_argument("-k", type=positive, default=5, metavar="N", help="how many (default: 5)")
    made.add_argument("--study", type=Path, metavar="STUDY", help="for regions and pictures")
    made.add_argument("--landmark", type=int, nargs="+", action="extend", default=[], metavar="J",
                      help="regions to find the like of (default: the four most unusual)")  # fmt: skip
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for ID_similar.csv and .png")
    made.add_argument("--cohort", type=Path, metavar="COHORT", help="the table that has --group")
    made.add_argument("--group", metavar="COLUMN", help="column of the person; other scans of them are not named")
    made.add_argument("--seed", type=int, default=0, help="default: 0")


def add_change(commands: Commands) -> None:
    """Declare `anatograph change`."""

    def run(args: argparse.Namespace) -> int:
        from anatograph.explanation.change import change

        done = change(args.study, args.embeddings, args.before, args.after, args.out, args.cohort, args.reference,
                      args.group, args.seed)  # fmt: skip
        for _, row in done.table.head(5).iterrows():
            print(f"  {row['place']} (landmark {row['landmark']:.0f}): moved {row['shift']:.2f}, deviation "
                  f"{row['deviation_before']:.1f} -> {row['deviation_after']:.1f}")  # fmt: skip
        print(f"Change: {args.out} ({len(done.maps)} maps)")
        return told(done.account)

    made = command(commands, "change", run, "what changed between two scans of one person, region by region")
    made.add_argument("study", metavar="STUDY", type=Path)
    made.add_argument("embeddings", metavar="EMBEDDINGS", type=Path, help="table that `embed` wrote for this study")
    made.add_argument("--before", required=True, metavar="ID", help="the earlier scan")
    made.add_argument("--after", required=True, metavar="ID", help="the later scan, on whose grid the maps are")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for BEFORE_AFTER_change.nii.gz")
    _add_reference(made)


def _add_reference(made: Any) -> None:
    """Who is compared with."""
    made.add_argument("--cohort", type=Path, metavar="COHORT", help="the table that has --reference and --group")
    made.add_argument("--reference", metavar="COLUMN=VALUE", help="whom to compare with (default: everybody)")
    made.add_argument("--group", metavar="COLUMN", help="column of the person; their other scans are left out too")
    made.add_argument("--seed", type=int, default=0, help="default: 0")
