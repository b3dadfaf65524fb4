"""What both levels do with their queries and keys: the loss, one optimiser step, the momentum step, the queue.

Nothing here waits for a GPU: whether an update is finite is decided where it is computed, and its figures are read
when they are logged.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from anatograph.learning import collectives
from anatograph.learning.contrast.info_nce import InfoNCE
from anatograph.learning.contrast.keys import follow
from anatograph.learning.contrast.queues import KeyQueue
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainedLevel, restore_buffers


class Rows(NamedTuple):
    """The group, and the landmark if the level has several queues, of each row of a batch; both on the CPU."""

    groups: Tensor
    """(B,) int64: rows of one group (a subject, or all scans of one patient) are never each other's negatives."""
    landmarks: Tensor | None = None
    """(B,) int64."""


class Figures(NamedTuple):
    """The figures of one update as numbers."""

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


class UpdateResult(NamedTuple):
    """What an update computed, still on its device."""

    figures: Tensor
    """(5,): loss, accuracy, positive, negatives, finite."""
    query: Tensor
    """This process's queries (B, F), to measure their spread."""
    key: Tensor
    """The keys of all processes (B, F)."""

    def read(self) -> Figures:
        """The figures as numbers; waits for the device."""
        return figures_of(self.figures.tolist())


def figures_of(values: list[float]) -> Figures:
    """Figures from the values of `UpdateResult.figures`."""
    loss, accuracy, positive, negatives, finite = values
    return Figures(loss, accuracy if negatives > 0 else math.nan, positive, negatives, bool(finite))


def contrast_step(
    level: TrainedLevel,
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
    finite = torch.stack([torch.isfinite(key).all() for key in gathered]).all()
    queue, part = level.queue, level.trained
    nce = InfoNCE(settings.temperature, settings.mask_same_subject)
    if settings.in_batch:
        # Once in the queue, the batch's keys are negatives of the other groups in it; a query's own are masked there.
        queue.enqueue(gathered[0], *batch, write=finite)
    results = [nce(q.float(), k, *own, queue) for q, k in zip(queries, keys, strict=True)]
    # A process's mean is weighted by its number of queries; each process knows all of them without an exchange.
    share = _with_negatives(queue, settings, own) / _with_negatives(queue, settings, batch).clamp(min=1)
    loss = torch.stack([r.loss for r in results]).mean() * share
    level.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    first, rows = results[0], len(own.groups) / len(batch.groups)
    accuracy = torch.nan_to_num(first.accuracy) * share
    figures = torch.stack([loss.detach(), accuracy, first.positive * rows, first.negatives * rows])
    parameters = list(part.parameters())
    figures = collectives.sum_gradients(parameters, figures)
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    finite = finite & torch.isfinite(figures[0]) & torch.isfinite(norm)
    if settings.gradient_clip > 0:
        torch._foreach_mul_(gradients, torch.clamp(settings.gradient_clip / norm, max=1.0))
    for group in level.optimiser.param_groups:
        group["lr"] = rate
    _apply(level, settings, finite, buffers)
    if not settings.in_batch:
        queue.enqueue(gathered[0], *batch, write=finite)
    return UpdateResult(torch.cat([figures, finite[None]]), queries[0].detach(), gathered[0])


def _apply(level: TrainedLevel, settings: PretrainSettings, finite: Tensor, buffers: list[Tensor]) -> None:
    """The optimiser's step and the momentum step, or, where the update is not finite, the buffers of before."""
    if level.gated:
        level.optimiser.grad_scale = None  # type: ignore[attr-defined]
        level.optimiser.found_inf = (~finite).float()  # type: ignore[attr-defined]
        level.optimiser.step()
        restore_buffers(level.trained, buffers, finite)
        follow(level.key, level.trained, level.key_momentum, settings.key_norm, finite)
    elif bool(finite):
        level.optimiser.step()
        follow(level.key, level.trained, level.key_momentum, settings.key_norm)
    else:
        restore_buffers(level.trained, buffers)


def _with_negatives(queue: KeyQueue, settings: PretrainSettings, rows: Rows) -> Tensor:
    """How many queries have at least one negative, a scalar on the queue's device."""
    groups = rows.groups.to(queue.owner.device, queue.owner.dtype, non_blocking=True)
    held = queue.owner[0].expand(len(groups), -1) if rows.landmarks is None else queue.owner[rows.landmarks]
    return queue.negative(groups[:, None], held, settings.mask_same_subject).any(dim=1).sum()
