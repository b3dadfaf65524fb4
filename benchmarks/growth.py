"""How an update, its memory and its checkpoint grow with the cohort and the atlas.

    OMP_NUM_THREADS=2 python benchmarks/growth.py --json growth.json

Each row is measured in a process of its own, on synthetic patches in memory, with the default settings: seconds of
sampling and of a whole patch update (wall and processor time, the median of ``--updates``), resident memory after
them, and a checkpoint's size and seconds. Networks and batch, and therefore the arithmetic, are the same in all rows.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROWS = [(100, 581), (1_000, 581), (9_180, 581), (100_000, 581), (1_000, 100), (1_000, 2_000)]


def measure(subjects: int, landmarks: int, updates: int) -> dict[str, Any]:
    """One row, in this process."""
    import numpy as np
    import torch
    from pretrain_throughput import Patches

    from anatograph.learning.contrast.augmentation import Augmenter
    from anatograph.learning.data.loader import PatchBatch
    from anatograph.learning.data.sampler import PatchSampler
    from anatograph.learning.memory import keep_memory
    from anatograph.learning.model.embedding_model import Model
    from anatograph.learning.training.checkpoint import save_checkpoint
    from anatograph.learning.training.launch import bf16_on_processor
    from anatograph.learning.training.patch_stage import patch_update
    from anatograph.learning.training.presets import PRESETS
    from anatograph.learning.training.state import TrainState

    keep_memory()
    settings = PRESETS["default"]
    codes = np.random.default_rng(0).random((landmarks, 3)).astype(np.float32)
    state = TrainState(Model(settings.model, codes), settings, subjects, torch.device("cpu"))
    present = np.ones((subjects, landmarks), dtype=bool)
    sampler = PatchSampler(present, settings.patch_batch, settings.landmarks_per_batch, 0)
    source, augmenter = Patches(landmarks), Augmenter(settings.augment)
    autocast = torch.autocast("cpu", torch.bfloat16) if bf16_on_processor() else None
    sampling, whole, used = [], [], []
    for update in range(updates + 2):
        began, busy = time.perf_counter(), time.process_time()
        subjects, places = sampler.rows(update)
        sampling.append(time.perf_counter() - began)
        patches = torch.from_numpy(source.read_patches([str(i) for i in subjects], places))
        who, where = torch.from_numpy(subjects), torch.from_numpy(places)
        batch = PatchBatch(patches, who, where, who, where, 0, sampler.size)
        patch_update(state, settings, augmenter, batch, update, 0.001, autocast)
        whole.append(time.perf_counter() - began)
        used.append(time.process_time() - busy)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        save_checkpoint(Path(folder), 1, state.state(), 1)
        saving = time.perf_counter() - began
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return {
        "subjects": subjects,
        "landmarks": landmarks,
        "sampling_s": statistics.median(sampling[2:]),
        "update_s": statistics.median(whole[2:]),
        "update_processor_s": statistics.median(used[2:]),
        "resident_mb": pages * resource.getpagesize() / 1e6,
        "queue_mb": state.patch_queue.keys.numel() * 2 / 1e6,
        "checkpoint_mb": size / 1e6,
        "checkpoint_s": saving,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--one", type=int, nargs=2, metavar=("SUBJECTS", "LANDMARKS"), help="measure one row, here")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.updates)))
        return
    rows = []
    for subjects, landmarks in ROWS:
        command = [sys.executable, __file__, "--updates", str(args.updates), "--one", str(subjects), str(landmarks)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print({k: round(v, 4) for k, v in rows[-1].items()}, flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
