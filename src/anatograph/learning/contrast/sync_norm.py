"""BatchNorm over the whole batch where each of several processes has a part of it, on GPUs and CPUs.

(torch's own SyncBatchNorm works on GPUs only.) With the statistics of the whole batch the numbers equal those of a
single process, and no part of a batch can be recognised by its statistics.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from anatograph.learning import collectives

FEW = 8
"""Number of processes up to which each may send its part to all others."""


class _SyncNorm(torch.autograd.Function):
    """Normalise (B, C, ...) by mean and variance over the rows of all processes; gradients flow through both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        mean, square = moments(x)
        count = x.numel() / channels
        sums = torch.cat([mean * count, square * count, mean.new_tensor([count])])
        sum_over_processes(sums)
        total = sums[-1]
        mean = sums[:channels] / total
        variance = (sums[channels:-1] / total - mean * mean).clamp_(min=0.0)
        inverse = torch.rsqrt(variance + eps)
        out = F.batch_norm(x, mean.float(), variance.float(), weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, inverse, total)
        mean, variance = mean.float(), variance.float()
        ctx.mark_non_differentiable(mean, variance, total)
        return out, mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inverse, total = ctx.saved_tensors
        sums = torch.stack(products(grad, x))
        # The parameters' gradients are summed over processes later, so each process returns its own part.
        bias_gradient = sums[0]
        weight_gradient = (sums[1] - mean * sums[0]) * inverse
        all_sums = torch.stack([bias_gradient, weight_gradient])
        sum_over_processes(all_sums)
        mean_grad, mean_product = all_sums / total
        # dx = w/σ (g - mean g - x̂ mean(g x̂)), gathered as a·g + b·x + c
        a = weight * inverse
        b = -a * inverse * mean_product
        c = -a * mean_grad - b * mean
        shape = [1, -1] + [1] * (x.ndim - 2)
        a, b, c = (t.to(x.dtype).view(shape) for t in (a, b, c))
        return torch.addcmul(c, x, b).addcmul_(grad, a), weight_gradient.float(), bias_gradient.float(), None


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of each channel of x (B, C, ...), (C,) float64."""
    over = [d for d in range(x.ndim) if d != 1]
    variance, mean = torch.var_mean(x.double(), dim=over, correction=0)
    return mean, variance + mean * mean


def products(grad: Tensor, x: Tensor) -> list[Tensor]:
    """Sums over all but the channels of ``grad`` and of ``grad * x``, (C,) float64 each."""
    over = [d for d in range(x.ndim) if d != 1]
    return [grad.double().sum(over), (grad.double() * x.double()).sum(over)]


def sum_over_processes(values: Tensor) -> None:
    """Sum ``values`` over all processes, in place; every process gets the same bits."""
    world = collectives.world_size()
    if world == 1:
        return
    if dist.get_backend() == "gloo" and world <= FEW:
        # Each process gets all parts and adds them itself: one message each way, where gloo's own sum takes two rounds.
        # Measured between two processes: half the latency, and an update has 26 of these.
        parts = values.new_empty((world, *values.shape))
        dist.all_gather(list(parts), values)
        torch.sum(parts, dim=0, out=values)
    else:
        dist.all_reduce(values)


class _Synchronised(_BatchNorm):
    """The common part of the two classes below. Large maps on a CPU take another path:

    `anatograph.learning.model.norm_elu`.
    """

    sum_over_processes = staticmethod(sum_over_processes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) normalised: over all processes in training mode, by the running statistics otherwise."""
        if not self.training or collectives.world_size() == 1 or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        out, mean, variance, total = _SyncNorm.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (total / (total - 1).clamp(min=1)).float(), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return torch.as_tensor(out)


class SyncBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` over all processes."""


class SyncBatchNorm3d(_Synchronised, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` over all processes."""


def synchronise(module: nn.Module) -> None:
    """Make every BatchNorm of ``module`` normalise over all processes; parameters and names stay as they are."""
    for norm in module.modules():
        # Only the forward method changes: references to the module and isinstance checks stay valid.
        if type(norm) is nn.BatchNorm1d:
            norm.__class__ = SyncBatchNorm1d
        elif type(norm) is nn.BatchNorm3d:
            norm.__class__ = SyncBatchNorm3d


def desynchronise(module: nn.Module) -> None:
    """Undo `synchronise`: every BatchNorm of ``module`` normalises within its own process again."""
    for norm in module.modules():
        if type(norm) is SyncBatchNorm1d:
            norm.__class__ = nn.BatchNorm1d  # type: ignore[assignment]
        elif type(norm) is SyncBatchNorm3d:
            norm.__class__ = nn.BatchNorm3d  # type: ignore[assignment]
