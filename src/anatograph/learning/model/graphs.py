"""The graphs of several subjects at once, ready for message passing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Graphs:
    """D^-1/2 (A + I) D^-1/2 of S subjects as one list of weighted edges between S·N nodes, self loops included."""

    source: Tensor
    """(E,) int64: node subject·N + landmark that sends."""
    target: Tensor
    """(E,) int64, ascending: node that receives."""
    weight: Tensor
    """(E,) float32: 1 / sqrt(degree of source · degree of target), degrees counting the self loop."""
    subjects: int
    """S."""
    landmarks: int
    """N."""
    present: Tensor | None = None
    """(S, N) bool: the landmarks a subject has; None where none is absent, which saves the masking."""

    def to(self, device: torch.device | str) -> Graphs:
        """The same on another device."""
        present = None if self.present is None else self.present.to(device)
        moved = (self.source.to(device), self.target.to(device), self.weight.to(device))
        return Graphs(*moved, self.subjects, self.landmarks, present)

    def propagate(self, h: Tensor) -> Tensor:
        """Each node's weighted sum over its neighbours and itself (eq. 6 before W): h (S, N, F) to (S, N, F).

        Absent landmarks have no edges, not even to themselves, and come out as zeros whatever h holds there.
        """
        if h.shape[:2] != (self.subjects, self.landmarks):
            raise ValueError(
                f"features of shape {tuple(h.shape)} do not fit graphs of {self.subjects} subjects "
                f"with {self.landmarks} landmarks"
            )
        flat = h.reshape(-1, h.shape[-1])
        # Gradients reach h through both calls; on a GPU their order of adding is fixed only under
        # torch.use_deterministic_algorithms(True).
        messages = flat.index_select(0, self.source) * self.weight.to(h.dtype)[:, None]
        return torch.zeros_like(flat).index_add(0, self.target, messages).view_as(h)

    def dense(self) -> Tensor:
        """(S, N, N) float32, row = receiver; for inspection and tests."""
        out = torch.zeros(self.subjects, self.landmarks, self.landmarks, device=self.weight.device)
        subject = torch.div(self.target, self.landmarks, rounding_mode="floor")
        out[subject, self.target % self.landmarks, self.source % self.landmarks] = self.weight
        return out


def make_graphs(
    edges: Sequence[ArrayLike], landmarks: int, present: ArrayLike | None = None, device: torch.device | str = "cpu"
) -> Graphs:
    """Build `Graphs` from each subject's undirected edges.

    ``edges``: S arrays (E_s, 2) of landmark indices, each edge once, no self loops (an edge given in both directions,
    or a self loop, is still counted once). ``present``: (S, N) bool, edges that touch an absent landmark are
    dropped. Raises ValueError for an index outside 0..N-1.
    """
    arrays = [np.asarray(e, dtype=np.int64).reshape(-1, 2) for e in edges]
    subjects = len(arrays)
    pairs: NDArray[np.int64] = np.concatenate(arrays) if arrays else np.zeros((0, 2), dtype=np.int64)
    if pairs.size and (pairs.min() < 0 or pairs.max() >= landmarks):
        raise ValueError(f"an edge names landmark {pairs.max()} or {pairs.min()}, but there are {landmarks} landmarks")
    there = np.ones((subjects, landmarks), dtype=bool)
    if present is not None:
        there = np.asarray(present, dtype=bool).reshape(subjects, landmarks)
    pairs = pairs + np.repeat(np.arange(subjects) * landmarks, [len(e) for e in arrays])[:, None]
    alive = there.ravel()
    pairs = pairs[alive[pairs].all(axis=1)] if pairs.size else pairs
    loops = np.flatnonzero(alive)
    target = np.concatenate([pairs[:, 0], pairs[:, 1], loops])
    source = np.concatenate([pairs[:, 1], pairs[:, 0], loops])
    # One number per edge sorts by receiver and removes duplicates.
    both = np.unique(target * max(subjects * landmarks, 1) + source)
    target, source = np.divmod(both, max(subjects * landmarks, 1))
    degree = np.bincount(target, minlength=subjects * landmarks).astype(np.float64)
    weight = 1.0 / np.sqrt(degree[target] * degree[source])
    return Graphs(
        source=torch.from_numpy(source).to(device),
        target=torch.from_numpy(target).to(device),
        weight=torch.from_numpy(weight.astype(np.float32)).to(device),
        subjects=subjects,
        landmarks=landmarks,
        present=None if there.all() else torch.from_numpy(there).to(device),
    )
