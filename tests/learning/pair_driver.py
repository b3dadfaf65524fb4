"""Patch and graph updates on a part of each batch; run by test_pretrain_processes.py, alone and under torchrun."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from small_study import SmallStudy

from anatograph.learning.api import train
from anatograph.learning.training.presets import build_settings

if __name__ == "__main__":
    torch.set_num_threads(1)
    if os.environ.get("SEPARATE_MACHINES"):  # each process believes that it is alone on its machine
        os.environ |= {"LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    run, subjects, overrides = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    settings = build_settings(
        "quick",
        None,
        [
            *(
                "patch_size=16",
                "feature_size=16",
                "density_in_contrast=true",
                "patch_batch=16",
                "landmarks_per_batch=4",
                "graph_batch=4",
            ),
            *("epochs=1", "patch_steps=50", "graph_rounds=10", "bank_draws=5", "recalibrate_batches=2", "log_every=1"),
            *("smooth_low=4", "smooth_high=6", "workers=0", "checkpoint_minutes=30", *overrides),
        ],
    )
    train(SmallStudy(subjects), run, settings, progress=False)
    # A thread of the process group that outlives it can abort the process at its end, though rarely.
    left = [name for task in Path("/proc/self/task").iterdir() if "gloo" in (name := (task / "comm").read_text())]
    if left:
        raise SystemExit(f"the process group has left threads behind: {left}")
