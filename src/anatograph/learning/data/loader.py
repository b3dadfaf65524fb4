"""Batches of patches in the order of their updates, read ahead by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anatograph.learning.collectives import own_share
from anatograph.learning.data.cohort import PatchSource
from anatograph.learning.data.sampler import PatchSampler


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """The patches of one update, or a process's part of them."""

    patches: Tensor
    """(B, P, P, P) int16 HU."""
    subjects: Tensor
    """(B,) int64: index of the subject."""
    landmarks: Tensor
    """(B,) int64: index of the landmark."""
    all_subjects: Tensor
    """(total,) int64: subjects of the whole batch, which every process knows."""
    all_landmarks: Tensor
    """(total,) int64: landmarks of the whole batch."""
    start: int
    """Row of the whole batch with which this part begins."""
    total: int
    """Rows of the whole batch."""


class _Updates(Dataset[PatchBatch]):
    """Maps an update to its batch, so that any number of loader workers reads the same patches."""

    def __init__(self, source: PatchSource, ids: Sequence[str], sampler: PatchSampler, part: slice) -> None:
        self.source, self.ids, self.sampler, self.part = source, list(ids), sampler, part

    def __getitem__(self, update: int) -> PatchBatch:
        subjects, landmarks = self.sampler.rows(update)
        part = self.part
        patches = self.source.read_patches([self.ids[s] for s in subjects[part]], landmarks[part])
        all_subjects, all_landmarks = torch.from_numpy(subjects), torch.from_numpy(landmarks)
        return PatchBatch(
            torch.from_numpy(np.ascontiguousarray(patches, dtype=np.int16)),
            all_subjects[part],
            all_landmarks[part],
            all_subjects,
            all_landmarks,
            part.start,
            self.sampler.size,
        )


def read_updates(
    source: PatchSource,
    ids: Sequence[str],
    sampler: PatchSampler,
    updates: range,
    workers: int = 0,
    part: slice | None = None,
) -> Iterator[PatchBatch]:
    """The batches of ``updates`` in their order, read ahead by ``workers`` processes (0: by this one, on demand).

    ``part`` are the rows of each batch to read, by default those of this process.
    """
    dataset = _Updates(source, ids, sampler, own_share(sampler.size) if part is None else part)
    if workers == 0 or len(updates) < 2:
        for update in updates:
            yield dataset[update]
        return
    loader: Any = DataLoader(
        dataset,
        batch_size=None,
        sampler=updates,
        num_workers=min(workers, len(updates)),
        prefetch_factor=2,
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader
