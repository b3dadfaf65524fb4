"""The training loop of the supervised rows: the same for slices, patches and volumes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.baselines.method import Learns, Scans, SupervisedMethod
from anatograph.baselines.networks.heads import Heads
from anatograph.embedding.api import chosen_device
from anatograph.errors import UserError
from anatograph.evaluation.targets import Target
from anatograph.execution.progress import progress_over
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.memory import keep_memory
from anatograph.learning.seeding import INITIAL, generator, numpy_generator
from anatograph.learning.training.schedule import learning_rate

_ORDER, _AUGMENT, _STATISTICS = 231, 232, 233
Draw = tuple[int, ...]
"""Key of a random draw, see `anatograph.learning.seeding`."""


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast a supervised network is trained."""

    epochs: int
    """Passes over the training subjects; fixed in advance, so that no validation set is needed for early stopping."""
    batch: int
    """Subjects per update."""
    rate: float = 1e-3
    """Peak of AdamW's cosine learning rate."""
    weight_decay: float = 1e-2
    """AdamW's."""


class HasTraining(Protocol):
    """Sizes of a supervised row."""

    @property
    def training(self) -> TrainingSchedule:
        """How long and how fast."""


Settings = TypeVar("Settings", bound=HasTraining)


class SupervisedNetwork(nn.Module):
    """A network whose loss may have a term of its own in addition to those of the targets."""

    def losses(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, O), and a scalar to be added to the targets' loss."""
        outputs = self(inputs)
        return outputs, outputs.sum() * 0.0


class FoldNetwork(SupervisedMethod, Generic[Settings]):
    """A supervised row. A subclass defines the sizes, the network and its inputs."""

    learns: ClassVar[Learns] = "labels, in each fold"
    sizes: Mapping[str, Settings]
    """Sizes by preset, ``default`` and ``quick``."""

    def settings(self, scans: Scans) -> Settings:
        """The sizes of this preset."""
        return scans.sized(self.sizes)

    def shares_network(self, scans: Scans) -> bool:
        """Whether one network predicts all targets of a common fold: in the quick preset only."""
        return scans.preset == "quick"

    @abstractmethod
    def network(self, scans: Scans, outputs: int) -> SupervisedNetwork:
        """A newly initialised network; torch's generator is seeded."""

    @abstractmethod
    def inputs(self, scans: Scans, rows: NDArray[np.int64], draw: Draw | None, device: torch.device) -> Tensor:
        """The network's inputs for subjects ``rows``: augmented by ``draw`` in training, unchanged if None."""

    def predict(
        self, scans: Scans, target: Target, train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """See `SupervisedMethod.predict`."""
        return self._fit(scans, [target], train, test)[0]

    def predict_many(
        self, scans: Scans, targets: Sequence[Target], train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """See `SupervisedMethod.predict_many`."""
        if not self.shares_network(scans):
            return super().predict_many(scans, targets, train, test)
        predicted = self._fit(scans, targets, train, test)
        return [part[np.isin(test, target.rows)] for part, target in zip(predicted, targets, strict=True)]

    def _fit(
        self, scans: Scans, targets: Sequence[Target], train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Predictions for all of ``test``, whether or not they have a value."""
        keep_memory()
        device = torch.device(chosen_device(scans.device))
        heads = Heads(targets, train, len(scans.subject_ids)).to(device)
        train = train[heads.known[train].any(axis=1)]
        if not len(train):
            raise UserError(f"{self.title} has no training subjects in a fold of {targets[0].name}; use fewer folds.")
        # Dropout draws from torch's global generator, so all of the training runs in a fork of it.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(generator(scans.seed, INITIAL).initial_seed()))
            network = self.network(scans, heads.outputs).to(device)
            self._train(scans, network, heads, train)
            outputs = self._outputs(scans, network, train, test)
        return [heads.predictions(outputs, k) for k in range(len(targets))]

    def _train(self, scans: Scans, network: SupervisedNetwork, heads: Heads, train: NDArray[np.int64]) -> None:

        schedule, device = self.settings(scans).training, next(network.parameters()).device
        optimiser = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=schedule.weight_decay)
        if len(heads.thresholds):
            optimiser.add_param_group({"params": list(heads.parameters()), "weight_decay": 0.0})
        # The remainder of an epoch joins its last batches: BatchNorm statistics of one or two subjects are useless.
        updates = max(1, len(train) // min(schedule.batch, len(train)))
        self.updates = steps = schedule.epochs * updates
        for step in progress_over(range(steps), self.title, "update", shown=self.progress):
            epoch, place = divmod(step, updates)
            order = numpy_generator(scans.seed, _ORDER, epoch).permutation(train)
            rows = np.array_split(order, updates)[place]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, schedule.rate, 0.1)
            network.train()
            outputs, extra = network.losses(self.inputs(scans, rows, (scans.seed, _AUGMENT, step), device))
            loss = heads.loss(outputs, rows) + extra
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()

    @torch.inference_mode()
    def _outputs(
        self, scans: Scans, network: SupervisedNetwork, train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(len(test), O), with BatchNorm statistics of the training subjects under the final weights."""
        device = next(network.parameters()).device
        batch = min(self.settings(scans).training.batch, len(train))
        sample = numpy_generator(scans.seed, _STATISTICS).permutation(train)[: 8 * batch]
        chunks = np.array_split(sample, max(1, len(sample) // batch))
        recalibrate_batchnorm(network, (self.inputs(scans, rows, None, device) for rows in chunks))
        network.eval()
        parts = [test[start : start + batch] for start in range(0, len(test), batch)]
        outputs = [network(self.inputs(scans, rows, None, device)).double().cpu().numpy() for rows in parts]
        return np.concatenate(outputs) if outputs else np.zeros((0, 1))
