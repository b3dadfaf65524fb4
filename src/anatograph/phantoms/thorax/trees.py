"""Branching trees that fill a region: bronchi, arteries and veins of the lung.

A set of supply points is split in two across its longest direction, each half gets a branch that goes part of the way
towards its middle, and so on until every point has its twig (after Tawhai et al., J. Appl. Physiol. 97, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    """Straight segments of a tree, parents before children."""

    start: Array
    """(S, 3) mm."""
    end: Array
    """(S, 3) mm."""
    supplied: NDArray[np.int64]
    """(S,) how many supply points hang on the segment: its radius follows from it."""
    generation: NDArray[np.int64]
    """(S,) 0 at the root."""
    heading: Array
    """(S, 3) mm: where the parent was heading, so that a branch leaves it in a curve; zero at the root."""

    def radius(self, twig_mm: float, exponent: float) -> Array:
        """(S,) radii in mm by Murray's law with ``exponent`` (3 in theory); a twig has ``twig_mm``."""
        return np.asarray(twig_mm * self.supplied ** (1.0 / exponent))


def grow(
    root: Array, points: Array, rng: np.random.Generator, reach: tuple[float, ...] = (0.2, 0.3, 0.34, 0.38)
) -> Tree:
    """A tree from ``root`` (3,) to all ``points`` (P, 3), all mm.

    A branch of generation k goes ``reach[k]`` of the way to the middle of its points: short at first, so that the
    tree fans out from its root.
    """
    count = len(points)
    starts, ends, supplied, generations, headings = [], [], [], [], []
    owner = np.zeros(count, dtype=np.int64)
    tips = root[None, :].astype(np.float64)
    heading = np.zeros((1, 3))
    generation = 0
    live = np.arange(count)
    while len(live):
        n = len(tips)
        own = owner[live]
        here = points[live]
        size = np.bincount(own, minlength=n)
        safe = np.maximum(size, 1)
        middle = np.stack([np.bincount(own, here[:, k], n) for k in range(3)], axis=1) / safe[:, None]
        step = np.where(size == 1, 1.0, reach[min(generation, len(reach) - 1)])[:, None]
        tip_new = tips + step * (middle - tips)
        if generation:
            wiggle = rng.normal(0.0, 0.06, (n, 3)) * np.linalg.norm(tip_new - tips, axis=1, keepdims=True)
            tip_new += np.where(size[:, None] > 1, wiggle, 0.0)
        starts.append(tips)
        ends.append(tip_new)
        supplied.append(size)
        generations.append(np.full(n, generation))
        headings.append(heading)
        # Split each set of two or more across its longest direction, a little off the middle.
        offset = here - middle[own]
        covariance = np.empty((n, 3, 3))
        for i in range(3):
            for j in range(i, 3):
                covariance[:, i, j] = covariance[:, j, i] = np.bincount(own, offset[:, i] * offset[:, j], n)
        axis = np.linalg.eigh(covariance)[1][:, :, 2]
        along = np.einsum("pk,pk->p", offset, axis[own])
        spread = np.sqrt(np.bincount(own, along * along, n) / safe)
        cut = rng.uniform(-1.0, 1.0, n) * spread
        side = (along > cut[own]).astype(np.int64)
        keep = size[own] > 1
        child = 2 * own[keep] + side[keep]
        used, owner_new = np.unique(child, return_inverse=True)
        live = live[keep]
        owner[live] = owner_new
        heading = (tip_new - tips)[used // 2]
        tips = tip_new[used // 2]
        generation += 1
    return Tree(
        np.concatenate(starts),
        np.concatenate(ends),
        np.concatenate(supplied),
        np.concatenate(generations),
        np.concatenate(headings),
    )


def join(trees: list[Tree]) -> Tree:
    """Several trees as one list of segments."""
    return Tree(
        np.concatenate([t.start for t in trees]),
        np.concatenate([t.end for t in trees]),
        np.concatenate([t.supplied for t in trees]),
        np.concatenate([t.generation for t in trees]),
        np.concatenate([t.heading for t in trees]),
    )
