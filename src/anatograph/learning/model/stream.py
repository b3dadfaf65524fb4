"""Many subjects through the model: batches of patches that do not end where a subject ends."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from anatograph.learning.model.graphs import make_graphs
from anatograph.learning.model.networks import pool_nodes

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

Key = TypeVar("Key", bound=Hashable)
_AIR = -1024


class Embedding(NamedTuple):
    """What a model says of one subject."""

    subject: NDArray[np.float32]
    """(F,) the subject's feature: the mean over the nodes that are present (eq. 7 without f_g)."""
    nodes: NDArray[np.float32]
    """(N, F) each landmark's feature after G (h'_j of eq. 10); rows of absent landmarks are NaN."""
    patch_features: NDArray[np.float32]
    """(N, F) each landmark's feature before G (h_j of eq. 4, or C's); rows of absent landmarks are NaN."""


class Item(NamedTuple, Generic[Key]):
    """A subject to be embedded."""

    key: Key
    """Who."""
    patches: ArrayLike
    """(N, P, P, P) int16 HU, or floats that are windowed already, in the atlas's order."""
    edges: ArrayLike
    """(E, 2)."""
    present: ArrayLike | None = None
    """(N,) bool; all if None."""


@dataclass(eq=False)
class _Open(Generic[Key]):
    """A subject whose patches are on their way through E."""

    item: Item[Key]
    there: NDArray[np.bool_]
    h: Tensor
    left: int


@dataclass(eq=False)
class _Batch(Generic[Key]):
    """Patches of one or several subjects that go through E together."""

    block: Tensor
    parts: list[tuple[_Open[Key], NDArray[np.intp]]] = field(default_factory=list)
    filled: int = 0


def embed_stream(model: Model, items: Iterable[Item[Key]], batch_size: int = 64) -> Iterator[tuple[Key, Embedding]]:
    """Yield each subject's key and features, in the order given, in evaluation mode whatever mode the model is in.

    Every batch has ``batch_size`` patches, of the next subject where one ends, air at the very end: so all batches are
    of one shape, and what a patch's features are does not depend on its neighbours in the batch, bit for bit.  Two
    subjects at a time are in memory.  Another ``batch_size`` gives the same numbers to float32 rounding.

    Raises:
        ValueError: where shapes do not fit the atlas or a subject has no landmark.
    """
    waiting: list[_Open[Key]] = []
    batch: _Batch[Key] | None = None
    for item in items:
        opened, patches = _open(model, item)
        waiting.append(opened)
        rows = np.flatnonzero(opened.there)
        while len(rows):
            if batch is not None and batch.block.dtype != _dtype(patches):
                _run(model, batch)
                batch = None
            if batch is None:
                batch = _Batch(torch.empty((batch_size, *patches.shape[1:]), dtype=_dtype(patches)))
            some, rows = np.split(rows, [batch_size - batch.filled])
            batch.block[batch.filled : batch.filled + len(some)] = torch.from_numpy(patches[some])
            batch.parts.append((opened, some))
            batch.filled += len(some)
            if batch.filled == batch_size:
                _run(model, batch)
                batch = _Batch(batch.block)
        while waiting and not waiting[0].left:
            yield _closed(model, waiting.pop(0))
    if batch is not None and batch.filled:
        _run(model, batch)
    for opened in waiting:
        yield _closed(model, opened)


def check_item(model: Model, item: Item[Key]) -> None:
    """Raise ValueError where a subject does not fit the model's atlas or has no landmark."""
    shape, count, size = np.shape(item.patches), model.landmarks, model.config.patch_size
    if shape[:1] != (count,):
        raise ValueError(f"{shape[0] if shape else 0} patches for a model whose atlas has {count} landmarks")
    if shape[1:] != (size, size, size):
        raise ValueError(f"patches have shape {shape}, not (B, {size}, {size}, {size})")
    there = np.ones(count, dtype=bool) if item.present is None else np.asarray(item.present, dtype=bool)
    if there.shape != (count,) or not there.any():
        raise ValueError("none of the subject's landmarks is present")
    edges = np.asarray(item.edges)
    if edges.size and not 0 <= edges.min() <= edges.max() < count:
        raise ValueError(f"an edge names landmark {edges.max()} or {edges.min()}, but there are {count} landmarks")


def _open(model: Model, item: Item[Key]) -> tuple[_Open[Key], NDArray[np.generic]]:
    check_item(model, item)
    patches = item.patches if isinstance(item.patches, np.ndarray) else np.asarray(item.patches)
    there = np.ones(len(patches), dtype=bool) if item.present is None else np.asarray(item.present, dtype=bool)
    h = torch.zeros(len(patches), model.config.feature_size, device=model.location_codes.device)
    return _Open(item, there, h, int(there.sum())), patches


def _dtype(patches: NDArray[np.generic]) -> torch.dtype:
    return torch.float32 if patches.dtype.kind == "f" else torch.int16


@torch.inference_mode()
def _run(model: Model, batch: _Batch[Key]) -> None:
    """E on a batch; its features go to the subjects they belong to."""
    batch.block[batch.filled :] = _AIR
    device = model.location_codes.device
    rows = np.concatenate([rows for _, rows in batch.parts])
    rows = np.concatenate([rows, np.zeros(len(batch.block) - len(rows), dtype=np.intp)])
    was_training = model.training
    model.eval()
    try:
        features = model.patch_features(batch.block.to(device), model.location_codes[rows]).float()
    finally:
        model.train(was_training)
    start = 0
    for opened, part in batch.parts:
        opened.h[part] = features[start : start + len(part)]
        opened.left -= len(part)
        start += len(part)


@torch.inference_mode()
def _closed(model: Model, opened: _Open[Key]) -> tuple[Key, Embedding]:
    """G and pooling on a subject all of whose patches have been through E."""
    item, h, device = opened.item, opened.h, model.location_codes.device
    graphs = make_graphs([item.edges], model.landmarks, opened.there[None], device)
    was_training = model.training
    model.eval()
    try:
        nodes = model.node_features(h[None], graphs)
        subject = pool_nodes(nodes, graphs.present)[0]
    finally:
        model.train(was_training)
    absent = torch.from_numpy(~opened.there).to(device)[:, None]
    return item.key, Embedding(
        subject.cpu().numpy(),
        nodes[0].masked_fill(absent, float("nan")).cpu().numpy(),
        h.masked_fill(absent, float("nan")).cpu().numpy(),
    )
