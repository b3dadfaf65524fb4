"""Many subjects through the model, in batches of patches that may cross from one subject to the next."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from anatograph.learning.model.embedding import Embedding

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

Key = TypeVar("Key", bound=Hashable)


class Item(NamedTuple, Generic[Key]):
    """A subject to embed."""

    key: Key
    """Its identifier."""
    patches: ArrayLike
    """(N, P, P, P) int16 HU, or floats that are already windowed, in the atlas's order."""
    edges: ArrayLike
    """(E, 2)."""
    present: ArrayLike | None = None
    """(N,) bool; all if None."""
    inside: NDArray[np.bool_] | None = None
    """(N, P, P, P) which voxels are lung, for a model that is shown nothing else."""
    parenchyma_hu: ArrayLike | None = None
    """(N,) the most frequent density of the lung each landmark is in, for a model that is shown a common inflation."""


@dataclass(eq=False)
class _Pending(Generic[Key]):
    """A subject some of whose patches have not been through E yet."""

    item: Item[Key]
    present: NDArray[np.bool_]
    h: Tensor
    left: int


@dataclass(eq=False)
class _Batch(Generic[Key]):
    """Patches of one or several subjects that go through E together."""

    block: Tensor
    parts: list[tuple[_Pending[Key], NDArray[np.intp]]] = field(default_factory=list)
    filled: int = 0


def embed_stream(model: Model, items: Iterable[Item[Key]], batch_size: int = 64) -> Iterator[tuple[Key, Embedding]]:
    """Yield each subject's key and features, in the order given, in evaluation mode whatever mode the model is in.

    Every batch has ``batch_size`` patches: where a subject ends the next one begins, and the last batch is filled up
    with air.  All batches therefore have one shape, and a patch's features do not depend on its neighbours in the
    batch, bit for bit.  Two subjects at a time are in memory.  Another ``batch_size`` gives the same numbers to float32
    rounding.

    Raises:
        ValueError: where shapes do not fit the atlas or a subject has no landmark.
    """
    waiting: list[_Pending[Key]] = []
    batch: _Batch[Key] | None = None
    for item in items:
        pending, patches = _start(model, item)
        waiting.append(pending)
        rows = np.flatnonzero(pending.present)
        while len(rows):
            if batch is not None and batch.block.dtype != _dtype(patches):
                _encode(model, batch)
                batch = None
            if batch is None:
                batch = _Batch(torch.empty((batch_size, *patches.shape[1:]), dtype=_dtype(patches)))
            some, rows = np.split(rows, [batch_size - batch.filled])
            batch.block[batch.filled : batch.filled + len(some)] = torch.from_numpy(patches[some])
            batch.parts.append((pending, some))
            batch.filled += len(some)
            if batch.filled == batch_size:
                _encode(model, batch)
                batch = _Batch(batch.block)
        while waiting and not waiting[0].left:
            yield _finish(model, waiting.pop(0))
    if batch is not None and batch.filled:
        _encode(model, batch)
    for pending in waiting:
        yield _finish(model, pending)


def check_item(model: Model, item: Item[Key]) -> None:
    """Raise ValueError where a subject does not fit the model's atlas or has no landmark."""
    model.check_subject(np.shape(item.patches), item.edges, item.present)


def _start(model: Model, item: Item[Key]) -> tuple[_Pending[Key], NDArray[np.generic]]:
    check_item(model, item)
    patches = model.shown(np.asarray(item.patches), item.inside, item.parenchyma_hu)
    present = np.ones(len(patches), dtype=bool) if item.present is None else np.asarray(item.present, dtype=bool)
    h = torch.zeros(len(patches), model.config.feature_size, device=model.location_codes.device)
    return _Pending(item, present, h, int(present.sum())), patches


def _dtype(patches: NDArray[np.generic]) -> torch.dtype:
    return torch.float32 if patches.dtype.kind == "f" else torch.int16


def _encode(model: Model, batch: _Batch[Key]) -> None:
    """Run E on a batch and hand its features to the subjects they belong to."""
    rows = np.concatenate([rows for _, rows in batch.parts])
    features = model.features_of_block(batch.block, rows)
    start = 0
    for pending, part in batch.parts:
        pending.h[part] = features[start : start + len(part)]
        pending.left -= len(part)
        start += len(part)


def _finish(model: Model, pending: _Pending[Key]) -> tuple[Key, Embedding]:
    """G and pooling for a subject all of whose patches have been through E."""
    return pending.item.key, model.embedding_of(pending.h, pending.item.edges, pending.present)
