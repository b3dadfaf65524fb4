"""Which patches make up which update: a function of (seed, update), so that a resumed run needs no saved state of it.

The landmark is part of a sampler's item. A batch holds several landmarks, and several subjects at each; every landmark
passes over the subjects that have it in an order of its own.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.learning.seeding import GRAPH_ORDER, PATCH_ORDER, numpy_generator


class PatchSampler:
    """Rows of the patch level's updates. Stateless: ``rows(update)`` depends on the seed and ``update`` alone."""

    def __init__(
        self, present: NDArray[np.bool_], batch: int, landmarks_per_batch: int, seed: int, multiple: int = 1
    ) -> None:
        """``present`` (S, N): which subjects have which landmarks; others are never drawn.

        A batch has ``batch`` rows, or fewer where the cohort has fewer patches, always a multiple of ``multiple``
        (the number of processes). With fewer subjects than a landmark's share, more landmarks are mixed.
        """
        self._owners = [np.flatnonzero(column) for column in present.T]
        self.usable = np.flatnonzero(present.any(axis=0))
        if not len(self.usable):
            raise UserError(
                "none of the study's subjects has a landmark inside its scan, so there is nothing to learn from; check "
                "the lung masks and the registration with `anatograph doctor` and the study's QC pictures."
            )
        subjects = int(present.sum(axis=0).max())
        landmarks = min(landmarks_per_batch, len(self.usable))
        self.subjects_per_landmark = max(1, min(math.ceil(batch / landmarks), subjects))
        self.landmarks = max(1, min(batch // self.subjects_per_landmark, len(self.usable)))
        self.size = max(1, math.ceil(self.landmarks * self.subjects_per_landmark / multiple)) * multiple
        self.seed = seed
        self.subjects = subjects
        self.updates_per_round = math.ceil(len(self.usable) / self.landmarks)
        """Updates of a patch round of Algorithm 1: ``subjects_per_landmark`` subjects at every landmark."""
        self.rounds_per_pass = math.ceil(subjects / self.subjects_per_landmark)
        """Rounds after which every subject has been seen at every landmark."""

    def rows(self, update: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Subject and landmark index of each row, (size,) each; rows of one landmark lie side by side."""
        turn, group = divmod(update, self.updates_per_round)
        order = numpy_generator(self.seed, PATCH_ORDER, 0, turn).permutation(self.usable)
        first = group * self.landmarks
        chosen = order[np.arange(first, first + self.landmarks) % len(order)]
        # Rows beyond landmarks x subjects (to a multiple of the processes) go round the landmarks once more.
        per = np.full(self.landmarks, self.size // self.landmarks)
        per[: self.size - int(per.sum())] += 1
        subjects = np.concatenate([self._subjects_at(int(j), turn, int(n)) for j, n in zip(chosen, per, strict=True)])
        return subjects, np.repeat(chosen, per).astype(np.int64)

    def _subjects_at(self, landmark: int, turn: int, count: int) -> NDArray[np.int64]:
        """The ``count`` subjects at a landmark in round ``turn``: pass after pass, each in a new order."""
        owners = self._owners[landmark]
        places = turn * self.subjects_per_landmark + np.arange(count)
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
