"""Random deformations of patches: an affine map, smooth displacements, and one resampling for many patches.

Letters in shapes: N patches, G transforms, P patch side, R terms of the smooth basis.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["border", "reflection"]
SIGMAS = 17
"""Widths of smoothing between the least and the greatest that displacements are drawn with."""
_KEPT_VARIANCE = 0.9995


def resample_together(patches: Tensor, grid: Tensor, padding: Padding) -> Tensor:
    """Patches (N, P, P, P) all sampled at one grid (P, P, P, 3) in [-1, 1], x first: ``F.grid_sample``, trilinear.

    One transform of many patches is one sparse matrix, eight weights a voxel; each weight is worked out once and
    applied to a row of N numbers, a tenth of the time that ``grid_sample`` takes with N channels.
    """
    side = patches.shape[-1]
    place = ((grid.reshape(-1, 3).float() + 1.0) * side - 1.0) / 2.0
    if padding == "reflection":
        place = (place + 0.5).remainder(2.0 * side)
        place = torch.minimum(place, 2.0 * side - place) - 0.5
    place = place.clamp(0.0, side - 1.0)
    low = place.floor().clamp(max=max(side - 2, 0))
    part = place - low
    first = low.long()
    step = torch.tensor([1, side, side * side], device=patches.device)
    corners, weights = [], []
    for corner in range(8):
        up = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=patches.device)
        corners.append(((first + up) * step).sum(dim=1))
        weights.append(torch.where(up.bool(), part, 1.0 - part).prod(dim=1))
    rows = patches.reshape(len(patches), -1).t().contiguous()
    index, weight = torch.stack(corners, 1), torch.stack(weights, 1).to(rows.dtype)
    out = F.embedding_bag(index, rows, per_sample_weights=weight, mode="sum")
    return out.t().reshape(patches.shape).contiguous()


def affine(angles: Tensor, scales: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Linear part (G, 3, 3) and offset (G, 3), z y x order, of R · T · S: scale first, then shift, then rotate.

    ``angles`` (G, 3) radians about the first, second and third axis, applied third first; ``scales`` (G, 3);
    ``shifts`` (G, 3) voxels.
    """
    c, s = torch.cos(angles), torch.sin(angles)
    zero, one = torch.zeros_like(c[:, 0]), torch.ones_like(c[:, 0])
    about_0 = torch.stack([one, zero, zero, zero, c[:, 0], -s[:, 0], zero, s[:, 0], c[:, 0]], 1).view(-1, 3, 3)
    about_1 = torch.stack([c[:, 1], zero, s[:, 1], zero, one, zero, -s[:, 1], zero, c[:, 1]], 1).view(-1, 3, 3)
    about_2 = torch.stack([c[:, 2], -s[:, 2], zero, s[:, 2], c[:, 2], zero, zero, zero, one], 1).view(-1, 3, 3)
    rotation = about_0 @ about_1 @ about_2
    return rotation * scales[:, None, :], torch.bmm(rotation, shifts[:, :, None])[:, :, 0]


def smooth_bases(low: float, high: float, side: int) -> Tensor:
    """(17, P, R): for 17 widths from ``low`` to ``high``, the functions that span smoothed white noise on P voxels.

    White noise blurred by a Gaussian along an axis is K·n with K (P, P) the blur; U·S of K's leading singular
    vectors applied to R normal numbers has the same distribution but for the last 0.05 % of its variance. The blur
    ends at three standard deviations and sees zeros outside the patch, as MONAI's ``GaussianFilter`` does.
    """
    found = []
    position = torch.arange(side, dtype=torch.float64)
    distance = position[:, None] - position[None, :]
    for sigma in torch.linspace(low, high, SIGMAS, dtype=torch.float64):
        scale = math.sqrt(0.5) / float(sigma)
        kernel = 0.5 * (torch.erf(scale * (distance + 0.5)) - torch.erf(scale * (distance - 0.5)))
        kernel[distance.abs() > int(float(sigma) * 3.0 + 0.5)] = 0.0
        left, values, _ = torch.linalg.svd(kernel)
        found.append((left * values, values**2))
    kept = [torch.cumsum(v, 0) / v.sum() for _, v in found]
    rank = max(int((k < _KEPT_VARIANCE).sum()) + 1 for k in kept)
    return torch.stack([scaled[:, :rank] for scaled, _ in found]).float()
