"""Queries and keys through networks with BatchNorm, so that a batch's statistics do not give its keys away.

A query and its own key come from the same batch, the negatives from earlier ones. Where both pass through BatchNorm
together, the batch's statistics leak which pair is the positive one, and the contrast is solved without looking at the
patch. There are two remedies:

* ``teacher``: the key network works in evaluation mode, with running statistics that follow the query network's
  slowly; queries are normalised over the whole batch of all processes. Keys then carry no trace of their batch.
* ``shuffle``: as published. Parts of the batch are normalised separately, and keys are assigned to parts at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from anatograph.learning import collectives
from anatograph.learning.contrast.momentum import momentum_update
from anatograph.learning.seeding import generator

KeyNorm = Literal["teacher", "shuffle"]

PARTS = 2
"""Parts of a batch in a single process: the published training ran on two GPUs."""


def query_forward(forward: Callable[..., Tensor], inputs: Sequence[Tensor], norm: KeyNorm) -> Tensor:
    """``forward(*inputs)`` of rows (B, ...), in parts where BatchNorm normalises parts."""
    rows = inputs[0].shape[0]
    if norm == "teacher" or collectives.world_size() > 1 or rows < 2 * PARTS:
        return forward(*inputs)
    chunks = torch.arange(rows, device=inputs[0].device).chunk(PARTS)
    return torch.cat([forward(*(x[chunk] for x in inputs)) for chunk in chunks])


@torch.no_grad()
def key_forward(
    forward: Callable[..., Tensor], inputs: Sequence[Tensor], norm: KeyNorm, seeds: tuple[int, ...]
) -> Tensor:
    """``forward(*inputs)`` of rows (B, ...) without gradient, in shuffled parts where BatchNorm normalises parts.

    ``seeds`` name the draw of the order, which is the same in all processes.
    """
    rows, world = inputs[0].shape[0], collectives.world_size()
    if norm == "teacher" or rows * world < 2 * PARTS:
        return forward(*inputs)
    order = torch.randperm(rows * world, generator=generator(*seeds)).to(inputs[0].device)
    if world == 1:
        mixed = torch.cat([forward(*(x[chunk] for x in inputs)) for chunk in order.chunk(PARTS)])
    else:
        mine = order[collectives.rank() * rows : (collectives.rank() + 1) * rows]
        mixed = collectives.gathered(forward(*(collectives.gathered(x)[mine] for x in inputs)))
    ordered = torch.empty_like(mixed).index_copy_(0, order, mixed)
    return ordered[collectives.rank() * rows : (collectives.rank() + 1) * rows]


def follow(key: nn.Module, query: nn.Module, momentum: float, norm: KeyNorm, move: Tensor | None = None) -> None:
    """The momentum step, unless ``move`` is False; a teacher's running statistics follow like its weights."""
    momentum_update(key, query, momentum, "average" if norm == "teacher" else "own", move)
