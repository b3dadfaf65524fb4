"""A patch as another scanner would show it: reconstruction kernel, slice thickness, gain, and noise with a grain.

Blur and sharpening act along each axis as a matrix of P × P, whose rows sum to 1, so that a uniform patch stays as it
is, at the border too. A smooth kernel is a Gaussian in the plane of the slices; a sharp one is (1 + s) I - s G, the
image with a share s of its detail added again (unsharp masking). A slice of t mm averages over t mm along the
body's axis: a Gaussian with the variance of that box, t² / 12. Reconstructed noise is white noise through the kernel,
scaled to its own standard deviation.

Letters in shapes: G views, P patch side.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DETAIL_MM = 0.8
"""Standard deviation of the Gaussian that a sharp kernel holds its detail against."""


def smoothing(sigma: Tensor, side: int) -> Tensor:
    """Gaussian averaging along an axis of ``side`` voxels of 1 mm: sigma (G,) in mm to matrices (G, P, P).

    Integrated over each voxel; rows sum to 1. Sigma 0 is the identity.
    """
    position = torch.arange(side, dtype=torch.float32, device=sigma.device)
    distance = position[:, None] - position[None, :]
    scale = math.sqrt(0.5) / sigma.clamp(min=1e-3)[:, None, None]
    weight = torch.erf(scale * (distance + 0.5)) - torch.erf(scale * (distance - 0.5))
    return weight / weight.sum(dim=2, keepdim=True)


def kernel(strength: Tensor, side: int, smooth_mm: float, sharp: float) -> Tensor:
    """In-plane matrices (G, P, P) of kernels from the sharpest to the smoothest: strength (G,) in [-1, 1].

    Below 0 the share of detail added is -strength · ``sharp``; above 0 the Gaussian has strength · ``smooth_mm``.
    """
    blurred = smoothing(strength.clamp(min=0.0) * smooth_mm, side)
    added = (-strength).clamp(min=0.0)[:, None, None] * sharp
    detail = torch.eye(side, device=strength.device) - smoothing(torch.full_like(strength, DETAIL_MM), side)
    return blurred + added * detail


def through(x: Tensor, in_plane: Tensor, along: Tensor) -> Tensor:
    """x (G, …, P, P, P), z y x, with ``in_plane`` (G, P, P) applied along y and x, and ``along`` (G, P, P) along z."""
    groups, side = in_plane.shape[0], x.shape[-1]
    y = x.reshape(groups, -1, side) @ in_plane.transpose(1, 2)
    y = in_plane[:, None] @ y.view(groups, -1, side, side)
    return (along[:, None] @ y.view(groups, -1, side, side * side)).view(x.shape)
