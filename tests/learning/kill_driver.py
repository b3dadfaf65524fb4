"""Pretrain once undisturbed and once killed again and again; print what differs. Run by test_pretrain_resume.py."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from small_study import SmallStudy

from anatograph.learning.api import train
from anatograph.learning.training.presets import build_settings

SETTINGS = (
    "patch_size=16", "feature_size=16", "density_in_contrast=true",
    "patch_batch=8", "landmarks_per_batch=4", "graph_batch=4", "epochs=2",
    "patch_steps=7", "graph_rounds=5", "bank_views=2", "bank_draws=5", "recalibrate_batches=2", "checkpoint_minutes=0",
    "log_every=3", "watch_every=4", "smooth_low=4", "smooth_high=6", "seed=3",
)  # fmt: skip


def work(run: Path, workers: int) -> None:
    torch.set_num_threads(1)
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    settings = build_settings("quick", None, [*SETTINGS, f"workers={workers}"])
    train(SmallStudy(absent=0.1), run, settings, resume=True, progress=False)


def main(folder: Path) -> None:
    fork = multiprocessing.get_context("fork")

    def child(run: Path, workers: int) -> multiprocessing.process.BaseProcess:
        process = fork.Process(target=work, args=(run, workers))
        process.start()
        return process

    began = time.monotonic()
    whole = child(folder / "whole", 0)
    whole.join()
    length = time.monotonic() - began
    random_times = random.Random(0)
    kills = {"anywhere": 0, "while writing": 0}
    run = folder / "killed"
    for attempt in range(60):
        process = child(run, attempt % 2)
        if attempt % 3 == 2:  # wait for a checkpoint to be half written
            while process.is_alive() and not any((run / "checkpoints").glob("*.part")):
                time.sleep(0.0002)
            kind = "while writing"
        else:
            process.join(random_times.uniform(0.2, 0.6) * length)
            kind = "anywhere"
        if process.is_alive() and sum(kills.values()) < 10:
            os.kill(process.pid or 0, signal.SIGKILL)
            kills[kind] += 1
        process.join()
        if process.exitcode == 0:
            break
    print(json.dumps({"whole": whole.exitcode, "killed": process.exitcode, "kills": kills}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
