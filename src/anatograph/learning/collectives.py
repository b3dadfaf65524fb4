"""Exchanges between the processes of a run; in a single process each of them returns what it was given."""

from __future__ import annotations

import os
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


def local_world_size() -> int:
    """Number of the run's processes on this machine."""
    world = world_size()
    return min(world, int(os.environ.get("LOCAL_WORLD_SIZE", str(world))))


def local_rank() -> int:
    """Index of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", str(rank()))) if world_size() > 1 else 0


def share_of(total: int, rank: int, world: int) -> slice:
    """Rows of a batch of ``total`` (a multiple of ``world``) that process ``rank`` holds."""
    part = total // world
    return slice(rank * part, (rank + 1) * part)


def own_share(total: int) -> slice:
    """Rows of a batch of ``total`` (a multiple of the number of processes) that this process holds."""
    return share_of(total, rank(), world_size())


def gathered(rows: Tensor) -> Tensor:
    """The rows (B, ...) of all processes in the order of the whole batch, without gradient; B is the same in each.

    The result is on the device of ``rows``, whatever devices the processes can exchange.
    """
    if world_size() == 1:
        return rows.detach()
    sent = rows.detach().to(_exchange_device(rows.device)).contiguous()
    out = sent.new_empty((world_size() * rows.shape[0], *rows.shape[1:]))
    dist.all_gather(list(out.chunk(world_size())), sent)
    return out.to(rows.device)


def _exchange_device(device: torch.device) -> torch.device:
    """``device`` where the process group exchanges its tensors, else one that it does exchange.

    A group over NCCL knows CUDA tensors only.
    """
    known = _exchanged_types()
    if device.type in known:
        return device
    kind = known[0]
    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)


def _exchanged_types() -> list[str]:
    """Device types that the process group has a backend for."""
    return [device.type for device in dist.distributed_c10d._get_default_group()._device_types]


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


def barrier() -> None:
    """Wait until every process has come here."""
    if world_size() > 1:
        dist.barrier()
