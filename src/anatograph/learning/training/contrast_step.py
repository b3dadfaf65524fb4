"""What both levels do with their queries and keys: the loss, one optimiser step, the momentum step, the queue."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from anatograph.learning import collectives
from anatograph.learning.contrast.info_nce import InfoNCE
from anatograph.learning.contrast.keys import follow
from anatograph.learning.contrast.queues import EMPTY, KeyQueue
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import Level, restore_buffers


class Rows(NamedTuple):
    """Which subject, and which landmark if the level has several queues, each row of a batch belongs to."""

    subjects: Tensor
    """(B,) int64."""
    landmarks: Tensor | None = None
    """(B,) int64."""


class UpdateResult(NamedTuple):
    """The figures of one update."""

    loss: float
    """Mean over the whole batch."""
    accuracy: float
    """Share of queries whose own key was the nearest; nan where there was nothing to compare with."""
    positive: float
    """Mean cosine of a query and its own key."""
    negatives: float
    """Mean number of negatives."""
    finite: bool
    """Whether the update was made; otherwise no weight was changed."""
    query: Tensor
    """This process's queries (B, F), to measure their spread."""
    key: Tensor
    """The keys of all processes (B, F)."""


def contrast_step(
    level: Level,
    settings: PretrainSettings,
    queries: list[Tensor],
    keys: list[Tensor],
    own: Rows,
    batch: Rows,
    rate: float,
    buffers: list[Tensor],
) -> UpdateResult:
    """Loss of this process's queries against their keys and the queue, and everything that follows from it.

    ``queries`` and ``keys`` hold one tensor (B, F) for each view that is a query; the loss is their mean. ``own`` are
    the rows of this process, ``batch`` those of all. ``buffers`` are the level's before the forward passes: where
    anything is not finite they are restored, and no weight is changed.
    """
    gathered = [collectives.gathered(key.float()) for key in keys]
    finite = all(bool(torch.isfinite(key).all()) for key in gathered)
    queue, part = level.queue, level.trained
    nce = InfoNCE(settings.temperature, settings.mask_same_subject)
    if settings.in_batch and finite:
        # Once in the queue, the batch's keys are negatives of the other subjects in it; a query's own are masked there.
        queue.enqueue(gathered[0], batch.subjects, batch.landmarks)
    results = [nce(q.float(), k, own.subjects, own.landmarks, queue) for q, k in zip(queries, keys, strict=True)]
    # A process's mean is weighted by its number of queries; each process knows all of them without an exchange.
    share = _with_negatives(queue, settings, own) / max(1.0, _with_negatives(queue, settings, batch))
    loss = torch.stack([r.loss for r in results]).mean() * share
    level.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    first = results[0]
    rows = len(own.subjects) / len(batch.subjects)
    accuracy = torch.nan_to_num(first.accuracy) * share
    figures = torch.stack([loss.detach(), accuracy, first.positive * rows, first.negatives * rows])
    parameters = list(part.parameters())
    total, accuracy_mean, positive, negatives = collectives.sum_gradients(parameters, figures).tolist()
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
    finite = finite and math.isfinite(total) and bool(torch.isfinite(norm))
    if finite:
        if settings.gradient_clip > 0 and float(norm) > settings.gradient_clip:
            torch._foreach_mul_(gradients, settings.gradient_clip / float(norm))
        for group in level.optimiser.param_groups:
            group["lr"] = rate
        level.optimiser.step()
        if not settings.in_batch:
            queue.enqueue(gathered[0], batch.subjects, batch.landmarks)
        follow(level.key, part, level.key_momentum, settings.key_norm)
    else:
        restore_buffers(part, buffers)
    compared = negatives > 0
    return UpdateResult(
        total, accuracy_mean if compared else math.nan, positive, negatives, finite, queries[0].detach(), gathered[0]
    )


def _with_negatives(queue: KeyQueue, settings: PretrainSettings, rows: Rows) -> int:
    """How many queries have at least one negative."""
    subjects, landmarks = rows
    held = queue.owner[landmarks] if landmarks is not None else queue.owner[0].expand(len(subjects), -1)
    negative = held != EMPTY
    if settings.mask_same_subject:
        negative &= held != subjects[:, None].to(held.dtype)
    return int(negative.any(dim=1).sum())
