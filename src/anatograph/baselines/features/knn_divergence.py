"""Divergence between two point clouds from nearest-neighbour distances, without fitting a density."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-6
"""Lower bound of distances: identical points would make a logarithm infinite."""
_BLOCK = 32
"""Number of clouds compared with one cloud at a time."""


def divergence(x: NDArray[np.floating], y: NDArray[np.floating], k: int = 5) -> float:
    """Kullback-Leibler divergence D(p‖q) in nats from samples x (n, d) of p and y (m, d) of q.

    The estimator of Wang, Kulkarni and Verdú (2009), also Pérez-Cruz (2008): d/n Σ log(ν_k(i) / ρ_k(i)) +
    log(m / (n - 1)), where ρ_k and ν_k are the distances from x_i to its k-th neighbour in x (excluding itself) and in
    y. It is consistent; with few points it is biased, mainly where q is the narrower of the two (then towards 0), and
    it may be negative.

    Raises:
        ValueError: a cloud of k points or fewer.
    """
    return float(divergences([np.asarray(x), np.asarray(y)], k, rows=1)[0, 1])


def divergences(
    clouds: Sequence[NDArray[np.floating]],
    k: int = 5,
    device: str = "cpu",
    done: Callable[[int], object] | None = None,
    rows: int | None = None,
) -> NDArray[np.float64]:
    """(S, S) divergence of cloud i (n_i, d) from cloud j, 0 on the diagonal; see `divergence`.

    Each entry depends on its two clouds alone, so a matrix over all subjects leaks nothing between them.
    ``done`` is called after each row; ``rows`` stops after that many.
    """
    import torch

    sizes = [len(cloud) for cloud in clouds]
    if min(sizes) <= k:
        raise ValueError(f"the {k}-th neighbour needs more than {k} points; the smallest cloud has {min(sizes)}")
    # float64: distances come from products, which are inaccurate for small ones in float32.
    tensors = [torch.from_numpy(np.ascontiguousarray(cloud, dtype=np.float64)).to(device) for cloud in clouds]
    dimensions = tensors[0].shape[1]
    matrix = np.zeros((len(clouds), len(clouds)))
    for i, x in enumerate(tensors[:rows]):
        own = torch.cdist(x, x, compute_mode="use_mm_for_euclid_dist")
        rho = torch.kthvalue(own, k + 1, dim=1).values.clamp(min=_LEAST)  # the nearest is the point itself
        for start in range(0, len(clouds), _BLOCK):
            block = tensors[start : start + _BLOCK]
            distance = torch.cdist(x, torch.cat(block), compute_mode="use_mm_for_euclid_dist")
            for j, part in enumerate(torch.split(distance, [len(y) for y in block], dim=1), start=start):
                if i != j:
                    nu = torch.kthvalue(part, k, dim=1).values.clamp(min=_LEAST)
                    ratio = float(torch.log(nu / rho).mean())
                    matrix[i, j] = dimensions * ratio + np.log(sizes[j] / (sizes[i] - 1))
        if done is not None:
            done(i)
    return matrix
