"""Patches per second of pretraining: the published recipe, written plainly, compared with this engine, part by part.

    OMP_NUM_THREADS=2 python benchmarks/pretrain_throughput.py --json throughput.json

(a) is the published recipe: MONAI's transforms on one view at a time in the workers of a DataLoader, as many as there
are threads, float32, torch's default layout, keys through a network in training mode; at graph level two fresh views of
every subject in every round. (b) is this engine. Both work on the same synthetic patches; (a) with the networks of the
paper's tables, (b) with those of the default settings, which do a little more. The published recipe is measured on a
part of its work where the whole would take hours (``--views``, ``--subjects-a``), and scaled up.

A loader's worker computes with one thread, and there MONAI's elastic transform takes several times as long as in a
process with two (separable filters go another way through the convolution). So the ratio is also given with (a)'s
transforms run in this process with all its threads (``*_transforms_in_process``).
"""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from published_training import (
    IN_PROCESS,
    IN_WORKERS,
    Clock,
    Patches,
    published_graph,
    published_patch,
)

from anatograph.learning.contrast.augmentation import Augmenter
from anatograph.learning.contrast.info_nce import InfoNCE
from anatograph.learning.contrast.momentum import momentum_update
from anatograph.learning.data.cohort import TrainingCohort
from anatograph.learning.data.loader import PatchBatch
from anatograph.learning.data.sampler import PatchSampler
from anatograph.learning.memory import keep_memory
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.windowing import window
from anatograph.learning.training.bank import build_bank, subject_views
from anatograph.learning.training.graph_stage import graph_update
from anatograph.learning.training.launch import bf16_on_processor
from anatograph.learning.training.patch_stage import patch_update
from anatograph.learning.training.presets import PRESETS
from anatograph.learning.training.state import TrainState, frozen_copy

Autocast = torch.autocast | None


def engine_patch(
    cohort: TrainingCohort, codes: NDArray[np.float32], batch: int, updates: int, autocast: Autocast
) -> tuple[Clock, float]:
    """The engine's patch level by part (measured apart), and the seconds of whole updates."""
    clock, settings = Clock(), PRESETS["default"]
    torch.manual_seed(0)
    state = TrainState(Model(settings.model, codes), settings, len(cohort.ids), torch.device("cpu"))
    augmenter = Augmenter(settings.augment)
    sampler = PatchSampler(cohort.present, batch, settings.landmarks_per_batch, 0)

    def read(update: int) -> PatchBatch:
        subjects, landmarks = sampler.rows(update)
        hu = torch.from_numpy(cohort.source.read_patches([cohort.ids[s] for s in subjects], landmarks))
        who, where = torch.from_numpy(subjects), torch.from_numpy(landmarks)
        return PatchBatch(hu, who, where, who, where, 0, sampler.size)

    first = read(0)
    patch_update(state, settings, augmenter, first, 0, 0.01, autocast)
    for update in range(1, updates + 1):
        one = clock("sampling and reading", lambda u=update: read(u), 1 / updates)
        clock(
            "whole update",
            lambda o=one, u=update: patch_update(state, settings, augmenter, o, u, 0.01, autocast),
            1 / updates,
        )
    x, model = window(first.patches), state.model
    code = model.location_codes[first.landmarks]
    views = [clock("augmentation", lambda v=v: augmenter.views(x, (0, 3, 1, v))) for v in (0, 1)]
    model.train()
    state.key.eval()
    mixed = autocast or nullcontext()
    with torch.no_grad(), mixed:
        keys = clock("key forward", lambda: state.key.contrast_features(views[1], code))
    nce = InfoNCE(0.2)
    with mixed:
        queries = clock("forward and backward", lambda: model.contrast_features(views[0], code))
    loss = clock("queue", lambda: nce(queries, keys, first.groups, first.landmarks, state.patch_queue).loss)
    clock("forward and backward", loss.backward)
    clock("queue", lambda: state.patch_queue.enqueue(keys, first.groups, first.landmarks))
    clock("optimiser step", state.patch_optimiser.step)
    clock("momentum update", lambda: momentum_update(state.key, model, 0.97))
    return clock, clock.wall["whole update"] + clock.wall["sampling and reading"]


def engine_graph(
    cohort: TrainingCohort, codes: NDArray[np.float32], batch: int, subjects: int, autocast: Autocast
) -> tuple[Clock, float]:
    """A round of the engine's graph level: its share of the bank, and the update itself."""
    clock, settings = Clock(), PRESETS["default"]
    torch.manual_seed(0)
    state = TrainState(Model(settings.model, codes), settings, len(cohort.ids), torch.device("cpu"))
    augmenter, frozen = Augmenter(settings.augment), frozen_copy(state.model)
    subject_views(frozen, cohort, 0, 1, augmenter, (0, 4, 0), autocast)
    # The bank holds K views of every subject and serves graph_passes passes over them: batch subjects of one round bear
    # their K views divided by the number of passes.
    share = settings.bank_views / settings.bank_draws
    clock(
        "bank, its share of a round",
        lambda: [subject_views(frozen, cohort, s, 1, augmenter, (0, 4, 0), autocast) for s in range(subjects)],
        share * batch / subjects,
    )
    bank = build_bank(frozen, cohort, np.arange(1), 2, augmenter, (0, 4, 1), autocast)
    wide = type(bank)(np.arange(batch), bank.gathered.expand(batch, -1, -1, -1), bank.present.expand(batch, -1),
                      torch.arange(batch))  # fmt: skip
    graph_update(state, settings, wide, np.arange(batch), 0, 0.01, None, autocast)
    for update in range(1, 6):
        clock(
            "G", lambda u=update: graph_update(state, settings, wide, np.arange(batch), u, 0.01, None, autocast), 1 / 5
        )
    return clock, sum(clock.wall.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--batch", type=int, default=128, help="patches per update")
    parser.add_argument("--subjects", type=int, default=16, help="subjects per round of the graph level")
    parser.add_argument("--landmarks", type=int, default=581)
    parser.add_argument("--views", type=int, default=16, help="views the published augmentation is measured on")
    parser.add_argument("--subjects-a", type=int, default=1, help="subjects the graph level is measured on")
    parser.add_argument("--updates", type=int, default=3, help="updates of the engine that are averaged")
    parser.add_argument("--threads", type=int, default=0, help="threads; 0: torch's default")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of the engine")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.precision == "auto":
        given.precision = "bf16" if bf16_on_processor() else "fp32"
    autocast = torch.autocast("cpu", torch.bfloat16) if given.precision == "bf16" else None
    random = np.random.default_rng(1)
    n, subjects = given.landmarks, 48
    codes = random.random((n, 3)).astype(np.float32)
    edges = np.unique(np.sort(random.integers(0, n, (1600, 2)), axis=1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]].astype(np.int32)
    ids, present = [str(i) for i in range(subjects)], np.ones((subjects, n), dtype=bool)
    cohort = TrainingCohort(Patches(n), ids, present, [edges] * subjects, np.arange(subjects))

    plain = published_patch(cohort, codes, given.batch, given.views)
    plain_graph = published_graph(cohort, codes, given.subjects, given.subjects_a)
    keep_memory()  # as in pretraining; the plain recipe does not do this
    engine, seconds = engine_patch(cohort, codes, given.batch, given.updates, autocast)
    engine_graphs, graph_seconds = engine_graph(cohort, codes, given.subjects, given.subjects_a, autocast)

    def seconds_of(clock: Clock, other: str) -> float:
        return sum(seconds for part, seconds in clock.wall.items() if part != other)

    def ratios(other: str) -> dict[str, float]:
        return {
            "patch": seconds_of(plain, other) / seconds,
            "graph": seconds_of(plain_graph, other) / graph_seconds,
        }

    ratio, in_process = ratios(IN_PROCESS), ratios(IN_WORKERS)
    totals = {
        "patch": (seconds_of(plain, IN_PROCESS), seconds),
        "graph": (seconds_of(plain_graph, IN_PROCESS), graph_seconds),
    }
    tables = [("patch level, published", plain), ("patch level, engine", engine)]
    tables += [("graph level, published", plain_graph), ("graph level, engine", engine_graphs)]
    for name, clock in tables:
        print(f"\n{name} (seconds: wall, processor)")
        for part, wall in clock.wall.items():
            cpu = f"{clock.cpu[part]:9.3f}" if part in clock.cpu else "        -"
            print(f"  {part:30s} {wall:9.3f} {cpu}")
    rows = {"patch": given.batch, "graph": given.subjects * n}
    print(f"\n{torch.get_num_threads()} threads, batch {given.batch}, {given.subjects} subjects of {n} patches")
    for level, (a, b) in totals.items():
        print(
            f"{level} level: {rows[level] / a:.1f} patches/s published, {rows[level] / b:.1f} this engine: "
            f"{ratio[level]:.1f} times ({in_process[level]:.1f} with the published transforms in this process)"
        )
    if given.json:
        figures = {
            "patch_stage_ratio": ratio["patch"],
            "graph_stage_ratio": ratio["graph"],
            "patch_stage_ratio_transforms_in_process": in_process["patch"],
            "graph_stage_ratio_transforms_in_process": in_process["graph"],
            "precision": given.precision,
            "patches_per_second": {
                k: {"published": rows[k] / a, "engine": rows[k] / b} for k, (a, b) in totals.items()
            },
            "threads": torch.get_num_threads(),
            "batch": given.batch,
            "subjects": given.subjects,
            "landmarks": n,
            "parts": {name: {"wall": clock.wall, "processor": clock.cpu} for name, clock in tables},
        }
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
