"""Which patches make up which update: a function of (seed, update), so that a resumed run needs no memory of it.

The landmark is part of a sampler's item. A batch holds several landmarks, and of each landmark several people; every
landmark passes over the people who have it in an order of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anatograph.errors import UserError
from anatograph.learning.seeding import GRAPH_ORDER, PATCH_ORDER, numpy_generator


class PatchSource(Protocol):
    """What reading needs of a study (`anatograph.study.store.Study` is one)."""

    def read_patches(self, subject_ids: Sequence[str], landmarks: ArrayLike) -> NDArray[np.int16]:
        """The b-th subject's patch at the b-th landmark: (B, P, P, P) HU."""
        ...


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


def share(total: int, rank: int, world: int) -> slice:
    """Rows of a batch of ``total`` (a multiple of ``world``) that process ``rank`` works on."""
    part = total // world
    return slice(rank * part, (rank + 1) * part)


class PatchSampler:
    """Rows of the patch level's updates. Stateless: ``rows(update)`` depends on the seed and ``update`` alone."""

    def __init__(
        self, present: NDArray[np.bool_], batch: int, landmarks_per_batch: int, seed: int, multiple: int = 1
    ) -> None:
        """``present`` (S, N): which subjects have which landmarks; others are never drawn.

        A batch has ``batch`` rows, or fewer where the cohort has not that many patches, always a multiple of
        ``multiple`` (the number of processes). With fewer people than a landmark's share, more landmarks are mixed.
        """
        self._owners = [np.flatnonzero(column) for column in present.T]
        self.usable = np.flatnonzero(present.any(axis=0))
        if not len(self.usable):
            raise UserError("none of the study's subjects has any landmark inside its scan; there is nothing to learn.")
        subjects = int(present.sum(axis=0).max())
        landmarks = min(landmarks_per_batch, len(self.usable))
        self.people = max(1, min(math.ceil(batch / landmarks), subjects))
        self.landmarks = max(1, min(batch // self.people, len(self.usable)))
        self.size = max(1, math.ceil(self.landmarks * self.people / multiple)) * multiple
        self.seed = seed
        self.subjects = subjects
        self.updates_per_round = math.ceil(len(self.usable) / self.landmarks)
        """Updates of a patch round of Algorithm 1: ``people`` subjects at every landmark."""
        self.rounds_per_pass = math.ceil(subjects / self.people)
        """Rounds after which every subject has been seen at every landmark."""

    def rows(self, update: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Subject and landmark index of each row, (size,) each; rows of one landmark lie side by side."""
        turn, group = divmod(update, self.updates_per_round)
        order = numpy_generator(self.seed, PATCH_ORDER, 0, turn).permutation(self.usable)
        first = group * self.landmarks
        chosen = order[np.arange(first, first + self.landmarks) % len(order)]
        # Rows beyond landmarks x people (to a multiple of the processes) go round the landmarks once more.
        per = np.full(self.landmarks, self.size // self.landmarks)
        per[: self.size - int(per.sum())] += 1
        subjects = np.concatenate([self._people(int(j), turn, int(n)) for j, n in zip(chosen, per, strict=True)])
        return subjects, np.repeat(chosen, per).astype(np.int64)

    def _people(self, landmark: int, turn: int, count: int) -> NDArray[np.int64]:
        """The ``count`` subjects whom the landmark meets in round ``turn``: pass after pass, each in a new order."""
        owners = self._owners[landmark]
        places = turn * self.people + np.arange(count)
        orders = {
            int(p): numpy_generator(self.seed, PATCH_ORDER, 1, landmark, int(p)).permutation(owners)
            for p in np.unique(places // len(owners))
        }
        return np.array([orders[int(k // len(owners))][k % len(owners)] for k in places], dtype=np.int64)


class SubjectSampler:
    """Subjects of the graph level's updates; stateless as `PatchSampler`."""

    def __init__(self, subjects: int, batch: int, seed: int, multiple: int = 1) -> None:
        """A batch has ``batch`` subjects, or all where there are fewer, made up to a multiple of ``multiple``."""
        self.subjects = subjects
        self.size = math.ceil(min(batch, subjects) / multiple) * multiple
        self.seed = seed
        self.updates_per_pass = math.ceil(subjects / self.size)

    def rows(self, update: int, among: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Indices (size,) of the subjects of an update, drawn from ``among`` (all, if not given) pass after pass."""
        pool = np.arange(self.subjects) if among is None else among
        places = update * self.size + np.arange(self.size)
        orders = {
            int(p): numpy_generator(self.seed, GRAPH_ORDER, int(p)).permutation(pool)
            for p in np.unique(places // len(pool))
        }
        return np.array([orders[int(k // len(pool))][k % len(pool)] for k in places], dtype=np.int64)


class _Updates(Dataset[PatchBatch]):
    """Maps an update to its batch, so that a loader's workers, however many, read the same patches."""

    def __init__(self, source: PatchSource, ids: Sequence[str], sampler: PatchSampler, rank: int, world: int) -> None:
        self.source, self.ids, self.sampler = source, list(ids), sampler
        self.rank, self.world = rank, world

    def __getitem__(self, update: int) -> PatchBatch:
        subjects, landmarks = self.sampler.rows(update)
        part = share(self.sampler.size, self.rank, self.world)
        patches = self.source.read_patches([self.ids[s] for s in subjects[part]], landmarks[part])
        who, where = torch.from_numpy(subjects), torch.from_numpy(landmarks)
        return PatchBatch(
            torch.from_numpy(np.ascontiguousarray(patches, dtype=np.int16)),
            who[part],
            where[part],
            who,
            where,
            part.start,
            self.sampler.size,
        )


def read_updates(
    source: PatchSource,
    ids: Sequence[str],
    sampler: PatchSampler,
    updates: range,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> Iterator[PatchBatch]:
    """The batches of ``updates`` in their order, read ahead by ``workers`` processes (0: read in between)."""
    dataset = _Updates(source, ids, sampler, rank, world)
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
        pin_memory=pin,
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader
