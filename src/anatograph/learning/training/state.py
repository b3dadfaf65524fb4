"""Everything that changes during a run, and its form in a checkpoint."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from anatograph.learning.contrast.momentum import key_copy
from anatograph.learning.contrast.queues import KeyQueue, queue_length
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.monitoring.metrics import Averages
from anatograph.learning.seeding import FIRST_KEYS
from anatograph.learning.training.settings import PretrainSettings

HISTORY = 100
"""Updates over which non-finite ones are counted."""


class TrainedLevel(NamedTuple):
    """What one level of Algorithm 1 trains, and against what."""

    trained: nn.Module
    """The query network's part that this level trains."""
    key: nn.Module
    """The same part of the key network."""
    queue: KeyQueue
    optimiser: torch.optim.Optimizer
    key_momentum: float
    gated: bool
    """Whether the optimiser skips a step that is not finite by itself, on the device, without the CPU waiting."""


class TrainState:
    """Networks, key networks, queues, optimisers and counts of a run."""

    def __init__(
        self,
        model: Model,
        settings: PretrainSettings,
        subjects: int,
        device: torch.device,
        strata: Tensor | None = None,
    ) -> None:
        """``model`` as initialised; the state takes it over and moves it to ``device``.

        ``strata`` as for `KeyQueue`.
        """
        self.model = model.to(device)
        # 3-D convolutions on CPUs and GPUs read channels-last maps without reordering them.
        self.model.encoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.key = key_copy(self.model)
        length = queue_length(settings.queue_size, subjects, settings.queue_keys_per_subject)
        if settings.queue_keys_per_subject == 0:
            length = settings.queue_size
        features = model.config.contrast_size
        self.patch_queue = KeyQueue(model.landmarks, length, features, strata=strata).to(device)
        self.graph_queue = KeyQueue(1, length, features, strata=strata).to(device)
        if not settings.in_batch:
            # Without negatives from the batch, a level's first epoch would else have none: random ones, as published.
            self.patch_queue.fill_random(settings.seed, FIRST_KEYS, 0)
            self.graph_queue.fill_random(settings.seed, FIRST_KEYS, 1)
        self._gated = device.type == "cuda"
        self.patch_optimiser = make_optimiser(patch_part(self.model), settings, self._gated)
        self.graph_optimiser = make_optimiser(graph_part(self.model), settings, self._gated)
        self._momenta = settings.key_momentum, settings.graph_key_momentum
        self.averages = {"patch": Averages(), "graph": Averages()}
        self.skipped = 0
        self.history: list[int] = []
        """For each of the last updates, 1 if it was not finite, else 0."""

    @property
    def patch_level(self) -> TrainedLevel:
        """E, its key network, the queues of all landmarks."""
        parts = patch_part(self.model), patch_part(self.key)
        return TrainedLevel(*parts, self.patch_queue, self.patch_optimiser, self._momenta[0], self._gated)

    @property
    def graph_level(self) -> TrainedLevel:
        """G and f_g, their key network, the queue of subjects."""
        parts = graph_part(self.model), graph_part(self.key)
        return TrainedLevel(*parts, self.graph_queue, self.graph_optimiser, self._momenta[1], self._gated)

    def record(self, finite: bool) -> None:
        """Count an update."""
        self.skipped += not finite
        self.history = [*self.history, int(not finite)][-HISTORY:]

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "model": dict(self.model.state_dict()),
            "key": dict(self.key.state_dict()),
            "patch_queue": dict(self.patch_queue.state_dict()),
            "graph_queue": dict(self.graph_queue.state_dict()),
            "patch_optimiser": self.patch_optimiser.state_dict(),
            "graph_optimiser": self.graph_optimiser.state_dict(),
            "averages": {level: averages.state() for level, averages in self.averages.items()},
            "skipped": self.skipped,
            "history": list(self.history),
        }

    def load(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        for name in ("model", "key", "patch_queue", "graph_queue"):
            getattr(self, name).load_state_dict(state[name])
        for optimiser, name in ((self.patch_optimiser, "patch_optimiser"), (self.graph_optimiser, "graph_optimiser")):
            optimiser.load_state_dict(state[name])
            _match_layout(optimiser)
        for level, averages in self.averages.items():
            averages.load(state["averages"][level])
        self.skipped = state["skipped"]
        self.history = list(state["history"])


def patch_part(model: Model) -> nn.ModuleList:
    """E: what the patch level trains."""
    return nn.ModuleList([model.encoder, model.projection])


def graph_part(model: Model) -> nn.ModuleList:
    """G and f_g: what the graph level trains."""
    return nn.ModuleList([model.graph_projection, *([] if model.graph is None else [model.graph])])


def make_optimiser(module: nn.Module, settings: PretrainSettings, fused: bool = False) -> torch.optim.Optimizer:
    """The optimiser of one level; the learning rate is set before every update.

    A ``fused`` one takes a whole step in one kernel, and skips it on the device where its ``found_inf`` is set.
    """
    parameters, decay = list(module.parameters()), settings.weight_decay
    # None, not False: torch then picks the loop over all parameters at once that it takes by default.
    choice = True if fused else None
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, 0.0, momentum=settings.momentum, weight_decay=decay, fused=choice)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, 0.0, betas=(settings.momentum, 0.999), weight_decay=decay, fused=choice)


def buffers_of(module: nn.Module) -> list[Tensor]:
    """Copies of a module's buffers (BatchNorm's statistics)."""
    return [buffer.clone() for buffer in module.buffers()]


@torch.no_grad()
def restore_buffers(module: nn.Module, buffers: list[Tensor], unless: Tensor | None = None) -> None:
    """Give a module the buffers it had before a non-finite update, except where ``unless`` is True."""
    for buffer, old in zip(module.buffers(), buffers, strict=True):
        buffer.copy_(old if unless is None else torch.where(unless, buffer, old))


def _match_layout(optimiser: torch.optim.Optimizer) -> None:
    """Give restored moments their parameter's memory layout, so that arithmetic gives the same bits as before."""
    for parameter, entries in optimiser.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim:
                entries[name] = torch.empty_like(parameter).copy_(value)


def frozen_copy(model: Model) -> Model:
    """A copy that is not trained and whose BatchNorm does not synchronise with other processes."""
    from anatograph.learning.contrast.sync_norm import desynchronise

    frozen = copy.deepcopy(model).requires_grad_(False).eval()
    desynchronise(frozen)
    return frozen
