"""Ridge regression on features in parts: the penalties, and how large each part is against the first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.folds import Split
from anatograph.learning.model.pooling import Parts

RIDGE_STRENGTHS = np.logspace(-5, 5, 41)
"""Penalty per subject on standardised features. The last one leaves little more than the mean of the target."""
INNER_FOLDS = 5
_PLACE_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""How large standardised features that say where may be against those that do not: the larger, the less penalised."""
_LEARNT_SCALES = (0.0, 0.1, 0.3, 1.0)
"""The same for learnt features against densities."""
_MOST_PREFIXES = (1, 2, 3, 5, 8, 16, 32)
"""Numbers of parts that say where, beside all of them, that are tried."""
_TALL = 16


@dataclass(frozen=True)
class Scaling:
    """How features are centred and scaled before they are penalised."""

    parts: Parts
    """Of the features."""
    each: bool
    """Whether every feature gets a variance of 1, or every part, which leaves the proportions within it."""
    scales: tuple[float, ...] = ()
    """Size of each block of `Parts.widths` after that; 0 leaves it out, () is 1 for all."""

    def of(self, features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Features (n, F) to what is subtracted from each (F,) and what each is divided by (F,)."""
        mean = features.mean(axis=0)
        if self.each:
            std = features.std(axis=0)
            # Features are float32: rounding errors of a constant are not variation and must not be scaled up to it.
            std = np.where(std > 1e-6 * np.abs(mean), std, 1.0)
        else:
            of_part = np.sqrt(features.var(axis=0).reshape(self.parts.count, -1).mean(axis=1))
            std = np.repeat(np.where(of_part > 0, of_part, 1.0), features.shape[1] // self.parts.count)
        if self.scales:
            scales = np.repeat(self.scales, self.parts.widths(features.shape[1]))
            std = np.where(scales > 0, std / np.where(scales > 0, scales, 1.0), np.inf)
        return mean, std


def ridge_path(
    features: NDArray[np.float64], values: NDArray[np.float64], strengths: NDArray[np.float64] = RIDGE_STRENGTHS
) -> NDArray[np.float64]:
    """Coefficients (strengths, F) on centred ``features`` and ``values`` for every strength, from one SVD.

    With many more rows than features, as when every region of every subject is one, from the F × F products: the same
    but for rounding far below the weakest penalty, and many times faster.
    """
    if len(features) > _TALL * features.shape[1]:
        squares, vectors = np.linalg.eigh(features.T @ features)
        penalty = strengths[:, None] * len(features)
        inverse = 1.0 / (np.maximum(squares, 0.0) + penalty)
        return np.asarray((inverse * (vectors.T @ (features.T @ values))) @ vectors.T, dtype=np.float64)
    left, singular, right = np.linalg.svd(features, full_matrices=False)
    penalty = strengths[:, None] * len(features)
    shrunk = singular / (singular**2 + penalty) * (left.T @ values)
    return np.asarray(shrunk @ right, dtype=np.float64)


def plans_of(parts: Parts) -> list[tuple[float, ...]]:
    """Scales of the blocks of `Parts.widths` that are tried, the fewest parts first.

    The first part is 1, and the others alike or 0. Where learnt features are apart from densities, each of these
    comes with the learnt ones left out, smaller by `_LEARNT_SCALES`, and as large.
    """
    others = parts.count - 1
    counts = sorted({n for n in _MOST_PREFIXES if n < others} | {others})
    plans = [(1.0, *(0.0,) * others)]
    if others:
        plans += [(1.0, *(scale,) * n, *(0.0,) * (others - n)) for n in counts for scale in _PLACE_SCALES]
    if not parts.learnt:
        return plans
    return [tuple(x * size for x in plan for size in (learnt, 1.0)) for plan in plans for learnt in _LEARNT_SCALES]


def plan_errors(
    features: NDArray[np.float64], values: NDArray[np.float64], classes: int, inner: list[Split], scaling: Scaling
) -> NDArray[np.float64]:
    """(plans, strengths) squared error of ridge regression in the inner folds, of each of `plans_of` the parts.

    ``values`` (n,) are numbers, or indices of ``classes`` whose indicators are predicted. Solved from products of rows
    where there are fewer of them than features, from products of features otherwise: neither is computed again for
    each plan.
    """
    plans = np.array(plans_of(scaling.parts))
    wanted = values[:, None] if not classes else (values[:, None] == np.arange(classes)[None]).astype(np.float64)
    widths = scaling.parts.widths(features.shape[1])
    blocks = [slice(end - width, end) for width, end in zip(widths, np.cumsum(widths), strict=True)]
    errors = np.zeros((len(plans), len(RIDGE_STRENGTHS)))
    for train, test in inner:
        mean, std = scaling.of(features[train])
        rows, others = (features[train] - mean) / std, (features[test] - mean) / std
        middle = wanted[train].mean(axis=0)
        centred, answers = wanted[train] - middle, wanted[test] - middle
        penalty = RIDGE_STRENGTHS[:, None] * len(rows)
        by_rows = len(rows) <= features.shape[1]
        if by_rows:
            among = np.stack([rows[:, block] @ rows[:, block].T for block in blocks])
            across = np.stack([others[:, block] @ rows[:, block].T for block in blocks])
        else:
            products, toward = rows.T @ rows, rows.T @ centred
        for number, plan in enumerate(plans):
            if by_rows:
                squares, vectors = np.linalg.eigh(np.tensordot(plan**2, among, 1))
                left, right = np.tensordot(plan**2, across, 1) @ vectors, vectors.T @ centred
            else:
                size = np.repeat(plan, widths)
                used = size > 0
                size = size[used]
                squares, vectors = np.linalg.eigh(products[np.ix_(used, used)] * np.outer(size, size))
                left, right = (others[:, used] * size) @ vectors, vectors.T @ (toward[used] * size[:, None])
            shrunk = 1.0 / (np.maximum(squares, 0.0) + penalty)
            for column in range(wanted.shape[1]):
                predicted = left @ (shrunk * right[:, column]).T
                errors[number] += ((predicted - answers[:, column, None]) ** 2).sum(axis=0)
    return errors


def choose_scales(
    features: NDArray[np.float64], values: NDArray[np.float64], classes: int, inner: list[Split], scaling: Scaling
) -> tuple[float, ...]:
    """The scales of `plans_of` whose ridge regression has the least error in the inner folds, the first of equals."""
    plans = plans_of(scaling.parts)
    if not inner:
        return (1.0,) * len(plans[0])
    return plans[int(plan_errors(features, values, classes, inner, scaling).min(axis=1).argmin())]
