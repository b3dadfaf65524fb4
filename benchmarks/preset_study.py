"""Recipes side by side on a small phantom cohort, at equal numbers of updates.

    python benchmarks/preset_study.py WORK --json presets.json [--only NAME …]

Draws ``--train`` and ``--test`` phantoms (voxels of 2.5 mm, three scanners), preprocesses both, pretrains every arm on
the first with ``--updates`` patch updates and ``--rounds`` graph updates from a bank of two views, and scores it by
`phantom_study.py`: ridge probes fitted on the first cohort, R² on the second, at every fourth landmark (C's feature)
and for subjects (mean of C's features, repeated folds over both cohorts). The published recipes are built for a hundred
times as many updates: this compares beginnings, not ends. What is there already in WORK is reused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ARMS: dict[str, tuple[str, ...]] = {
    "paper": ("--preset", "paper"),
    "reference": ("--preset", "reference"),
    "paper, learning rate 0.001": (
        "--preset", "paper", "--set", "learning_rate=0.001", "--set", "graph_learning_rate=0.001",
    ),
    "default": (),
    "histogram joined after the contrasts": ("--set", "density_in_contrast=false"),
    "location modulates C": ("--set", "film=true"),
    "both": ("--set", "density_in_contrast=false", "--set", "film=true"),
}  # fmt: skip
TARGETS = ("emphysema", "ground_glass", "emphysema_extent", "ground_glass_extent", "FEV1pp", "FEV1_FVC", "site")


def anatograph(*arguments: str | Path) -> None:
    """A command, which must succeed."""
    subprocess.run([sys.executable, "-m", "anatograph", *map(str, arguments)], check=True)


def study(work: Path, name: str, subjects: int, seed: int) -> tuple[Path, Path]:
    """A study of phantoms and its cohort table."""
    table, folder = work / name / "cohort.csv", work / f"{name}-study"
    if not table.is_file():
        anatograph("phantom", table.parent, "--subjects", str(subjects), "--seed", str(seed), "--spacing", "2.5",
                   "--sites", "A,B,C")  # fmt: skip
    if not (folder / "preprocess.run.json").is_file():
        anatograph("preprocess", table, folder, "--lungs", "threshold")
    return folder, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--train", type=int, default=24)
    parser.add_argument("--test", type=int, default=12)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", nargs="*", choices=list(ARMS), help="only these arms (default: all)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    places = [*study(args.work, "train", args.train, 21), *study(args.work, "test", args.test, 22)]
    fixed = ("epochs=1", f"patch_steps={args.updates}", f"graph_rounds={args.rounds}", "bank_views=2", "bank_draws=1",
             "checkpoint_minutes=60")  # fmt: skip
    rows: list[dict[str, Any]] = []
    for name in args.only or ARMS:
        folder = args.work / "".join(c if c.isalnum() else "-" for c in name)
        if not (folder / "model" / "config.json").is_file():
            anatograph("pretrain", places[0], folder, *ARMS[name], *(w for s in fixed for w in ("--set", s)))
        scores = folder / "scores.json"
        if not scores.is_file():
            program = Path(__file__).with_name("phantom_study.py")
            command = [
                sys.executable,
                program,
                *places,
                folder / "model",
                "--step",
                "4",
                "--no-baselines",
                "--permuted-codes",
            ]
            subprocess.run([*map(str, command), "--json", str(scores)], check=True)
        found = {
            f"{one['level']} {one['target']}" + (" permuted" if "permuted" in one["method"] else ""): round(
                one["r2"], 3
            )
            for one in json.loads(scores.read_text(encoding="utf-8"))
            if one["target"] in TARGETS
        }
        metrics = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
        table = [dict(zip(metrics[0].split(","), line.split(","), strict=True)) for line in metrics[1:]]
        losses = {level: [float(r["loss"]) for r in table if r["level"] == level] for level in ("patch", "graph")}
        ends = {f"{level} loss": [round(values[0], 2), round(values[-1], 2)] for level, values in losses.items()}
        rows.append({"arm": name, **found, **ends})
        print(json.dumps(rows[-1]), flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
