"""Queues of keys to contrast with: one per landmark for patches (eq. 5), one for subjects (eq. 8).

Letters in shapes: B rows of a batch, L landmarks (queues), K places in a queue, F features.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anatograph.learning.seeding import generator

EMPTY = -1
"""Owner of a place without a key."""
RANDOM = -2
"""Owner of a random key, which is a negative of every subject."""


def queue_length(queue_size: int, subjects: int, keys_per_subject: int = 4) -> int:
    """Length of a landmark's queue: ``queue_size`` (4096 in the paper), or fewer for a small cohort.

    A queue much longer than the cohort holds only stale keys of the same subjects.
    """
    return max(1, min(queue_size, subjects * keys_per_subject))


class KeyQueue(nn.Module):
    """A ring of the last K keys for each of L landmarks, with the subject each key came from.

    The subject-level queue of eq. 8 is one with L = 1. All state is in buffers, so ``state_dict`` resumes it exactly.
    """

    keys: Tensor
    owner: Tensor
    pointer: Tensor
    strata: Tensor | None

    def __init__(
        self,
        landmarks: int,
        length: int,
        features: int,
        dtype: torch.dtype = torch.float16,
        strata: Tensor | None = None,
    ) -> None:
        """Half precision stores a unit vector to 2e-4 at half the memory: 610 MB for 581 x 4096 x 128.

        ``strata`` (O,) int64 gives each owner's stratum, such as its scanner, where only keys of a query's own stratum
        are its negatives; None where all are. It is no part of ``state_dict``.
        """
        super().__init__()
        if min(landmarks, length, features) < 1:
            raise ValueError(f"a queue needs landmarks, length and features >= 1, not {landmarks, length, features}")
        shape = (landmarks, length, features)
        if dtype in (torch.float16, torch.float32):
            # numpy gets zeroed pages from the system: no memory is taken until a key is written.
            keys = torch.from_numpy(np.zeros(shape, dtype=np.float16 if dtype == torch.float16 else np.float32))
        else:
            keys = torch.zeros(shape, dtype=dtype)
        self.register_buffer("keys", keys)
        self.register_buffer("owner", torch.full((landmarks, length), EMPTY, dtype=torch.int32))
        self.register_buffer("pointer", torch.zeros(landmarks, dtype=torch.int64))
        self.register_buffer("strata", strata, persistent=False)

    @property
    def landmarks(self) -> int:
        """L."""
        return int(self.keys.shape[0])

    @property
    def length(self) -> int:
        """K."""
        return int(self.keys.shape[1])

    @torch.no_grad()
    def fill_random(self, *seeds: int) -> None:
        """Fill every place with a random unit vector, as published; ``seeds`` name the draw."""
        for landmark, keys in enumerate(self.keys):
            drawn = torch.randn(keys.shape, generator=generator(*seeds, landmark))
            keys.copy_(F.normalize(drawn, dim=1))
        self.owner.fill_(RANDOM)

    def negative(self, own: Tensor, held: Tensor, mask_same: bool) -> Tensor:
        """Whether a key of owner ``held`` is a negative of a query of owner ``own``, int32 whose shapes broadcast.

        ``mask_same``: never of its own owner's queries. Random keys are negatives of all.
        """
        allowed = held != EMPTY
        if mask_same:
            allowed = allowed & (held != own)
        if self.strata is not None:
            same = self.strata[held.clamp(min=0)] == self.strata[own.clamp(min=0)]
            allowed = allowed & (same | (held == RANDOM))
        return allowed

    def filled(self) -> Tensor:
        """(L,) int64: how many keys each landmark's queue holds."""
        return (self.owner != EMPTY).sum(dim=1)

    @torch.no_grad()
    def enqueue(
        self, keys: Tensor, owners: Tensor, landmarks: Tensor | None = None, write: Tensor | None = None
    ) -> None:
        """Put keys (B, F) of subjects ``owners`` (B,) into the queues of ``landmarks`` (B,), oldest overwritten.

        ``landmarks`` may be left out where there is one queue. Keys are normalised here. Several keys of one landmark
        take successive places in the batch's order; of more than K, the last K stay. Owners must not be negative.
        Where ``write``, a bool on the queue's device, is False nothing changes. Indices are computed on the CPU: with
        ``landmarks`` there, nothing waits for a GPU.
        """
        device, rows = self.keys.device, keys.shape[0]
        landmarks = torch.zeros(rows, dtype=torch.int64) if landmarks is None else landmarks.to("cpu", torch.int64)
        if owners.shape != (rows,) or landmarks.shape != (rows,):
            raise ValueError(f"{rows} keys with owners {tuple(owners.shape)} and landmarks {tuple(landmarks.shape)}")
        order, place, counts = places_by_group(landmarks, self.landmarks)
        which = landmarks[order]
        keep = place >= counts[which] - self.length
        order, which, place, counts = (
            t.to(device, non_blocking=True) for t in (order[keep], which[keep], place[keep], counts)
        )
        slot = (self.pointer[which] + place) % self.length
        new = F.normalize(keys.to(device)[order].float(), dim=1).to(self.keys.dtype)
        owned = owners.to(device=device, dtype=torch.int32, non_blocking=True)[order]
        if write is not None:
            new = torch.where(write, new, self.keys[which, slot])
            owned = torch.where(write, owned, self.owner[which, slot])
            counts = torch.where(write, counts, 0)
        self.keys[which, slot] = new
        self.owner[which, slot] = owned
        self.pointer.copy_((self.pointer + counts) % self.length)


def places_by_group(groups: Tensor, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sort rows by group: (order (B,), each sorted row's place within its group (B,), rows per group (total,))."""
    order = torch.argsort(groups, stable=True)
    counts = torch.bincount(groups, minlength=total)
    first = torch.cumsum(counts, 0) - counts
    place = torch.arange(groups.shape[0], device=groups.device) - first[groups[order]]
    return order, place, counts
