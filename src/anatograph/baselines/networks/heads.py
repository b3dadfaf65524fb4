"""The last layer of supervised networks: one or several targets, their losses, and predictions on their own scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.evaluation.targets import Target

_FEWEST = 0.5
"""Subjects added to every grade before its frequency sets the initial thresholds."""


class Thresholds(nn.Module):
    """The K-1 ordered thresholds θ of proportional odds: P(grade <= k) = σ(θ_k - s) for a network's output s.

    Initialised at the frequencies of the grades, so that an output of 0 predicts the majority; trained with the
    network. The probes' proportional odds are the same model with a linear s.
    """

    def __init__(self, counts: NDArray[np.float64]) -> None:
        """``counts`` (K,): training subjects of each grade."""
        super().__init__()
        share = np.cumsum(counts + _FEWEST)[:-1] / (counts + _FEWEST).sum()
        theta = np.log(share / (1 - share))
        self.first = nn.Parameter(torch.tensor(theta[:1], dtype=torch.float32))
        self.log_steps = nn.Parameter(torch.tensor(np.log(np.diff(theta)), dtype=torch.float32))

    def forward(self, scores: Tensor) -> Tensor:
        """(B,) outputs to (B, K) probabilities."""
        theta = torch.cat([self.first, self.first + torch.cumsum(self.log_steps.exp(), 0)])
        below = torch.sigmoid(theta[None] - scores[:, None])
        edges = torch.cat([torch.zeros_like(scores)[:, None], below, torch.ones_like(scores)[:, None]], dim=1)
        return edges.diff(dim=1)


class Heads(nn.Module):
    """Which of a network's outputs belong to which target, and the scale of each target in the training set.

    A regression has one output, on values standardised on the training subjects; an ordinal target one output and
    `Thresholds`; a class target one logit per class. Values of subjects outside ``train`` are never read.
    """

    def __init__(self, targets: Sequence[Target], train: NDArray[np.int64], subjects: int) -> None:
        """``train`` are rows of the table; ``subjects`` is its number of rows."""
        super().__init__()
        self.targets = list(targets)
        self.slices: list[slice] = []
        start = 0
        for target in self.targets:
            width = len(target.classes) if target.task == "classification" else 1
            self.slices.append(slice(start, start + width))
            start += width
        self.outputs = start
        self.values = np.zeros((subjects, len(self.targets)))
        self.known = np.zeros((subjects, len(self.targets)), dtype=bool)
        self.scales: list[tuple[float, float]] = []
        self.seen: list[NDArray[np.bool_]] = []
        """Per class, whether any training subject has it; empty for a regression."""
        self.thresholds = nn.ModuleDict()
        """By the number of the target, for ordinal ones."""
        for k, target in enumerate(self.targets):
            mine = np.isin(target.rows, train)
            rows, values = target.rows[mine], target.values[mine]
            mean, spread = 0.0, 1.0
            if target.task == "regression" and len(values):
                mean = float(values.mean())
                spread = float(values.std()) or 1.0
            self.scales.append((mean, spread))
            self.seen.append(np.isin(np.arange(len(target.classes)), values))
            self.values[rows, k] = (values - mean) / spread
            self.known[rows, k] = True
            if target.task == "ordinal":
                counts = np.bincount(values.astype(np.int64), minlength=len(target.classes)).astype(np.float64)
                self.thresholds[str(k)] = Thresholds(counts)

    def loss(self, outputs: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Sum over targets of the mean over subjects with a value: squared error, or negative log likelihood.

        ``outputs`` (B, O) of subjects ``rows`` (B,).
        """
        values = torch.from_numpy(self.values[rows]).to(outputs.device)
        known = torch.from_numpy(self.known[rows]).to(outputs.device)
        total = outputs.sum() * 0.0
        for k, (target, part) in enumerate(zip(self.targets, self.slices, strict=True)):
            valid = known[:, k]
            if not bool(valid.any()):
                continue
            mine, truth = outputs[valid, part].float(), values[valid, k]
            if target.task == "regression":
                total = total + F.mse_loss(mine[:, 0], truth.float())
            elif target.task == "ordinal":
                chances = self.thresholds[str(k)](mine[:, 0])
                total = total + F.nll_loss(chances.clamp(min=1e-6).log(), truth.long())
            else:
                total = total + F.cross_entropy(mine, truth.long())
        return total

    def predictions(self, outputs: NDArray[np.float64], k: int) -> NDArray[np.float64]:
        """Of target ``k`` from outputs (n, O): (n,) on the scale of its values, or (n, C) probabilities."""
        mine = outputs[:, self.slices[k]]
        if self.targets[k].task == "regression":
            mean, spread = self.scales[k]
            return np.asarray(mine[:, 0] * spread + mean)
        # A class absent from the training set gets probability 0, as in the probes.
        seen = self.seen[k] if self.seen[k].any() else np.ones_like(self.seen[k])
        if self.targets[k].task == "ordinal":
            thresholds = cast("Thresholds", self.thresholds[str(k)])
            with torch.inference_mode():
                scores = torch.from_numpy(mine[:, 0]).to(thresholds.first.device)
                odds = thresholds(scores).double().cpu().numpy() * seen
        else:
            mine = np.where(seen, mine, -np.inf)
            odds = np.exp(mine - mine.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))
