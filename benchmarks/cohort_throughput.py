"""Scans per minute and processor time per scan of ``preprocess`` (and ``embed``) with one worker and with several.

    python benchmarks/cohort_throughput.py [--subjects 12] [--workers 2] [--cohort COHORT] [--model MODEL] [--json FILE]

Runs the real commands, each pinned to as many cores as it has workers, on a phantom cohort unless another is given.
The rate counts from the first subject written to the last, so Python's start-up is excluded; with few subjects it may
exceed the number of workers, since subjects are written in waves. The ratio of the wall times of the whole commands,
start-up included, is reported too and errs in the other direction. Processor seconds per scan include all processes of
the command: they show whether workers slow each other down even where other programs make the rates fluctuate. Run it
on a quiet machine, on separate cores (not two threads of one): the ratio of the rates is what matters.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def run(command: list[str], cores: list[int]) -> tuple[float, float]:
    """Wall and processor seconds of a command held to some cores, one thread a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "anatograph", *command],
        env={**os.environ, **dict.fromkeys(THREADS, "1")},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, used


def rate(files: list[Path], together: int) -> float:
    """Subjects a minute from the times at which they were written; the first ``together`` mark the start."""
    times = sorted(file.stat().st_mtime for file in files)
    return 60 * (len(times) - together) / (times[-1] - times[together - 1])


def measure(name: str, command: list[str], written: Any, counts: list[int], cores: list[int]) -> dict[str, Any]:
    """Run a command with each number of workers; ``written(workers)`` lists files, one per subject."""
    found: dict[str, Any] = {}
    for workers in counts:
        wall, used = run([word.format(workers=workers) for word in command], cores[:workers])
        files = written(workers)
        figures = {"wall_seconds": wall, "processor_seconds_a_scan": used / len(files), "subjects": len(files)}
        figures["scans_a_minute"] = rate(files, workers)
        found[str(workers)] = figures
        used_each = figures["processor_seconds_a_scan"]
        print(f"{name}, {workers} workers: {figures['scans_a_minute']:.2f} scans a minute, "
              f"{used_each:.2f} processor s per scan, {wall:.1f} s in all", flush=True)  # fmt: skip
    one, many = found[str(counts[0])], found[str(counts[-1])]
    found["ratio"] = many["scans_a_minute"] / one["scans_a_minute"]
    found["wall_ratio"] = one["wall_seconds"] / many["wall_seconds"]
    found["processor_ratio"] = many["processor_seconds_a_scan"] / one["processor_seconds_a_scan"]
    print(
        f"{name}: {found['ratio']:.2f} times the rate, {found['wall_ratio']:.2f} by the wall time of all, "
        f"{found['processor_ratio']:.2f} times the processor time a scan"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cohort", type=Path, help="cohort table to use instead of phantoms")
    parser.add_argument("--model", type=Path, help="measure `embed` with this model as well")
    parser.add_argument("--spacing", default="1.5", help="of the phantoms, mm")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < args.workers:
        parser.error(f"{args.workers} workers need as many cores, and there are {len(cores)}")
    counts = [1, args.workers]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = args.cohort or folder / "cohort" / "cohort.csv"
        if args.cohort is None:
            run(["phantom", str(folder / "cohort"), "--subjects", str(args.subjects), "--spacing", args.spacing], cores)
        else:
            lines = args.cohort.read_text(encoding="utf-8").splitlines()[: args.subjects + 1]
            table = args.cohort.with_name(f".{args.cohort.stem}-part.csv")
            table.write_text("\n".join(lines) + "\n", encoding="utf-8")
        result: dict[str, Any] = {"load": os.getloadavg()}
        command = [
            "preprocess",
            str(table),
            f"{folder}/study-{{workers}}",
            "--lungs",
            "threshold",
            "--workers",
            "{workers}",
        ]
        result["preprocess"] = measure(
            "preprocess",
            command,
            lambda workers: list((folder / f"study-{workers}" / "subjects").glob("*/subject.json")),
            counts,
            cores,
        )
        if args.cohort is not None:
            table.unlink()
        if args.model is not None:
            command = ["embed", f"{folder}/study-1", f"{folder}/emb-{{workers}}", "--model", str(args.model)]
            result["embed"] = measure(
                "embed",
                [*command, "--workers", "{workers}"],
                lambda workers: list((folder / f"emb-{workers}.regions.zarr" / "c").glob("*/0/0")),
                counts,
                cores,
            )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
