"""Features of K views of each subject, computed once an epoch while E is frozen, for all rounds of the graph level.

As published every round of the graph level sends two fresh views of every subject through E, 581 patches each, to train
a network that costs next to nothing. E does not change during these rounds, so features of K views can be drawn from
again and again: K (K - 1) ordered pairs a subject.
"""

from __future__ import annotations

from collections.abc import Sequence
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

CHUNK = 96
"""Patches that go through E at once: fastest is what fits the CPU's cache beside the weights."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Views of M subjects, after E and after message passing (eq. 6 before W, which needs no gradient)."""

    subjects: NDArray[np.int64]
    """(M,) ascending: indices of the subjects in the cohort."""
    gathered: Tensor
    """(M, K, N, F or 2F) half precision in main memory: output of `GraphNetwork.gather`, or h where there is no G."""
    present: Tensor
    """(M, N) bool."""

    def pair(self, subjects: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> list[Tensor]:
        """Two views (B, N, F or 2F) float32 of each of the given subjects, and which landmarks each has (B, N)."""
        rows = torch.from_numpy(np.searchsorted(self.subjects, subjects))
        one, two = torch.from_numpy(first), torch.from_numpy(second)
        return [self.gathered[rows, one].float(), self.gathered[rows, two].float(), self.present[rows]]


def gathered_size(model: Model) -> int:
    """Length of what `GraphNetwork.gather` computes for a node."""
    return model.config.feature_size * (2 if model.config.graph and model.config.graph_own else 1)


def build_bank(
    model: Model,
    cohort: TrainingCohort,
    subjects: NDArray[np.int64],
    views: int,
    augmenter: Augmenter,
    seeds: tuple[int, ...],
    autocast: torch.autocast | None = None,
) -> Bank:
    """Features of ``views`` views of ``subjects`` (M,), each process computing a part; ``seeds`` name the draw.

    ``model`` is in evaluation mode and stays so.
    """
    own = collectives.own_items(len(subjects))
    shape = (len(own), views, cohort.landmarks, gathered_size(model))
    found = torch.zeros(shape, dtype=torch.float16)
    for row, place in enumerate(own):
        index = int(subjects[place])
        found[row] = subject_views(model, cohort, index, range(views), augmenter, seeds, autocast)
    gathered = collectives.gather_items(found, len(subjects))
    return Bank(np.asarray(subjects), gathered, torch.from_numpy(cohort.present[subjects]))


@torch.no_grad()
def subject_views(
    model: Model,
    cohort: TrainingCohort,
    index: int,
    views: Sequence[int],
    augmenter: Augmenter | None,
    seeds: tuple[int, ...],
    autocast: torch.autocast | None = None,
) -> Tensor:
    """Views (K, N, F or 2F) half precision of one subject, after E and message passing; without augmenter as stored."""
    device = model.location_codes.device
    here = np.flatnonzero(cohort.present[index])
    rows_on_device = torch.from_numpy(here).to(device)
    hu = torch.from_numpy(np.ascontiguousarray(cohort.source.read_patches([cohort.ids[index]] * len(here), here)))
    x = window(hu.to(device), model.config.hu_low, model.config.hu_high)
    graphs = make_graphs([cohort.edges[index]], cohort.landmarks, cohort.present[index][None], device)
    codes = model.location_codes[rows_on_device]
    out = torch.zeros(len(views), cohort.landmarks, gathered_size(model), dtype=torch.float16)
    for row, view in enumerate(views):
        seen = x if augmenter is None else augmenter.subject_view(x, (*seeds, index, view))
        h = torch.zeros(cohort.landmarks, model.config.feature_size, device=device)
        for start in range(0, len(here), CHUNK):
            part = slice(start, start + CHUNK)
            with autocast or torch.autocast(device.type, enabled=False):
                h[rows_on_device[part]] = model.patch_features(seen[part], codes[part]).float()
        out[row] = (h[None] if model.graph is None else model.graph.gather(h[None], graphs))[0].half().cpu()
    return out
