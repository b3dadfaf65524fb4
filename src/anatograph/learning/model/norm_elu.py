"""BatchNorm and ELU in one pass, exact to float32, for training on a CPU in the channels-last layout.

torch's BatchNorm sums a channels-last map one number at a time in float32: over 128 patches of Table 1's first layer
the variance is 0.4 % off, by an amount that depends on the number of threads. Here sums run in blocks, which also keeps
each block in the cache between its few passes. Maps in bfloat16 are read and written in it;
all arithmetic is float32, and sums of blocks are float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

BLOCK = 1 << 21
"""Numbers processed at a time: 8 MB of float32, about what two cores' share of the cache holds."""


MANY_ROWS = 1 << 14
"""Voxels from which torch's summation error matters; below, torch is as exact and faster."""


Summed = Callable[[Tensor], None]
"""Sums a tensor over all processes, in place."""


def process_sum(norm: nn.Module) -> Summed | None:
    """How a BatchNorm over several processes sums, or None for one within a single process."""
    found: Summed | None = getattr(norm, "sum_over_processes", None)
    return found


def applies(norm: nn.Module, x: Tensor) -> TypeGuard[nn.BatchNorm3d]:
    """Whether `norm_elu` should replace ``F.elu(norm(x))``: a large map on the CPU, an ordinary BatchNorm3d.

    Hooks on the norm are honoured by leaving it to torch.
    """
    return (
        (type(norm) is nn.BatchNorm3d or (isinstance(norm, nn.BatchNorm3d) and process_sum(norm) is not None))
        and norm.training
        and x.numel() // x.shape[1] >= MANY_ROWS
        and not norm._forward_pre_hooks
        and not norm._forward_hooks
        and norm.track_running_stats
        and norm.affine
        and norm.momentum is not None
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


def norm_elu(x: Tensor, norm: nn.BatchNorm3d) -> Tensor:
    """``F.elu(norm(x))`` in training mode, running statistics updated as BatchNorm3d does. ``x`` (B, C, D, H, W)."""
    rows, channels = _rows(x), x.shape[1]
    summed = process_sum(norm)
    sums = torch.cat([_sums(rows).flatten(), torch.tensor([float(len(rows))], dtype=torch.float64)])
    if summed is not None:
        summed(sums)
    count = float(sums[-1])
    mean, square = (sums[:-1] / count).view(2, channels)
    variance = (square - mean * mean).clamp_(min=0.0)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        rate = float(norm.momentum or 0.0)
        norm.running_mean.lerp_(mean.float(), rate)
        norm.running_var.lerp_((variance * (count / max(count - 1, 1))).float(), rate)
        norm.num_batches_tracked.add_(1)
    inverse = torch.rsqrt(variance + norm.eps)
    out: Tensor = _NormElu.apply(x, norm.weight, norm.bias, mean, inverse, count, summed)  # type: ignore[no-untyped-call]
    return out


def _rows(x: Tensor) -> Tensor:
    """(B, C, D, H, W) channels last as its (B·D·H·W, C) rows, without copying."""
    return x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])


def _fold(rows: int, channels: int) -> int:
    """How many voxels are laid side by side, so that the innermost loop over channels fills a vector register."""
    fold = max(1, 256 // channels)
    return fold if rows % fold == 0 else 1


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """Rows (R, C) in blocks (r, fold·C) that fit the cache."""
    fold = _fold(*rows.shape)
    wide = rows.view(len(rows) // fold, fold * rows.shape[1])
    return torch.split(wide, max(1, BLOCK // wide.shape[1]))


@torch.no_grad()
def _sums(rows: Tensor) -> Tensor:
    """Sum and sum of squares of each column, (2, C) float64."""
    total = torch.zeros(2, rows.shape[1], dtype=torch.float64)
    for part in _blocks(rows):
        block = part.float()
        total[0] += column_sums(block, rows.shape[1])
        total[1] += column_sums(block * block, rows.shape[1])
    return total


def column_sums(block: Tensor, channels: int) -> Tensor:
    """Sums over the voxels of a block (r, fold·C) float32, as float64 (C,)."""
    if block.shape[1] == channels:
        return block.sum(dim=0, dtype=torch.float64)
    return block.sum(dim=0).view(-1, channels).sum(dim=0, dtype=torch.float64)


def _elu_(x: Tensor) -> Tensor:
    """ELU in place, to the precision of bfloat16: exp and a maximum are faster than torch's own."""
    return torch.maximum(x, x.clamp(max=0.0).exp_().sub_(1.0), out=x)


class _NormElu(torch.autograd.Function):
    """Normalisation with given statistics, and ELU; the backward pass differentiates through the statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        inverse: Tensor,
        count: float,
        summed: Summed | None,
    ) -> Tensor:
        out = torch.empty_like(x)
        sources, targets = _blocks(_rows(x)), _blocks(_rows(out))
        fold = sources[0].shape[1] // x.shape[1]
        scale = (weight * inverse).float().repeat(fold)
        shift = (bias - mean * weight * inverse).float().repeat(fold)
        for source, target in zip(sources, targets, strict=True):
            if x.dtype == torch.float32:
                F.elu_(torch.addcmul(shift, source, scale, out=target))
            else:
                block = source.float()
                target.copy_(_elu_(torch.addcmul(shift, block, scale, out=block)))
        ctx.save_for_backward(x, out, weight, mean, inverse)
        ctx.count, ctx.summed = count, summed
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, out, weight, mean, inverse = ctx.saved_tensors
        given = gradients[0].contiguous(memory_format=torch.channels_last_3d)
        inner = torch.empty_like(x)
        channels = x.shape[1]
        total = torch.zeros(2, channels, dtype=torch.float64)
        blocks = list(zip(*(_blocks(_rows(t)) for t in (x, out, given, inner)), strict=True))
        for source, result, gradient, target in blocks:
            # ELU's derivative from its result: 1 above zero, result + 1 below.
            torch.ops.aten.elu_backward.grad_input(gradient, 1.0, 1.0, 1.0, True, result, grad_input=target)
            passed = target.float()
            total[0] += column_sums(passed, channels)
            total[1] += column_sums(passed * source.float(), channels)
        grad_bias = total[0]
        grad_weight = (total[1] - mean * total[0]) * inverse
        # The parameters' gradients are summed over processes later, so each process returns its own part.
        all_bias, all_weight = grad_bias, grad_weight
        if ctx.summed is not None:
            both = torch.stack([grad_bias, grad_weight])
            ctx.summed(both)
            all_bias, all_weight = both
        # BatchNorm's backward pass, collected into gradient·a + x·b + c for each channel.
        a = weight * inverse
        b = -a * inverse * all_weight / ctx.count
        c = -a * all_bias / ctx.count - b * mean
        fold = blocks[0][0].shape[1] // channels
        a, b, c = (t.float().repeat(fold) for t in (a, b, c))
        for source, _, _, target in blocks:
            if x.dtype == torch.float32:
                target.mul_(a).add_(c).addcmul_(source, b)
            else:
                block = target.float()
                target.copy_(torch.addcmul(c, block, a, out=block).addcmul_(source.float(), b))
        return inner, grad_weight.float(), grad_bias.float(), None, None, None, None
