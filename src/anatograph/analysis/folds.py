"""How people are divided for cross-validation."""

from __future__ import annotations

import warnings

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
