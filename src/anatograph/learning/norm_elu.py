"""BatchNorm and ELU in one pass, exact to float32, for training on a CPU in the channels-last layout.

torch's BatchNorm adds up a channels-last map number by number in float32: over 128 patches of Table 1's first layer
the variance comes out 0.4 % off, and differently for another number of threads. Here sums run in blocks. Working
block by block also keeps each block in the cache between its few passes.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 1 << 20
"""Numbers worked on at a time: 4 MB, about what a core's share of the cache holds."""


MANY_ROWS = 1 << 14
"""Voxels from which torch's way of adding begins to show; below, it is as good and quicker."""


def applies(norm: nn.Module, x: Tensor) -> TypeGuard[nn.BatchNorm3d]:
    """Whether `norm_elu` should stand for ``F.elu(norm(x))``: a large float32 map on the CPU, an ordinary BatchNorm3d.

    Hooks on the norm are honoured by leaving it to torch.
    """
    return (
        type(norm) is nn.BatchNorm3d
        and norm.training
        and x.numel() // x.shape[1] >= MANY_ROWS
        and not norm._forward_pre_hooks
        and not norm._forward_hooks
        and norm.track_running_stats
        and norm.affine
        and norm.momentum is not None
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


def norm_elu(x: Tensor, norm: nn.BatchNorm3d) -> Tensor:
    """``F.elu(norm(x))`` in training mode, running statistics updated as BatchNorm3d does. ``x`` (B, C, D, H, W)."""
    rows = _rows(x)
    mean, square = _moments(rows)
    variance = (square - mean * mean).clamp_(min=0.0)
    count = len(rows)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        rate = float(norm.momentum or 0.0)
        norm.running_mean.lerp_(mean.float(), rate)
        norm.running_var.lerp_((variance * (count / max(count - 1, 1))).float(), rate)
        norm.num_batches_tracked.add_(1)
    inverse = torch.rsqrt(variance + norm.eps)
    out: Tensor = _NormElu.apply(x, norm.weight, norm.bias, mean, inverse)  # type: ignore[no-untyped-call]
    return out


def _rows(x: Tensor) -> Tensor:
    """(B, C, D, H, W) channels last as its (B·D·H·W, C) rows, without copying."""
    return x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows, max(1, BLOCK // rows.shape[1]))


@torch.no_grad()
def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean square of each column, (C,) float64."""
    total = torch.zeros(2, rows.shape[1], dtype=torch.float64)
    for block in _blocks(rows):
        total[0] += _column_sums(block)
        total[1] += _column_sums(block * block)
    return total[0] / len(rows), total[1] / len(rows)


def _column_sums(block: Tensor) -> Tensor:
    """Sums over the rows of (R, C) as float64 (C,); several rows are laid side by side, so that adding is wide."""
    rows, channels = block.shape
    fold = max(1, 256 // channels)
    if rows % fold:
        return block.sum(dim=0, dtype=torch.float64)
    return block.view(rows // fold, fold * channels).sum(dim=0).view(fold, channels).sum(dim=0, dtype=torch.float64)


class _NormElu(torch.autograd.Function):
    """The normalisation with given statistics, and ELU; the way back knows that the statistics came from x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
        out = torch.empty_like(x)
        scale = (weight * inverse).float()
        shift = (bias - mean * weight * inverse).float()
        for source, target in zip(_blocks(_rows(x)), _blocks(_rows(out)), strict=True):
            F.elu_(torch.addcmul(shift, source, scale, out=target))
        ctx.save_for_backward(x, out, weight, mean, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, out, weight, mean, inverse = ctx.saved_tensors
        given = gradients[0].contiguous(memory_format=torch.channels_last_3d)
        inner = torch.empty_like(x)
        rows = len(_rows(x))
        total = torch.zeros(2, x.shape[1], dtype=torch.float64)
        blocks = list(zip(*(_blocks(_rows(t)) for t in (x, out, given, inner)), strict=True))
        for source, result, gradient, target in blocks:
            # Through ELU, told by its result: 1 above zero, result + 1 below.
            torch.ops.aten.elu_backward.grad_input(gradient, 1.0, 1.0, 1.0, True, result, grad_input=target)
            total[0] += _column_sums(target)
            total[1] += _column_sums(target * source)
        grad_bias = total[0]
        grad_weight = (total[1] - mean * total[0]) * inverse
        # BatchNorm's way back, gathered into gradient·a + x·b + c for each channel.
        a = weight * inverse
        b = -a * inverse * grad_weight / rows
        c = -a * grad_bias / rows - b * mean
        a, b, c = a.float(), b.float(), c.float()
        for source, _, _, target in blocks:
            target.mul_(a).add_(c).addcmul_(source, b)
        return inner, grad_weight.float(), grad_bias.float(), None, None
