"""How long a run will take on this machine, measured by a few updates, and a shorter run for given minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from anatograph.execution.progress import duration
from anatograph.learning import collectives
from anatograph.learning.data.loader import read_updates
from anatograph.learning.training.bank import Bank, gathered_size, subject_views
from anatograph.learning.training.graph_stage import graph_update
from anatograph.learning.training.patch_stage import patch_update
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import frozen_copy

if TYPE_CHECKING:
    from anatograph.learning.training.trainer import Trainer

LEAST_UPDATES = 100
"""A run of fewer updates is over too soon for its length to be measured."""
_MEASURED = 3
"""Updates, or views, that are timed after a first one, which warms up."""
_STEPS = 30


@dataclass(frozen=True)
class Pace:
    """Seconds on this machine; of the slowest process where there are several."""

    patch_update: float
    """An update of the patch level."""
    view: float
    """A view of one subject through E, for the graph level."""
    graph_update: float
    """An update of the graph level."""


@dataclass(frozen=True)
class Length:
    """What determines the length of a run."""

    epochs: int
    """T_max."""
    patch_updates: int
    """Of each epoch."""
    graph_updates: int
    """Of each epoch."""

    @property
    def updates(self) -> int:
        """Of the whole run."""
        return self.epochs * (self.patch_updates + self.graph_updates)


def measure(trainer: Trainer) -> Pace:
    """Time the parts of a run on the trainer's own networks, which are changed by it and must not be used afterwards.

    With several processes all of them call this.
    """
    settings, state, cohort, compute = trainer.settings, trainer.state, trainer.cohort, trainer.compute
    batches = read_updates(cohort, trainer.patch_sampler, range(_MEASURED + 1), 0, device=compute.device)

    def patch() -> None:
        result = patch_update(state, settings, trainer.augmenter, next(batches), 0, 0.0, compute.autocast())
        result.figures.tolist()  # waits for the device

    frozen = frozen_copy(state.model)

    def view() -> None:
        subject_views(frozen, cohort, 0, 1, trainer.augmenter, (settings.seed,), compute.autocast()).sum().item()

    rows = trainer.graph_sampler.rows(0, np.arange(len(cohort.ids)))
    subjects = np.unique(rows)
    size = (len(subjects), 2, cohort.landmarks, gathered_size(state.model))
    drawn = torch.randn(size, generator=torch.Generator().manual_seed(settings.seed)).half()
    present, groups = torch.from_numpy(cohort.present[subjects]), torch.from_numpy(cohort.groups[subjects])
    bank = Bank(subjects, drawn, present, groups)
    views = np.zeros(len(rows), dtype=np.int64), np.ones(len(rows), dtype=np.int64)

    def graph() -> None:
        graph_update(state, settings, bank, rows, 0, 0.0, views, compute.autocast()).figures.tolist()

    seconds = torch.tensor([[_seconds(part) for part in (patch, view, graph)]])
    slowest = collectives.gathered(seconds).max(dim=0).values.tolist()
    return Pace(*slowest)


def _seconds(part: Callable[[], None]) -> float:
    """Median seconds of a part after its first time."""
    found = []
    for _ in range(_MEASURED + 1):
        began = time.perf_counter()
        part()
        found.append(time.perf_counter() - began)
    return sorted(found[1:])[_MEASURED // 2]


def expected_seconds(pace: Pace, length: Length, settings: PretrainSettings, banked: Callable[[int], int]) -> float:
    """Seconds that a run of this length takes: its updates, and the views between them.

    ``banked`` gives the subjects whose views an epoch of that many graph updates needs.
    """
    world = collectives.world_size()
    if settings.bank_views:
        views = banked(length.graph_updates) * settings.bank_views
    else:
        views = 2 * settings.graph_batch * length.graph_updates
    # Of the end of an epoch; a view is about 500 patches.
    statistics = settings.graph_batch + settings.recalibrate_batches * settings.patch_batch / 500
    epoch = length.patch_updates * pace.patch_update + length.graph_updates * pace.graph_update
    return length.epochs * (epoch + (views + statistics) / world * pace.view)


def fitted(length: Length, most: float, seconds: Callable[[Length], float]) -> Length:
    """The longest run that takes at most ``most`` seconds: fewer epochs, and where one is too long, a shorter one."""

    def shortened(share: float) -> Length:
        epochs = max(1, int(length.epochs * share))
        within = min(1.0, length.epochs * share / epochs)
        parts = (max(1, round(part * within)) for part in (length.patch_updates, length.graph_updates))
        return Length(epochs, *parts)

    if length.updates == 0 or seconds(length) <= most:
        return length
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if seconds(shortened(middle)) <= most else (low, middle)
    return shortened(low)


def plan(trainer: Trainer) -> tuple[PretrainSettings, str]:
    """Settings of a run that takes the minutes its settings name, all of it where they name none; and a sentence."""
    settings, schedule = trainer.settings, trainer.schedule
    whole = Length(schedule.epochs, schedule.patch_updates, schedule.graph_updates)
    pace = measure(trainer)

    def seconds(length: Length) -> float:
        return expected_seconds(pace, length, settings, trainer.banked_subjects)

    needed = seconds(whole)
    if not settings.minutes:
        return settings, (
            f"Expected time on this machine: {duration(needed)} for {whole.updates} updates; "
            "--minutes M plans a shorter run."
        )
    length = fitted(whole, 60 * settings.minutes, seconds)
    changed = replace(
        settings, epochs=length.epochs, patch_steps=length.patch_updates, graph_rounds=length.graph_updates
    )
    if length == whole:
        return changed, f"The whole run of {whole.updates} updates fits: {duration(needed)} expected."
    if seconds(length) > 60 * settings.minutes:
        return changed, f"Even the shortest run of {length.updates} updates takes {duration(seconds(length))}."
    sentence = (
        f"Planned for {settings.minutes:g} minutes: {length.updates} of {whole.updates} updates "
        f"(epochs={length.epochs}, patch_steps={length.patch_updates}, graph_rounds={length.graph_updates}); "
        f"{duration(seconds(length))} expected, the whole run takes {duration(needed)}."
    )
    return changed, sentence
