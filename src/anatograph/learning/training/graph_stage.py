"""One update of the graph level: G and f_g against a queue of subjects (eq. 8), E standing still."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anatograph.learning import processes
from anatograph.learning.contrast.keys import follow, key_forward, query_forward
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.networks import pool_nodes
from anatograph.learning.seeding import GRAPH_PAIRS, numpy_generator
from anatograph.learning.training.bank import Bank
from anatograph.learning.training.patch_stage import Outcome, contrast_and_step
from anatograph.learning.training.sampler import share
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainState, buffers_of, graph_part, put_back


def pairs(seed: int, update: int, rows: int, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Two different views (B,), (B,) for each row of an update's batch."""
    random = numpy_generator(seed, GRAPH_PAIRS, update)
    first = random.integers(0, views, rows)
    return first, (first + random.integers(1, views, rows)) % views


def subject_features(model: Model, gathered: Tensor, present: Tensor) -> Tensor:
    """S' (B, F): G after message passing, then the mean over nodes. gathered (B, N, F), present (B, N) bool."""
    everywhere = None if bool(present.all()) else present
    nodes = gathered if model.graph is None else model.graph.nodes(gathered, everywhere)
    return pool_nodes(nodes, everywhere)


@torch.no_grad()
def region_nodes(model: Model, gathered: Tensor, present: Tensor) -> Tensor:
    """Nodes (B, N, F) of what a bank holds, before any whitening; NaN where absent."""
    nodes = gathered if model.graph is None else model.graph.nodes(gathered, present)
    return nodes.masked_fill(~present[..., None], float("nan"))


def graph_update(
    state: TrainState,
    settings: PretrainSettings,
    bank: Bank,
    rows: np.ndarray,
    update: int,
    rate: float,
    views: tuple[np.ndarray, np.ndarray] | None = None,
    autocast: torch.autocast | None = None,
) -> Outcome:
    """Pairs of views of subjects ``rows`` from the bank, the loss, a step of G's optimiser, momentum step, queue.

    ``update`` counts the graph level's updates. ``views`` overrides which two views are paired.
    """
    model, key = state.model, state.key
    device = model.location_codes.device
    first, second = views or pairs(settings.seed, update, len(rows), bank.gathered.shape[1])
    part = share(len(rows), processes.rank(), processes.world_size())
    one, two, present = (t.to(device) for t in bank.pair(rows[part], first[part], second[part]))
    everybody = torch.from_numpy(rows).to(device)
    trained = graph_part(model)
    before = buffers_of(trained)

    def query_network(h: Tensor, there: Tensor) -> Tensor:
        return model.graph_projection(subject_features(model, h, there))  # type: ignore[no-any-return]

    def key_network(h: Tensor, there: Tensor) -> Tensor:
        return key.graph_projection(subject_features(key, h, there))  # type: ignore[no-any-return]

    trained.train()
    graph_part(key).train(settings.key_norm == "shuffle")
    chance = (settings.seed, GRAPH_PAIRS, update, 2)
    both = ((one, two), (two, one)) if settings.symmetric else ((one, two),)
    with autocast or torch.autocast(device.type, enabled=False):
        keys = [key_forward(key_network, [k, present], settings.key_norm, chance) for _, k in both]
        queries = [query_forward(query_network, [q, present], settings.key_norm) for q, _ in both]
    gathered = [processes.gathered(k.float()) for k in keys]
    finite = all(bool(torch.isfinite(k).all()) for k in gathered)
    outcome = contrast_and_step(
        state.graph_queue,
        settings,
        queries,
        keys,
        gathered,
        (everybody[part], None),
        (everybody, None),
        finite,
        list(trained.parameters()),
        state.graph_optimiser,
        rate,
    )
    if outcome.finite:
        follow(graph_part(key), trained, settings.graph_key_momentum, settings.key_norm)
    else:
        put_back(trained, before)
    return outcome
