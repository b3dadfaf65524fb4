"""The rate of several processes against one, each with one thread, in real runs of the patch level.

    python benchmarks/processes.py STUDY --json processes.json

Runs ``anatograph pretrain`` alone and under ``torchrun`` in turn, ``--repeats`` times, on the same study, settings and
batch, and compares the median of patches per second of ``metrics.csv``, without the first updates (in which kernels are
selected). The runs alternate because the speed of a shared machine drifts from minute to minute.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def rates(study: Path, run: Path, processes: int, updates: int, changes: dict[str, str]) -> list[float]:
    """Patches per second of a run: its rows of metrics.csv except the first two."""
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    settings = {
        "epochs": 1,
        "patch_steps": updates,
        "graph_rounds": 1,
        "graph_batch": 2,
        "bank_views": 2,
        "recalibrate_batches": 1,
        "workers": 0,
        "threads": 1,
        "log_every": 5,
        "watch_every": 1000,
        **changes,
    }
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = [*launch, "-m", "anatograph.cli", "pretrain", str(study), str(run), *chosen]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=env, check=True, capture_output=True)
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row["patches_per_second"]) for row in csv.DictReader(file) if row["level"] == "patch"][2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--key-norm", choices=("teacher", "shuffle"), default="teacher")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    changes = {"precision": args.precision, "key_norm": args.key_norm}
    seen: dict[int, list[float]] = {1: [], args.processes: []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats):
            for processes, known in seen.items():
                run = Path(folder) / f"{processes}-{repeat}"
                known += rates(args.study, run, processes, args.updates, changes)
                print(processes, [round(one, 1) for one in known], flush=True)
    found: dict[str, Any] = {f"patches_per_second_{k}": statistics.median(v) for k, v in seen.items()}
    found["ratio"] = found[f"patches_per_second_{args.processes}"] / found["patches_per_second_1"]
    found |= {"all": seen, "processes": args.processes, "updates": args.updates, **changes}
    print(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
