"""The key encoder: a slow copy of the query encoder (momentum 0.999 in the paper)."""

from __future__ import annotations

import copy
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

Statistics = Literal["average", "copy", "own"]

M = TypeVar("M", bound=nn.Module)


def key_copy(query: M) -> M:
    """A copy of ``query`` that takes no gradient, to be moved by `momentum_update`."""
    key = copy.deepcopy(query)
    return key.requires_grad_(False)


@torch.no_grad()
def momentum_update(
    key: nn.Module, query: nn.Module, momentum: float, statistics: Statistics = "average", move: Tensor | None = None
) -> None:
    """Move every weight of ``key`` to momentum · key + (1 - momentum) · query, in a few fused calls.

    ``statistics`` decides about BatchNorm's running mean and variance:

    * ``average``: they move like the weights. With the key encoder in evaluation mode a key then does not depend
      on the batch it was computed in (the leak that MoCo shuffles against).
    * ``copy``: copied from the query encoder.
    * ``own``: unchanged; for a key encoder in training mode, which keeps its own.

    Where ``move``, a bool on the modules' device, is False nothing moves.
    """
    mine, theirs = _parameters(key), _parameters(query)
    if len(mine) != len(theirs):
        raise ValueError("the key and the query encoder do not have the same parameters")
    if mine:
        _lerp(mine, theirs, 1.0 - momentum, move)
    if statistics == "own":
        return
    moving: tuple[list[Tensor], list[Tensor]] = ([], [])
    for own, new in zip(key.buffers(), query.buffers(), strict=True):
        if statistics == "average" and own.is_floating_point():
            moving[0].append(own)
            moving[1].append(new)
        else:
            own.copy_(new if move is None else torch.where(move, new, own))
    if moving[0]:
        _lerp(*moving, 1.0 - momentum, move)


def _lerp(mine: list[Tensor], theirs: list[Tensor], weight: float, move: Tensor | None) -> None:
    if move is None:
        torch._foreach_lerp_(mine, theirs, weight)
        return
    for own, new in zip(mine, torch._foreach_lerp(mine, theirs, weight), strict=True):
        own.copy_(torch.where(move, new, own))


def _parameters(module: nn.Module) -> list[Tensor]:
    return [p.data for p in module.parameters()]
