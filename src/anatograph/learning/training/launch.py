"""Where a run computes: device, precision, and the processes that ``torchrun`` started."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from anatograph.errors import UserError
from anatograph.learning.collectives import barrier
from anatograph.learning.training.settings import PretrainSettings


@dataclass(frozen=True)
class Compute:
    """The device of this process and the precision of its convolutions."""

    device: torch.device
    bf16: bool
    """Whether networks run under bfloat16 autocast."""

    def autocast(self) -> torch.autocast | None:
        """The context for forward passes; None for float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else None


@contextmanager
def launched(settings: PretrainSettings) -> Iterator[Compute]:
    """Join the processes that ``torchrun`` started, if any, and leave them in order.

    A process that exits while its group still exists may abort: gloo's threads then outlive the interpreter. The group
    exists as long as anything refers to it, see `_join`.
    """
    kind = device_type(settings)
    joined = not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1
    device = _join(kind) if joined else torch.device(kind)
    try:
        yield Compute(device, uses_bf16(settings, kind))
        barrier()  # no process closes the connection while another still uses it
    finally:
        if joined:
            dist.destroy_process_group()


def device_type(settings: PretrainSettings) -> str:
    """``cpu`` or ``cuda``; raises ``UserError`` where cuda is requested and torch finds no GPU."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch finds no GPU here; set device=cpu or device=auto.")
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return settings.device


def uses_bf16(settings: PretrainSettings, kind: str) -> bool:
    """Whether to compute in bfloat16: ``auto`` only on hardware that multiplies in it."""
    if settings.precision != "auto":
        return settings.precision == "bf16"
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bf16_on_processor()


def bf16_on_processor() -> bool:
    """Whether this processor multiplies in bfloat16 (AVX-512 BF16 or AMX) instead of emulating it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _join(kind: str) -> torch.device:
    """Connect to the other processes by the environment that ``torchrun`` sets; returns this process's device."""
    # This module's functions have the default group as the default value of an argument. The first optimiser imports
    # it, and imported while there is a group, it would keep that group and its threads until the process has ended.
    importlib.import_module("torch.distributed.nn.functional")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if kind == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
        return device
    _pin_to_own_cores(local, int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])))
    dist.init_process_group("gloo")
    return torch.device("cpu")


def _pin_to_own_cores(rank: int, processes: int) -> None:
    """Keep this process on its share of the cores: processes that migrate delay each other at every exchange."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= processes:
        part = len(cores) // processes
        os.sched_setaffinity(0, cores[rank * part : (rank + 1) * part])
