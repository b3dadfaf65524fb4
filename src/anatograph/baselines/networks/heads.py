"""The last layer of supervised networks: one or several targets, their losses, and predictions on their own scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from anatograph.evaluation.targets import Target


class Heads:
    """Which of a network's outputs belong to which target, and the scale of each target in the training set.

    A regression has one output, on values standardised on the training subjects; a class target has one logit per
    class. Values of subjects outside ``train`` are never read.
    """

    def __init__(self, targets: Sequence[Target], train: NDArray[np.int64], subjects: int) -> None:
        """``train`` are rows of the table; ``subjects`` is its number of rows."""
        self.targets = list(targets)
        self.slices: list[slice] = []
        start = 0
        for target in self.targets:
            width = len(target.classes) or 1
            self.slices.append(slice(start, start + width))
            start += width
        self.outputs = start
        self.values = np.zeros((subjects, len(self.targets)))
        self.known = np.zeros((subjects, len(self.targets)), dtype=bool)
        self.scales: list[tuple[float, float]] = []
        self.seen: list[NDArray[np.bool_]] = []
        """Per class, whether any training subject has it; empty for a regression."""
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

    def loss(self, outputs: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """Sum over targets of the mean over subjects with a value: squared error, or cross entropy.

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
        mine = np.where(self.seen[k], mine, -np.inf) if self.seen[k].any() else mine
        odds = np.exp(mine - mine.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))
