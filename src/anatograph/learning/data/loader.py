"""Batches of patches in the order of their updates, read ahead by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anatograph.learning.collectives import own_share
from anatograph.learning.data.cohort import TrainingCohort
from anatograph.learning.data.sampler import PatchSampler


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """The patches of one update, or a process's part of them."""

    patches: Tensor
    """(B, P, P, P) int16 HU."""
    groups: Tensor
    """(B,) int64: group of the subject, on the CPU."""
    landmarks: Tensor
    """(B,) int64: index of the landmark, on the CPU."""
    all_groups: Tensor
    """(total,) int64: groups of the whole batch, which every process knows."""
    all_landmarks: Tensor
    """(total,) int64: landmarks of the whole batch."""
    start: int
    """Row of the whole batch with which this part begins."""
    total: int
    """Rows of the whole batch."""

    def pin_memory(self) -> PatchBatch:
        """The same with patches in page-locked memory, from which a GPU copies while the CPU continues."""
        return replace(self, patches=self.patches.pin_memory())


class _Updates(Dataset[PatchBatch]):
    """Maps an update to its batch, so that any number of loader workers reads the same patches."""

    def __init__(self, cohort: TrainingCohort, sampler: PatchSampler, part: slice) -> None:
        self.cohort, self.sampler, self.part = cohort, sampler, part

    def __getitem__(self, update: int) -> PatchBatch:
        subjects, landmarks = self.sampler.rows(update)
        part = self.part
        groups, places = torch.from_numpy(self.cohort.groups[subjects]), torch.from_numpy(landmarks)
        return PatchBatch(
            torch.from_numpy(self.cohort.read(subjects[part], landmarks[part])),
            groups[part],
            places[part],
            groups,
            places,
            part.start,
            self.sampler.size,
        )


def read_updates(
    cohort: TrainingCohort,
    sampler: PatchSampler,
    updates: range,
    workers: int = 0,
    part: slice | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[PatchBatch]:
    """The batches of ``updates`` in their order, read ahead by ``workers`` processes (0: by this one, on demand).

    ``part`` are the rows of each batch to read, by default those of this process. For a GPU as ``device`` the patches
    of the next batch are copied to it while it works on the one before.
    """
    device = torch.device(device)
    batches = _read(_Updates(cohort, sampler, own_share(sampler.size) if part is None else part), updates, workers)
    return batches if device.type == "cpu" else _on_device(batches, device)


def _read(dataset: _Updates, updates: range, workers: int) -> Iterator[PatchBatch]:
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
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader


def _on_device(batches: Iterator[PatchBatch], device: torch.device) -> Iterator[PatchBatch]:
    """The batches with their patches on a GPU, each copied on a stream of its own while the one before is used."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ready: PatchBatch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = replace(batch, patches=batch.patches.to(device, non_blocking=True))
        if ready is not None:
            yield ready
        # Whatever is launched from now on waits for the copy, and the memory is not reused before that is done.
        torch.cuda.current_stream(device).wait_stream(stream)
        copied.patches.record_stream(torch.cuda.current_stream(device))
        ready = copied
    if ready is not None:
        yield ready
