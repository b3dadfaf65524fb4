"""One process or many: what each holds of a batch, and how they agree."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from anatograph.errors import UserError
from anatograph.learning.training.settings import PretrainSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@contextmanager
def together(settings: PretrainSettings) -> Iterator[Fabric]:
    """Lightning Fabric for this process, alone or with those that ``torchrun`` started, which then part in order.

    A process that ends with its group still standing may abort: gloo's threads are then torn down under it.
    """
    known = dist.is_available() and dist.is_initialized()
    fabric = _start(settings)
    try:
        yield fabric
        barrier()  # nobody takes the connection down while another still speaks
    finally:
        if not known and dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def _start(settings: PretrainSettings) -> Fabric:
    """Fabric on the asked device and precision; with several processes it connects them."""
    from lightning_fabric import Fabric

    accelerator = settings.device
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch finds no GPU here; take device=cpu or auto.")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    options: dict[str, Any] = {"accelerator": accelerator, "precision": autocast_precision(settings, accelerator)}
    if world > 1:
        if accelerator == "cpu":
            _take_own_cores(int(os.environ.get("LOCAL_RANK", "0")), local)
        fabric = Fabric(devices=local, num_nodes=max(1, world // local), strategy="ddp", **options)
    else:
        fabric = Fabric(devices=1, **options)
    fabric.launch()
    return fabric


def _take_own_cores(rank: int, processes: int) -> None:
    """Keep this process on its share of the cores: those that wander wait for each other at every exchange."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= processes:
        part = len(cores) // processes
        os.sched_setaffinity(0, cores[rank * part : (rank + 1) * part])


def autocast_precision(settings: PretrainSettings, accelerator: str) -> Any:
    """Fabric's name of the precision: bf16 by itself only on hardware that computes in it."""
    if settings.precision == "bf16":
        return "bf16-mixed"
    if settings.precision == "auto":
        cuda = accelerator == "cuda"
        if torch.cuda.is_bf16_supported(including_emulation=False) if cuda else bf16_on_processor():
            return "bf16-mixed"
    return "32-true"


def bf16_on_processor() -> bool:
    """Whether this processor multiplies in bfloat16 (AVX-512 BF16 or AMX), rather than imitating it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def world_size() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is."""
    return dist.get_rank() if world_size() > 1 else 0


def gathered(rows: Tensor) -> Tensor:
    """Everybody's rows (B, ...) in the order of the whole batch, without gradient; all hold equally many."""
    if world_size() == 1:
        return rows.detach()
    rows = rows.detach().contiguous()
    out = rows.new_empty((world_size() * rows.shape[0], *rows.shape[1:]))
    dist.all_gather(list(out.chunk(world_size())), rows)
    return out


@torch.no_grad()
def sum_gradients(parameters: Sequence[Tensor], figures: Tensor) -> Tensor:
    """Replace each gradient by the sum of everybody's, and return the sum of ``figures`` (n,), in one exchange."""
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


def spread(items: int) -> range:
    """Which of ``items`` (cut into equal runs, the last ones shorter) this process works on."""
    part = math.ceil(items / world_size())
    return range(min(items, rank() * part), min(items, (rank() + 1) * part))


def gather_spread(own: Tensor, items: int) -> Tensor:
    """Everybody's results (len(spread(items)), ...) together as (items, ...)."""
    if world_size() == 1:
        return own
    part = math.ceil(items / world_size())
    padded = own.new_zeros((part, *own.shape[1:]))
    padded[: own.shape[0]] = own
    return gathered(padded)[:items]


def barrier() -> None:
    """Wait for everybody."""
    if world_size() > 1:
        dist.barrier()
