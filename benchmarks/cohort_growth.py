"""Overheads of a large study: opening, planning, claiming, scheduling, finishing.

    python benchmarks/cohort_growth.py STUDY [--sizes 100 1000 10000] [--tasks 2000] [--json FILE]

Makes studies of many subjects out of one subject of STUDY by hard links (no disk is used), in a folder beside it or
under --scratch, and measures what every run does: listing the study, planning a run on a cohort of which all but one
are finished, writing ``failures.csv``.  Then claims per second, tasks per second through a Dask scheduler on the
loopback device (if Dask is installed), and finishing embeddings, each with the files it reads.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anatograph.embedding.partial import Work
from anatograph.execution.account import Failure
from anatograph.execution.claims import claim
from anatograph.execution.failures import record, write_table
from anatograph.execution.scheduling import Workplace, run_tasks
from anatograph.learning.model.embedding import Embedding
from anatograph.study.cohort import read_cohort
from anatograph.study.pending import find_pending
from anatograph.study.store import Study

OPENED: list[str] = []


def timed(what: Callable[[], Any]) -> dict[str, float]:
    """Wall and processor seconds, files opened and folders listed."""
    OPENED.clear()
    begin, used = time.perf_counter(), time.process_time()
    what()
    return {
        "seconds": time.perf_counter() - begin,
        "processor": time.process_time() - used,
        "opened": float(len(OPENED)),
    }


def many_of(study: Path, target: Path, subjects: int) -> Path:
    """A study of so many hard links to its first subject, and a table with one additional subject."""
    first = study / "subjects" / Study.open(study).subject_ids[0]
    shutil.copytree(study / "atlas", target / "atlas")
    shutil.copy(study / "study.json", target / "study.json")
    image = target / "image.nii"
    image.touch()
    for number in range(subjects):
        folder = target / "subjects" / f"s{number:07d}"
        folder.mkdir(parents=True)
        for file in first.iterdir():
            os.link(file, folder / file.name)
    rows = [f"s{number:07d},image.nii" for number in range(subjects + 1)]
    (target / "cohort.csv").write_text("\n".join(["subject_id,image", *rows]) + "\n")
    return target


def grown(study: Path, scratch: Path, subjects: int) -> dict[str, Any]:
    made = many_of(study, scratch / str(subjects), subjects)
    cohort = read_cohort(made / "cohort.csv")
    found: dict[str, Any] = {"open and list": timed(lambda: Study.open(made).subject_ids)}
    found["read the table"] = timed(lambda: read_cohort(made / "cohort.csv"))
    opened = Study.open(made)
    found["plan a run"] = timed(lambda: find_pending(opened, cohort))
    for number in range(subjects // 100):
        record(made, Failure(f"f{number:07d}", "read", "a reason of some length, as they are"))
    found["failures.csv (1 in 100)"] = timed(lambda: write_table(made, opened.whole(opened.subject_ids)))
    shutil.rmtree(made)
    return found


def finished(scratch: Path, subjects: int, landmarks: int, features: int) -> dict[str, Any]:
    table = scratch / "emb.parquet"
    names = [f"s{number:07d}" for number in range(subjects)]
    work = Work.start(table, {}, names, (landmarks, features), ["regions"])
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(landmarks, features)).astype(np.float32)
    vector = nodes.mean(axis=0)
    write = timed(lambda: [work.write(name, 1, Embedding(vector, nodes, nodes)) for name in names])
    about = {"regions": {"landmarks": []}}
    every_other = names[::2]  # half of them failed: rows are renamed, not copied
    finish = timed(lambda: work.finish(every_other, about))
    size = sum(file.stat().st_size for file in (scratch / "emb.regions.zarr").rglob("*") if file.is_file())
    return {
        "write a subject": write["seconds"] / subjects,
        "finish": finish,
        "bytes a subject": size / len(every_other),
    }


def nothing(task: int) -> int:
    return task


def scheduled(tasks: int) -> dict[str, float]:
    try:
        from distributed import LocalCluster
    except ImportError:
        return {}
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=40) as cluster:
        found = timed(lambda: list(run_tasks(nothing, range(tasks), Workplace(scheduler=cluster.scheduler_address))))
    return {
        "tasks a second": tasks / found["seconds"],
        "processor ms a task (client)": 1e3 * found["processor"] / tasks,
    }


def claimed(folder: Path, number: int) -> float:
    """Claims acquired and released per second."""
    begin = time.perf_counter()
    for k in range(number):
        held = claim(folder, f"{k}.claim")
        assert held is not None
        held.release()
    return number / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--tasks", type=int, default=2000, help="for the scheduler")
    parser.add_argument("--embedded", type=int, default=500, help="subjects whose embeddings are finished")
    parser.add_argument("--scratch", type=Path, help="on the same file system as STUDY")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sys.addaudithook(lambda event, about: OPENED.append(str(about[0])) if event in ("open", "os.scandir") else None)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.scratch or args.study.parent) as name:
        scratch = Path(name)
        for size in args.sizes:
            result[str(size)] = grown(args.study, scratch, size)
            for what, figures in result[str(size)].items():
                print(f"{size:>8} subjects, {what}: {figures['seconds']:.3f} s ({figures['processor']:.3f} s of "
                      f"processor), {figures['opened']:.0f} files and folders opened", flush=True)  # fmt: skip
        result["claims a second"] = claimed(scratch / "claims", 2000)
        print(f"claims a second: {result['claims a second']:.0f}")
        result["embeddings"] = finished(scratch, args.embedded, 581, 128)
        print(f"embeddings of {args.embedded}: {result['embeddings']}")
    result["scheduler"] = scheduled(args.tasks)
    print(f"scheduler: {result['scheduler']}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
