"""Training a network inside a fold: the same for slices, patches and volumes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.baselines.method import Learns, Scans, SupervisedMethod
from anatograph.baselines.networks.heads import Heads
from anatograph.embedding.api import chosen_device
from anatograph.errors import UserError
from anatograph.evaluation.targets import Target
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.memory import keep_memory
from anatograph.learning.seeding import INITIAL, generator, numpy_generator
from anatograph.learning.training.schedule import learning_rate

_ORDER, _CHANCE, _STATISTICS = 231, 232, 233
Chance = tuple[int, ...]
"""Names of a random draw, see `anatograph.learning.seeding`."""


@dataclass(frozen=True)
class Training:
    """How long and how fast."""

    epochs: int
    """Passes over the training people; fixed beforehand, so that no one need be held out to stop by."""
    batch: int
    """People of an update."""
    rate: float = 1e-3
    """AdamW's learning rate at the top of its cosine."""
    weight_decay: float = 1e-2
    """AdamW's."""


class SupervisedNetwork(nn.Module):
    """A network whose loss may have a part of its own beside the targets'."""

    def losses(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, O), and a scalar to be added to the targets' loss."""
        outputs = self(inputs)
        return outputs, outputs.sum() * 0.0


class FoldNetwork(SupervisedMethod):
    """A supervised row. A subclass says what goes in and what network it goes through."""

    learns: ClassVar[Learns] = "labels, in each fold"

    def __init__(self, progress: bool = True) -> None:
        self.progress = progress

    @abstractmethod
    def training(self, scans: Scans) -> Training:
        """By preset."""

    @abstractmethod
    def shares_network(self, scans: Scans) -> bool:
        """Whether one network answers for several targets of a common fold."""

    @abstractmethod
    def network(self, scans: Scans, outputs: int) -> SupervisedNetwork:
        """A fresh one; torch's random numbers are seeded."""

    @abstractmethod
    def inputs(self, scans: Scans, rows: NDArray[np.int64], chance: Chance | None, device: torch.device) -> Tensor:
        """What the network sees of people ``rows``: changed at random by ``chance`` in training, as is without."""

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
        found = self._fit(scans, targets, train, test)
        return [part[np.isin(test, target.rows)] for part, target in zip(found, targets, strict=True)]

    def _fit(
        self, scans: Scans, targets: Sequence[Target], train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Predictions for all of ``test``, whether or not they have a value."""
        keep_memory()
        plan, device = self.training(scans), torch.device(chosen_device(scans.device))
        heads = Heads(targets, train, len(scans.subject_ids))
        train = train[heads.known[train].any(axis=1)]
        if not len(train):
            raise UserError(f"{self.title} has nobody to train on in a fold of {targets[0].name}; take fewer folds.")
        # Dropout draws from torch's own generator, so all of the training happens in a fork of it.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(generator(scans.seed, INITIAL).initial_seed()))
            network = self.network(scans, heads.outputs).to(device)
            self._train(scans, network, heads, train, plan, device)
            batch = min(plan.batch, len(train))
            found = self._outputs(scans, network, train, test, batch, device)
        return [heads.predictions(found, k) for k in range(len(targets))]

    def _train(
        self,
        scans: Scans,
        network: SupervisedNetwork,
        heads: Heads,
        train: NDArray[np.int64],
        plan: Training,
        device: torch.device,
    ) -> None:
        from tqdm import tqdm

        optimiser = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=plan.weight_decay)
        batch = min(plan.batch, len(train))
        # The last few of an epoch join its last batch: BatchNorm would learn nothing good from one or two people.
        updates = max(1, len(train) // batch)
        steps = plan.epochs * updates
        bar = tqdm(range(steps), desc=self.title, unit="update", disable=not self.progress, leave=False)
        for step in bar:
            epoch, place = divmod(step, updates)
            order = numpy_generator(scans.seed, _ORDER, epoch).permutation(train)
            rows = np.array_split(order, updates)[place]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, plan.rate, 0.1)
            network.train()
            outputs, extra = network.losses(self.inputs(scans, rows, (scans.seed, _CHANCE, step), device))
            loss = heads.loss(outputs, rows) + extra
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            if step % 10 == 0:
                bar.set_postfix_str(f"loss {float(loss.detach()):.3f}", refresh=False)

    @torch.inference_mode()
    def _outputs(
        self,
        scans: Scans,
        network: SupervisedNetwork,
        train: NDArray[np.int64],
        test: NDArray[np.int64],
        batch: int,
        device: torch.device,
    ) -> NDArray[np.float64]:
        """(len(test), O), BatchNorm's statistics those of the training people under the final weights."""
        some = numpy_generator(scans.seed, _STATISTICS).permutation(train)[: 8 * batch]
        chunks = np.array_split(some, max(1, len(some) // batch))
        recalibrate_batchnorm(network, (self.inputs(scans, rows, None, device) for rows in chunks))
        network.eval()
        parts = [test[start : start + batch] for start in range(0, len(test), batch)]
        found = [network(self.inputs(scans, rows, None, device)).double().cpu().numpy() for rows in parts]
        return np.concatenate(found) if found else np.zeros((0, 1))
