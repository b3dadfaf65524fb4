"""BatchNorm's running statistics, re-estimated over a random sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

B = TypeVar("B")


@torch.no_grad()
def recalibrate_batchnorm(module: nn.Module, batches: Iterable[B], forward: Callable[[B], Any] | None = None) -> int:
    """Replace the running mean and variance of every BatchNorm in ``module`` by those over all of ``batches``.

    Running averages follow the last batches seen. Where a batch holds one landmark, as published, they describe the
    last few landmarks visited, and features in evaluation mode are unusable. Give batches that mix landmarks and
    subjects at random. ``forward`` is called with each batch (default: the module itself), every module keeping the
    mode it had afterwards. Mean and variance are pooled exactly, spread between batches included, in float64.

    Returns how many batches were used; raises ValueError if there were none.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return 0
    sums: dict[nn.Module, list[Any]] = {norm: [0.0, 0.0, 0] for norm in norms}

    def record(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        variance, mean = torch.var_mean(x.detach().double(), dim=[d for d in range(x.ndim) if d != 1], correction=0)
        count = x.numel() // x.shape[1]
        total = sums[norm]
        total[0] = total[0] + mean * count
        total[1] = total[1] + (variance + mean * mean) * count
        total[2] += count

    modes = {m: m.training for m in module.modules()}
    before = [norm.momentum for norm in norms]
    hooks = [norm.register_forward_pre_hook(record) for norm in norms]
    used = 0
    try:
        module.train()
        for norm in norms:
            norm.momentum = 0.0
        for batch in batches:
            (forward or module)(batch)
            used += 1
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
        for m, mode in modes.items():
            m.training = mode
    if not used:
        raise ValueError("no batch was given to estimate BatchNorm's statistics from")
    for norm in norms:
        mean_sum, square_sum, count = sums[norm]
        if not count or norm.running_mean is None or norm.running_var is None:
            continue
        mean = mean_sum / count
        variance = (square_sum / count - mean * mean).clamp_(min=0.0) * (count / max(count - 1, 1))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    return used
