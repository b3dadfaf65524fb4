"""How subjects are divided for cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Split = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows to fit on, rows to predict."""


def make_folds(
    values: NDArray[np.float64],
    classes: bool,
    groups: NDArray[np.int64] | None,
    folds: int,
    seed: int,
) -> list[Split]:
    """Divide n rows into ``folds`` shuffled parts, each predicted once from the rest.

    ``values`` (n,) are class indices when ``classes`` is true, and the parts then hold each class in proportion;
    ``groups`` (n,) keeps rows of one group in one part.  Fewer parts come back where there are fewer groups, or
    fewer rows of the most frequent class; none where there is nothing to divide.
    """
    count = len(values)
    units = count if groups is None else len(np.unique(groups))
    most = min(folds, units)
    if classes and count:
        most = min(most, int(np.bincount(values.astype(np.int64)).max()))
    if most < 2:
        return []
    if groups is None and not classes:
        order = np.random.default_rng(seed).permutation(count)
        return [_split(np.sort(part), count) for part in np.array_split(order, most)]
    if not classes:
        return _group_folds(np.asarray(groups), most, seed)
    return _stratified(values.astype(np.int64), groups, most, seed)


def make_shared_folds(
    labels: Sequence[NDArray[np.int64]], groups: NDArray[np.int64] | None, folds: int, seed: int
) -> list[Split]:
    """Divide n rows once for several targets, with the classes of all of them in proportion in every part.

    ``labels`` are (n,) class indices of each target, -1 where a row has none; numbers come as bins of their values.
    ``groups`` (n,) keeps rows of one group in one part.  Iterative stratification (Sechidis, Tsoumakas and Vlahavas,
    ECML PKDD 2011): the rarest class is dealt out first, each row, or group, to the part that lacks most of it.  Fewer
    parts come back where there are fewer rows or groups.
    """
    count = len(labels[0]) if labels else 0
    names, unit = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    parts = min(folds, len(names))
    if parts < 2:
        return []
    columns = [
        np.bincount(unit[label == k], minlength=len(names)) for label in labels for k in np.unique(label) if k >= 0
    ]
    held = np.stack([*columns, np.zeros(len(names), dtype=np.int64)], axis=1)  # the last: rows without any label
    size = np.bincount(unit, minlength=len(names))
    wanted = np.tile(held.sum(axis=0) / parts, (parts, 1))
    room = np.full(parts, count / parts)
    full = -(-count // parts)
    part_of = np.full(len(names), -1)
    # Large groups first, else by chance.
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-size[order], kind="stable")]
    while (part_of < 0).any():
        left = held[part_of < 0].sum(axis=0)
        open_columns = np.flatnonzero(left > 0)
        column = int(open_columns[left[open_columns].argmin()]) if len(open_columns) else held.shape[1] - 1
        for index in order:
            if part_of[index] >= 0 or (len(open_columns) and not held[index, column]):
                continue
            fits = (count / parts - room + size[index] <= full) | (room >= room.max())
            # Most wanting of this class; of equals, the one with most room.
            part = int(np.lexsort((-room, -wanted[:, column], ~fits))[0])
            part_of[index] = part
            wanted[part] -= held[index]
            room[part] -= size[index]
    return [_split(np.flatnonzero(part_of[unit] == k), count) for k in range(parts)]


def _split(test: NDArray[np.int64], count: int) -> Split:
    train = np.setdiff1d(np.arange(count), test)
    return train.astype(np.int64), test.astype(np.int64)


def _group_folds(groups: NDArray[np.int64], folds: int, seed: int) -> list[Split]:
    """Groups in random order, the large ones first, each to the part that is smallest so far."""
    names, sizes = np.unique(groups, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    load = np.zeros(folds, dtype=np.int64)
    part_of = np.zeros(len(names), dtype=np.int64)
    for index in order:
        part_of[index] = int(load.argmin())
        load[part_of[index]] += sizes[index]
    part = part_of[np.searchsorted(names, groups)]
    return [_split(np.flatnonzero(part == k), len(groups)) for k in range(folds)]


def _stratified(labels: NDArray[np.int64], groups: NDArray[np.int64] | None, folds: int, seed: int) -> list[Split]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    divider = kind(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = list(divider.split(np.zeros((len(labels), 1)), labels, groups))
    return [(train.astype(np.int64), test.astype(np.int64)) for train, test in parts if len(test) and len(train)]
