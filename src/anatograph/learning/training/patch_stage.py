"""One update of the patch level: E against per-landmark queues (eq. 5)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from anatograph.learning import processes
from anatograph.learning.contrast.augmentation import Augmenter
from anatograph.learning.contrast.keys import follow, key_forward, query_forward
from anatograph.learning.contrast.queues import EMPTY, InfoNCE, KeyQueue
from anatograph.learning.model.windowing import window
from anatograph.learning.seeding import PATCH_VIEWS
from anatograph.learning.training.sampler import PatchBatch
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainState, buffers_of, patch_part, put_back


class Outcome(NamedTuple):
    """What an update found."""

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
    """This process's queries (B, F), for looking at their spread."""
    key: Tensor
    """Everybody's keys (B, F)."""


def patch_update(
    state: TrainState,
    settings: PretrainSettings,
    augmenter: Augmenter,
    batch: PatchBatch,
    update: int,
    rate: float,
    autocast: torch.autocast | None = None,
) -> Outcome:
    """Two views, their queries and keys, the loss, a step of E's optimiser, the momentum step, the queues.

    ``update`` counts the patch level's updates; everything random follows from it and the run's seed.
    """
    model, device = state.model, augmenter.device
    config = model.config
    part = patch_part(model)
    hu = batch.patches.to(device, non_blocking=True)
    subjects, landmarks = batch.subjects.to(device), batch.landmarks.to(device)
    codes = model.location_codes[landmarks]
    before = buffers_of(part)
    with torch.no_grad():
        x = window(hu, config.hu_low, config.hu_high)
        views = [augmenter.views(x, (settings.seed, PATCH_VIEWS, update, v), batch.start, batch.total) for v in (0, 1)]
    with autocast or torch.autocast(device.type, enabled=False):
        chance = (settings.seed, PATCH_VIEWS, update, 2)
        key = state.key
        key.encoder.train(settings.key_norm == "shuffle")
        model.encoder.train()
        keys = [
            key_forward(key.contrast_features, [views[v], codes], settings.key_norm, chance)
            for v in ((1, 0) if settings.symmetric else (1,))
        ]
        queries = [
            query_forward(model.contrast_features, [views[v], codes], settings.key_norm)
            for v in ((0, 1) if settings.symmetric else (0,))
        ]
    gathered = [processes.gathered(key.float()) for key in keys]
    finite_keys = all(bool(torch.isfinite(key).all()) for key in gathered)
    everybody = batch.all_subjects.to(device), batch.all_landmarks.to(device)
    outcome = contrast_and_step(
        state.patch_queue,
        settings,
        queries,
        keys,
        gathered,
        (subjects, landmarks),
        everybody,
        finite_keys,
        list(part.parameters()),
        state.patch_optimiser,
        rate,
    )
    if outcome.finite:
        follow(patch_part(state.key), part, settings.key_momentum, settings.key_norm)
    else:
        put_back(part, before)
    return outcome


def contrast_and_step(
    queue: KeyQueue,
    settings: PretrainSettings,
    queries: list[Tensor],
    keys: list[Tensor],
    gathered: list[Tensor],
    mine: tuple[Tensor, Tensor | None],
    everybody: tuple[Tensor, Tensor | None],
    finite: bool,
    parameters: list[Tensor],
    optimiser: torch.optim.Optimizer,
    rate: float,
) -> Outcome:
    """Loss of queries against their keys and the queue, one optimiser step, keys into the queue (both levels).

    With several queries (views) the loss is their mean. Where anything is not finite no weight is changed.
    """
    owners, landmarks = mine
    nce = InfoNCE(settings.temperature, settings.mask_same_subject)
    if settings.in_batch and finite:
        # Once in the queue the batch's keys are negatives of the others in it; one's own are masked there.
        queue.enqueue(gathered[0], everybody[0], everybody[1])
    results = [nce(q.float(), k, owners, landmarks, queue) for q, k in zip(queries, keys, strict=True)]
    # A process's mean counts as many queries as it has; all know all, so no exchange is needed to weigh them.
    share = _with_negatives(queue, settings, owners, landmarks) / max(
        1.0, _with_negatives(queue, settings, everybody[0], everybody[1])
    )
    loss = torch.stack([r.loss for r in results]).mean() * share
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    first = results[0]
    part = len(owners) / len(everybody[0])
    accuracy = torch.nan_to_num(first.accuracy) * share
    figures = torch.stack([loss.detach(), accuracy, first.positive * part, first.negatives * part])
    total, accuracy_mean, positive, negatives = processes.sum_gradients(parameters, figures).tolist()
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
    finite = finite and math.isfinite(total) and bool(torch.isfinite(norm))
    if finite:
        if settings.gradient_clip > 0 and float(norm) > settings.gradient_clip:
            torch._foreach_mul_(gradients, settings.gradient_clip / float(norm))
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        if not settings.in_batch:
            queue.enqueue(gathered[0], everybody[0], everybody[1])
    compared = negatives > 0
    accuracy_or_nan = accuracy_mean if compared else math.nan
    return Outcome(total, accuracy_or_nan, positive, negatives, finite, queries[0].detach(), gathered[0])


def _with_negatives(queue: KeyQueue, settings: PretrainSettings, owners: Tensor, landmarks: Tensor | None) -> int:
    """How many queries have a negative at all."""
    held = queue.owner[landmarks] if landmarks is not None else queue.owner[0].expand(len(owners), -1)
    negative = held != EMPTY
    if settings.mask_same_subject:
        negative &= held != owners[:, None].to(held.dtype)
    return int(negative.any(dim=1).sum())
