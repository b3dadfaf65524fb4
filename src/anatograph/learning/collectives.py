"""Exchanges between the processes of a run; in a single process each of them returns what it was given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes in the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process."""
    return dist.get_rank() if world_size() > 1 else 0


def share_of(total: int, rank: int, world: int) -> slice:
    """Rows of a batch of ``total`` (a multiple of ``world``) that process ``rank`` holds."""
    part = total // world
    return slice(rank * part, (rank + 1) * part)


def own_share(total: int) -> slice:
    """Rows of a batch of ``total`` (a multiple of the number of processes) that this process holds."""
    return share_of(total, rank(), world_size())


def gathered(rows: Tensor) -> Tensor:
    """The rows (B, ...) of all processes in the order of the whole batch, without gradient; B is the same in each."""
    if world_size() == 1:
        return rows.detach()
    rows = rows.detach().contiguous()
    out = rows.new_empty((world_size() * rows.shape[0], *rows.shape[1:]))
    dist.all_gather(list(out.chunk(world_size())), rows)
    return out


@torch.no_grad()
def sum_gradients(parameters: Sequence[Tensor], figures: Tensor) -> Tensor:
    """Replace each gradient by its sum over all processes; return the sum of ``figures`` (n,). One exchange."""
    if world_size() == 1:
        return figures
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([*(g.reshape(-1) for g in gradients), figures.to(gradients[0].dtype)])
    dist.all_reduce(flat)
    at = 0
    for gradient in gradients:
        part = flat[at : at + gradient.numel()]
        gradient.copy_(part.view(gradient.shape))
        at += gradient.numel()
    return flat[at:]


def own_items(items: int) -> range:
    """Which of ``items`` (cut into runs of equal length, the last ones shorter) this process works on."""
    part = math.ceil(items / world_size())
    return range(min(items, rank() * part), min(items, (rank() + 1) * part))


def gather_items(own: Tensor, items: int) -> Tensor:
    """The results (len(own_items(items)), ...) of all processes as (items, ...)."""
    if world_size() == 1:
        return own
    part = math.ceil(items / world_size())
    padded = own.new_zeros((part, *own.shape[1:]))
    padded[: own.shape[0]] = own
    return gathered(padded)[:items]


def barrier() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        dist.barrier()
