"""One update of the patch level: E against per-landmark queues (eq. 5)."""

from __future__ import annotations

import torch

from anatograph.learning.contrast.augmentation import Augmenter
from anatograph.learning.contrast.keys import key_forward, query_forward
from anatograph.learning.data.loader import PatchBatch
from anatograph.learning.model.windowing import window
from anatograph.learning.seeding import PATCH_VIEWS
from anatograph.learning.training.contrast_step import Rows, UpdateResult, contrast_step
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainState, buffers_of


def patch_update(
    state: TrainState,
    settings: PretrainSettings,
    augmenter: Augmenter,
    batch: PatchBatch,
    update: int,
    rate: float,
    autocast: torch.autocast | None = None,
) -> UpdateResult:
    """Two views of each patch, their queries and keys, the loss, a step of E's optimiser, momentum step, queues.

    ``update`` counts the patch level's updates; every random draw follows from it and the run's seed.
    """
    model, key, device, level = state.model, state.key, augmenter.device, state.patch_level
    config = model.config
    hu = batch.patches.to(device, non_blocking=True)
    codes = model.location_codes[batch.landmarks]
    buffers = buffers_of(level.trained)
    with torch.no_grad():
        x = window(hu, config.hu_low, config.hu_high)
        views = [augmenter.views(x, (settings.seed, PATCH_VIEWS, update, v), batch.start, batch.total) for v in (0, 1)]
    key.encoder.train(settings.key_norm == "shuffle")
    model.encoder.train()
    order = (settings.seed, PATCH_VIEWS, update, 2)
    with autocast or torch.autocast(device.type, enabled=False):
        keys = [
            key_forward(key.contrast_features, [views[v], codes], settings.key_norm, order)
            for v in ((1, 0) if settings.symmetric else (1,))
        ]
        queries = [
            query_forward(model.contrast_features, [views[v], codes], settings.key_norm)
            for v in ((0, 1) if settings.symmetric else (0,))
        ]
    own, whole = Rows(batch.groups, batch.landmarks), Rows(batch.all_groups, batch.all_landmarks)
    return contrast_step(level, settings, queries, keys, own, whole, rate, buffers)
