"""Features of K views of each subject, computed once an epoch while E is frozen, for all rounds of the graph level.

As published every round of the graph level sends two fresh views of every subject through E, 581 patches each, to train
a network that costs next to nothing. E does not change during these rounds, so features of K views can be drawn from
again and again: K (K - 1) ordered pairs a subject.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatograph.learning import collectives
from anatograph.learning.contrast.augmentation import Augmenter
from anatograph.learning.data.cohort import TrainingCohort
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.model.windowing import window
from anatograph.learning.shared_memory import shared_zeros

CHUNK = {"cpu": 96, "cuda": 1024}
"""Patches that go through E at once: as many as the cache of a CPU holds beside the weights, or as fill a GPU."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Views of M subjects, after E and after message passing (eq. 6 before W, which needs no gradient)."""

    subjects: NDArray[np.int64]
    """(M,) ascending: indices of the subjects in the cohort."""
    gathered: Tensor
    """(M, K, N, F or 2F) half precision in main memory: output of `Model.gather`."""
    present: Tensor
    """(M, N) bool."""
    groups: Tensor
    """(M,) int64: subjects of one group are never each other's negatives."""

    def groups_of(self, subjects: NDArray[np.int64]) -> Tensor:
        """(B,) the groups of the given subjects."""
        return self.groups[torch.from_numpy(np.searchsorted(self.subjects, subjects))]

    def complete(self, subjects: NDArray[np.int64]) -> bool:
        """Whether none of the given subjects lacks a landmark."""
        return bool(self.present[torch.from_numpy(np.searchsorted(self.subjects, subjects))].all())

    def pair(self, subjects: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> list[Tensor]:
        """Two views (B, N, F or 2F) float32 of each of the given subjects, and which landmarks each has (B, N)."""
        rows = torch.from_numpy(np.searchsorted(self.subjects, subjects))
        one, two = torch.from_numpy(first), torch.from_numpy(second)
        return [self.gathered[rows, one].float(), self.gathered[rows, two].float(), self.present[rows]]


def gathered_size(model: Model) -> int:
    """Length of what `Model.gather` computes for a node."""
    twice = model.config.graph and model.config.graph_own
    return model.config.contrast_size * (2 if twice else 1) + model.joined


def build_bank(
    model: Model,
    cohort: TrainingCohort,
    subjects: NDArray[np.int64],
    views: int,
    augmenter: Augmenter | None,
    seeds: tuple[int, ...],
    autocast: torch.autocast | None = None,
    tick: Callable[[int], None] = lambda done: None,
) -> Bank:
    """Features of ``views`` views of ``subjects`` (M,); ``seeds`` name the draw. Without ``augmenter`` as stored.

    ``model`` is in evaluation mode and stays so. ``tick`` takes the number of subjects done. The processes take turns
    over the subjects; each machine keeps one bank that all its processes read.
    """
    world, rank = collectives.world_size(), collectives.rank()
    bank = shared_zeros((len(subjects), views, cohort.landmarks, gathered_size(model)))
    for first in range(0, len(subjects), world):
        # Past the end the last subject is computed once more, so that all processes take part in every exchange.
        index = int(subjects[min(first + rank, len(subjects) - 1)])
        found = subject_views(model, cohort, index, views, augmenter, seeds, autocast)
        block = collectives.gathered(found[None])[: len(subjects) - first]
        if collectives.local_rank() == 0:
            bank[first : first + world] = block.cpu()
        tick(min(first + world, len(subjects)))
    collectives.barrier()
    present, groups = torch.from_numpy(cohort.present[subjects]), torch.from_numpy(cohort.groups[subjects])
    return Bank(np.asarray(subjects), bank, present, groups)


@torch.no_grad()
def subject_views(
    model: Model,
    cohort: TrainingCohort,
    index: int,
    views: int,
    augmenter: Augmenter | None,
    seeds: tuple[int, ...],
    autocast: torch.autocast | None = None,
) -> Tensor:
    """Views (K, N, F or 2F) of one subject after E and message passing, half precision on the model's device."""
    device = model.location_codes.device
    here = np.flatnonzero(cohort.present[index])
    hu = torch.from_numpy(cohort.read(np.full(len(here), index), here))
    x = window(hu.to(device), model.config.hu_low, model.config.hu_high)
    graphs = make_graphs([cohort.edges[index]], cohort.landmarks, cohort.present[index][None], device)
    landmarks = torch.from_numpy(here).to(device)
    codes, chunk = model.location_codes[landmarks], CHUNK.get(device.type, 1024)
    out = torch.zeros(views, cohort.landmarks, gathered_size(model), dtype=torch.float16, device=device)
    for view in range(views):
        seen = x if augmenter is None else augmenter.subject_view(x, (*seeds, index, view))
        h = torch.zeros(cohort.landmarks, model.config.feature_size, device=device)
        for start in range(0, len(here), chunk):
            part = slice(start, start + chunk)
            with autocast or torch.autocast(device.type, enabled=False):
                h[landmarks[part]] = model.patch_features(seen[part], codes[part]).float()
        out[view] = model.gather(h[None], graphs)[0].half()
    return out
