"""InfoNCE against queues of other subjects' keys: eq. 5 for patches, eq. 8 for subjects.

Letters in shapes: B rows of a batch, K places in a queue, F features, U landmarks in a batch, P the most rows of one
landmark in a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anatograph.learning.contrast.queues import EMPTY, KeyQueue, places_by_group


class Contrast(NamedTuple):
    """A contrastive loss and the figures to watch beside it. All but ``loss`` carry no gradient."""

    loss: Tensor
    """Scalar: mean InfoNCE over the queries that have at least one negative; 0 where none has."""
    accuracy: Tensor
    """Scalar: share of those queries whose own key is nearer than every negative; nan where there are none."""
    positive: Tensor
    """Scalar: mean cosine between a query and its own key."""
    negatives: Tensor
    """Scalar: mean number of negatives a query was compared with."""


class InfoNCE(nn.Module):
    """Eq. 5 and eq. 8: -log of the own key's share among exp(q·k / τ), the other keys coming from a queue.

    To contrast with the keys of the batch itself, put them into the queue first.
    """

    def __init__(self, temperature: float = 0.2, mask_same_subject: bool = True) -> None:
        """``mask_same_subject``: v ≠ i holds, keys of a query's own subject are never its negatives (the published
        code has no such mask).
        """
        super().__init__()
        self.temperature = temperature
        self.mask_same_subject = mask_same_subject

    def forward(
        self, query: Tensor, key: Tensor, owners: Tensor, landmarks: Tensor | None, queue: KeyQueue
    ) -> Contrast:
        """Compare query (B, F) with key (B, F), two views of the same thing in each row.

        ``owners`` (B,) subject of each row; ``landmarks`` (B,) or None where there is one queue; a query is compared
        only with keys of its own landmark. Both are normalised here; no gradient reaches ``key`` or the queue.
        Rows may come in any order; cost and memory are (landmarks in the batch) x (most rows of one) x K. Indices are
        computed on the CPU: with ``landmarks`` there, nothing waits for a GPU.
        """
        rows = query.shape[0]
        if key.shape != query.shape or owners.shape != (rows,):
            raise ValueError(f"queries {tuple(query.shape)}, keys {tuple(key.shape)}, owners {tuple(owners.shape)}")
        query = F.normalize(query.float(), dim=1)
        key = F.normalize(key.detach().float(), dim=1)
        owners = owners.to(device=query.device, dtype=torch.int32, non_blocking=True)
        landmarks = torch.zeros(rows, dtype=torch.int64) if landmarks is None else landmarks.to("cpu", torch.int64)
        present, group = torch.unique(landmarks, return_inverse=True)
        order, place, counts = places_by_group(group, len(present))
        shape = (len(present), int(counts.max()) if rows else 0)
        present, group, order, place = (
            t.to(query.device, non_blocking=True) for t in (present, group[order], order, place)
        )
        positive = (query * key).sum(dim=1)[order]

        # Rows of one landmark lie side by side, so that its queue is read once for all of them.
        block = query.new_zeros(*shape, query.shape[1]).index_put((group, place), query[order])
        own = owners.new_full(shape, EMPTY).index_put((group, place), owners[order])
        similar = torch.bmm(block, queue.keys[present].float().transpose(1, 2))
        negative = queue.negative(own[:, :, None], queue.owner[present][:, None, :], self.mask_same_subject)
        similar = similar.masked_fill(~negative, -torch.inf)
        return self._loss(positive, similar[group, place])

    def _loss(self, positive: Tensor, negative: Tensor) -> Contrast:
        """Positive cosines (B,) and negative cosines (B, M), -inf where excluded."""
        logits = torch.cat([positive[:, None], negative], dim=1) / self.temperature
        each = torch.logsumexp(logits, dim=1) - logits[:, 0]
        with torch.no_grad():
            found = (negative > -torch.inf).sum(dim=1)
            counted = found > 0
            right = positive > negative.amax(dim=1) if negative.shape[1] else torch.zeros_like(counted)
            accuracy = (right & counted).sum() / counted.sum()
        # A query without negatives has loss 0; it must not dilute the mean either.
        loss = each.sum() / counted.sum().clamp(min=1)
        return Contrast(loss, accuracy, positive.detach().mean(), found.float().mean())
