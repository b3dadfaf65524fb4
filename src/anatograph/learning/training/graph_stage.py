"""One update of the graph level: G and f_g against a queue of subjects (eq. 8), E being frozen."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatograph.learning import collectives
from anatograph.learning.contrast.keys import key_forward, query_forward
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.networks import pool_nodes
from anatograph.learning.seeding import GRAPH_PAIRS, numpy_generator
from anatograph.learning.training.bank import Bank
from anatograph.learning.training.contrast_step import Rows, UpdateResult, contrast_step
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainState, buffers_of

Views = tuple[NDArray[np.int64], NDArray[np.int64]]
"""(B,), (B,): which two views of each subject are paired."""


def pairs(seed: int, update: int, rows: int, views: int) -> Views:
    """Two different views for each row of an update's batch."""
    random = numpy_generator(seed, GRAPH_PAIRS, update)
    first = random.integers(0, views, rows)
    return first, (first + random.integers(1, views, rows)) % views


def subject_features(model: Model, gathered: Tensor, present: Tensor | None) -> Tensor:
    """S' (B, F): G after message passing, then the mean over nodes. gathered (B, N, F); present (B, N) bool, or None
    where no landmark is absent."""
    return pool_nodes(model.nodes(gathered, present), present)


@torch.no_grad()
def region_nodes(model: Model, gathered: Tensor, present: Tensor) -> Tensor:
    """Nodes (B, N, F) of what a bank holds, before any whitening; NaN where absent."""
    nodes = model.nodes(gathered, present)
    return nodes.masked_fill(~present[..., None], float("nan"))


def graph_update(
    state: TrainState,
    settings: PretrainSettings,
    bank: Bank,
    rows: NDArray[np.int64],
    update: int,
    rate: float,
    views: Views | None = None,
    autocast: torch.autocast | None = None,
) -> UpdateResult:
    """Pairs of views of subjects ``rows`` (B,) from the bank, the loss, a step of G's optimiser, momentum step, queue.

    ``update`` counts the graph level's updates. ``views`` overrides which two views are paired.
    """
    model, key, level = state.model, state.key, state.graph_level
    device = model.location_codes.device
    first, second = views or pairs(settings.seed, update, len(rows), bank.gathered.shape[1])
    part = collectives.own_share(len(rows))
    one, two, present = bank.pair(rows[part], first[part], second[part])
    one, two = one.to(device), two.to(device)
    # Decided on the CPU, and by all processes alike: where nothing is absent no mask is needed.
    there = [] if bank.complete(rows) else [present.to(device)]
    groups = bank.groups_of(rows)
    own, whole = Rows(groups[part]), Rows(groups)
    buffers = buffers_of(level.trained)

    size = model.config.contrast_size

    def query_network(h: Tensor, mask: Tensor | None = None) -> Tensor:
        return model.graph_projection(subject_features(model, h, mask)[:, :size])  # type: ignore[no-any-return]

    def key_network(h: Tensor, mask: Tensor | None = None) -> Tensor:
        return key.graph_projection(subject_features(key, h, mask)[:, :size])  # type: ignore[no-any-return]

    level.trained.train()
    level.key.train(settings.key_norm == "shuffle")
    order = (settings.seed, GRAPH_PAIRS, update, 2)
    both = ((one, two), (two, one)) if settings.symmetric else ((one, two),)
    with autocast or torch.autocast(device.type, enabled=False):
        keys = [key_forward(key_network, [k, *there], settings.key_norm, order) for _, k in both]
        queries = [query_forward(query_network, [q, *there], settings.key_norm) for q, _ in both]
    return contrast_step(level, settings, queries, keys, own, whole, rate, buffers)
