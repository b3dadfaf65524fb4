"""What helps the patch level, on held-out phantoms: many short runs, each differing in one setting.

    python benchmarks/recipe_study.py TRAIN_STUDY TRAIN_COHORT TEST_STUDY TEST_COHORT RUNS --json recipe.json

Every arm is ``anatograph pretrain`` on the first study with ``--updates`` updates of 128 patches and a minimal graph
level, scored by `phantom_study.py` at every fourth landmark: ridge probes from C's feature of a patch to the
diseased fraction of that patch, fitted on the subjects of the first cohort, R² on those of the second; and from the
mean of a subject's regions to subject-level labels, by repeated folds over both cohorts. Finished runs in RUNS are
reused, so several calls with different arms (``--only``) can share the work; the last prints the table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ARMS: dict[str, tuple[str, ...]] = {
    "default": (),
    "default, seed 1": ("seed=1",),
    "default, seed 2": ("seed=2",),
    "Table 1's ending (one voxel)": ("model.pooling=paper",),
    "mean and deviation of a coarse map": ("model.pooling=mean_std",),
    "GroupNorm": ("model.norm=group",),
    "shift 0": ("shift=0",),
    "shift 3": ("shift=3",),
    "shift 12": ("shift=12",),
    "shift 6, mirrored border": ("padding=reflection",),
    "gamma in a quarter of views": ("gamma_probability=0.25",),
    "noise in 80 % of views": ("noise_probability=0.8",),
    "no noise": ("noise_probability=0",),
    "offset of 20 HU": ("offset=20",),
    "no densities": ("density=false",),
    "no densities, noise in 80 %": ("density=false", "noise_probability=0.8"),
    "no densities, no noise": ("density=false", "noise_probability=0"),
    "no densities, noise in 80 %, offset of 20 HU": ("density=false", "noise_probability=0.8", "offset=20"),
    "no densities, noise in 80 %, temperature 0.1": ("density=false", "noise_probability=0.8", "temperature=0.1"),
    "no densities, temperature 0.1": ("density=false", "temperature=0.1"),
    "SGD 0.06": ("optimiser=sgd", "learning_rate=0.06"),
    "AdamW 0.003": ("learning_rate=0.003",),
    "AdamW 0.0003": ("learning_rate=0.0003",),
    "key momentum 0.9": ("key_momentum=0.9",),
    "key momentum 0.999": ("key_momentum=0.999",),
    "temperature 0.1": ("temperature=0.1",),
    "temperature 0.4": ("temperature=0.4",),
    "4 landmarks x 32 subjects": ("landmarks_per_batch=4",),
    "16 landmarks x 8 subjects": ("landmarks_per_batch=16",),
    "own subject's keys are negatives": ("mask_same_subject=false", "in_batch=false"),
    "no negatives from the batch": ("in_batch=false",),
    "both views as queries": ("symmetric=true",),
    "shuffled keys": ("key_norm=shuffle",),
    "no location code": ("model.conditional=false",),
}
COMMON = ("epochs=1", "graph_rounds=1", "graph_batch=2", "bank_views=2", "bank_draws=1", "checkpoint_minutes=60")


def slug(name: str) -> str:
    """A folder's name for an arm."""
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def train(name: str, study: Path, runs: Path, updates: int, threads: int) -> None:
    """One arm's run, unless its model is there."""
    run = runs / slug(name)
    if (run / "model" / "config.json").is_file():
        return
    settings = (*COMMON, f"patch_steps={updates}", f"threads={threads}", *ARMS[name])
    chosen = [part for one in settings for part in ("--set", one)]
    resume = ["--resume"] if run.exists() else []
    command = [sys.executable, "-m", "anatograph", "pretrain", str(study), str(run)]
    subprocess.run([*command, *(resume or chosen)], check=True)


def score(name: str, places: list[Path], runs: Path, step: int) -> list[dict[str, Any]]:
    """An arm's scores, computed once."""
    stored = runs / f"{slug(name)}.json"
    if not stored.is_file():
        program = Path(__file__).with_name("phantom_study.py")
        arguments = [*map(str, places), str(runs / slug(name) / "model")]
        options = ["--step", str(step), "--no-baselines", "--json", str(stored)]
        subprocess.run([sys.executable, str(program), *arguments, *options], check=True)
    scores: list[dict[str, Any]] = json.loads(stored.read_text(encoding="utf-8"))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train_study", "train_cohort", "test_study", "test_cohort", "runs"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--step", type=int, default=4, help="score every n-th landmark")
    parser.add_argument("--only", nargs="*", choices=list(ARMS), help="only these arms (default: all)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.runs.mkdir(parents=True, exist_ok=True)
    places = [args.train_study, args.train_cohort, args.test_study, args.test_cohort]
    rows: list[dict[str, Any]] = []
    for name in args.only or ARMS:
        train(name, args.train_study, args.runs, args.updates, args.threads)
        rows.append({"arm": name})
        for one in score(name, places, args.runs, args.step):
            rows[-1][f"{one['level']} {one['target']}"] = round(one["r2"], 3)
        print(json.dumps(rows[-1]), flush=True)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
