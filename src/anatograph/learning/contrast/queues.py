"""InfoNCE against queues of other people's keys: eq. 5 for patches (a queue per landmark), eq. 8 for subjects.

Letters in shapes: B rows of a batch, L landmarks (queues), K places in a queue, F features, U landmarks in a batch,
P the most rows of one landmark in a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMPTY = -1
"""Owner of a place that holds no key yet."""


def queue_length(queue_size: int, subjects: int, keys_per_subject: int = 4) -> int:
    """Places worth keeping a landmark: ``queue_size`` (4096 in the paper), or fewer for a small cohort.

    A queue much longer than the cohort holds only stale keys of the same people.
    """
    return max(1, min(queue_size, subjects * keys_per_subject))


class KeyQueue(nn.Module):
    """A ring of the last K keys for each of L landmarks, with the subject each key came from.

    The subject-level queue of eq. 8 is one with L = 1. All state is in buffers, so ``state_dict`` resumes it exactly.
    """

    keys: Tensor
    owner: Tensor
    pointer: Tensor

    def __init__(self, landmarks: int, length: int, features: int, dtype: torch.dtype = torch.float16) -> None:
        """Half precision stores a unit vector to 2e-4 at half the memory: 610 MB for 581 x 4096 x 128."""
        super().__init__()
        if min(landmarks, length, features) < 1:
            raise ValueError(f"a queue needs landmarks, length and features >= 1, not {landmarks, length, features}")
        shape = (landmarks, length, features)
        if dtype in (torch.float16, torch.float32):
            # numpy asks the system for zeroed pages, which cost no memory until a key is written; torch.zeros writes.
            keys = torch.from_numpy(np.zeros(shape, dtype=np.float16 if dtype == torch.float16 else np.float32))
        else:
            keys = torch.zeros(shape, dtype=dtype)
        self.register_buffer("keys", keys)
        self.register_buffer("owner", torch.full((landmarks, length), EMPTY, dtype=torch.int32))
        self.register_buffer("pointer", torch.zeros(landmarks, dtype=torch.int64))

    @property
    def landmarks(self) -> int:
        """L."""
        return int(self.keys.shape[0])

    @property
    def length(self) -> int:
        """K."""
        return int(self.keys.shape[1])

    def filled(self) -> Tensor:
        """(L,) int64: how many keys each landmark's queue holds."""
        return (self.owner != EMPTY).sum(dim=1)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, owners: Tensor, landmarks: Tensor | None = None) -> None:
        """Put keys (B, F) of subjects ``owners`` (B,) into the queues of ``landmarks`` (B,), oldest overwritten.

        ``landmarks`` may be left out where there is one queue. Keys are normalised here. Several keys of one landmark
        take successive places in the batch's order; of more than K, the last K stay. Owners must not be negative.
        """
        device = self.keys.device
        rows = keys.shape[0]
        owners = owners.to(device=device, dtype=torch.int32)
        if landmarks is None:
            landmarks = torch.zeros(rows, dtype=torch.int64, device=device)
        landmarks = landmarks.to(device=device, dtype=torch.int64)
        if owners.shape != (rows,) or landmarks.shape != (rows,):
            raise ValueError(f"{rows} keys with owners {tuple(owners.shape)} and landmarks {tuple(landmarks.shape)}")
        order, place, counts = _places(landmarks, self.landmarks)
        which = landmarks[order]
        slot = (self.pointer[which] + place) % self.length
        keep = place >= counts[which] - self.length
        order, which, slot = order[keep], which[keep], slot[keep]
        self.keys[which, slot] = F.normalize(keys[order].float(), dim=1).to(device=device, dtype=self.keys.dtype)
        self.owner[which, slot] = owners[order]
        self.pointer.copy_((self.pointer + counts) % self.length)


def _places(groups: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sort rows by group: (order (B,), each sorted row's place within its group (B,), rows per group (total,))."""
    order = torch.argsort(groups, stable=True)
    counts = torch.bincount(groups, minlength=total)
    first = torch.cumsum(counts, 0) - counts
    place = torch.arange(groups.shape[0], device=groups.device) - first[groups[order]]
    return order, place, counts


class Contrast(NamedTuple):
    """A contrastive loss and what to watch beside it. All but ``loss`` carry no gradient."""

    loss: Tensor
    """Scalar: mean InfoNCE over the queries that have at least one negative; 0 where none has."""
    accuracy: Tensor
    """Scalar: share of those queries whose own key is nearer than every negative; nan where there are none."""
    positive: Tensor
    """Scalar: mean cosine between a query and its own key."""
    negatives: Tensor
    """Scalar: mean number of negatives a query was held against."""


class InfoNCE(nn.Module):
    """Eq. 5 and eq. 8: -log of the own key's share among exp(q·k / τ), against a queue and the batch itself."""

    def __init__(self, temperature: float = 0.2, mask_same_subject: bool = True, in_batch: bool = False) -> None:
        """``mask_same_subject``: v ≠ i holds, a query is never held against a key of its own subject (the published
        code does not look). ``in_batch``: other subjects' keys of this batch at the same landmark are negatives too.
        """
        super().__init__()
        self.temperature = temperature
        self.mask_same_subject = mask_same_subject
        self.in_batch = in_batch

    def forward(
        self, query: Tensor, key: Tensor, owners: Tensor, landmarks: Tensor | None = None, queue: KeyQueue | None = None
    ) -> Contrast:
        """Compare query (B, F) with key (B, F), row by row the same thing in two views.

        ``owners`` (B,) subject of each row; ``landmarks`` (B,) or None where there is one queue; a query is compared
        only with keys of its own landmark. Both are normalised here; no gradient reaches ``key`` or the queue.
        Rows may come in any order; cost and memory are (landmarks in the batch) x (most rows of one) x (K + rows).
        """
        rows = query.shape[0]
        if key.shape != query.shape or owners.shape != (rows,):
            raise ValueError(f"queries {tuple(query.shape)}, keys {tuple(key.shape)}, owners {tuple(owners.shape)}")
        query = F.normalize(query.float(), dim=1)
        key = F.normalize(key.detach().float(), dim=1)
        owners = owners.to(device=query.device, dtype=torch.int32)
        if landmarks is None:
            landmarks = torch.zeros(rows, dtype=torch.int64, device=query.device)
        present, group = torch.unique(landmarks.to(query.device, torch.int64), return_inverse=True)
        order, place, counts = _places(group, len(present))
        group = group[order]
        positive = (query * key).sum(dim=1)[order]

        # Rows of one landmark lie side by side, so that its queue is read once for all of them.
        shape = (len(present), int(counts.max()) if rows else 0)
        block = query.new_zeros(*shape, query.shape[1]).index_put((group, place), query[order])
        own = owners.new_full(shape, EMPTY).index_put((group, place), owners[order])
        parts: list[Tensor] = []
        if queue is not None:
            part = torch.bmm(block, queue.keys[present].float().transpose(1, 2))
            parts.append(part.masked_fill(self._excluded(own, queue.owner[present]), -torch.inf))
        if self.in_batch:
            others = key.new_zeros(block.shape).index_put((group, place), key[order])
            part = torch.bmm(block, others.transpose(1, 2))
            # In the batch a subject's own rows are never negatives: one of them is the positive itself.
            same = own[:, :, None] == own[:, None, :]
            parts.append(part.masked_fill(same | (own == EMPTY)[:, None, :], -torch.inf))
        if not parts:
            raise ValueError("nothing to contrast with: give a queue, or set in_batch=True")
        negative = torch.cat(parts, dim=2)[group, place]
        return self._loss(positive, negative)

    def _excluded(self, own: Tensor, theirs: Tensor) -> Tensor:
        """(U, P) owners of queries and (U, K) of keys to (U, P, K): where a key is no negative."""
        empty = (theirs == EMPTY)[:, None, :]
        return (
            empty | (own[:, :, None] == theirs[:, None, :])
            if self.mask_same_subject
            else empty.expand(-1, own.shape[1], -1)
        )

    def _loss(self, positive: Tensor, negative: Tensor) -> Contrast:
        """Positive cosines (B,) and negative cosines (B, M), -inf where excluded."""
        logits = torch.cat([positive[:, None], negative], dim=1) / self.temperature
        each = torch.logsumexp(logits, dim=1) - logits[:, 0]
        with torch.no_grad():
            found = (negative > -torch.inf).sum(dim=1)
            counted = found > 0
            right = positive > negative.amax(dim=1) if negative.shape[1] else torch.zeros_like(counted)
            accuracy = right[counted].float().mean()
        # A query without negatives has loss 0 by itself; it only must not dilute the mean.
        loss = each.sum() / counted.sum().clamp(min=1)
        return Contrast(loss, accuracy, positive.detach().mean(), found.float().mean())
