"""How a patch's voxels are spread over Hounsfield units: part of a patch's feature that needs no learning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

THRESHOLDS = (-1000, -975, -950, -925, -900, -875, -850, -800, -700, -600, -450, -300, -100, 50)
"""HU, close together where emphysema is told from lung, wide apart where ground glass is."""
RAMP = 15.0
"""HU on either side of a threshold over which a voxel counts in part, so that a share does not jump."""


class DensityShares(nn.Module):
    """The share of a patch's voxels below each of `THRESHOLDS`, standardised over people and places.

    Contrast between noisy views keeps little of where exactly a density lies, and densities are what radiology has
    measured emphysema by for decades (LAA-950); these numbers are handed on instead of learnt.
    """

    thresholds: Tensor

    def __init__(self, hu_low: float, hu_high: float) -> None:
        """``hu_low`` and ``hu_high`` are the HU that windowed patches hold as -1 and +1."""
        super().__init__()
        scale = 2.0 / (hu_high - hu_low)
        windowed = [(hu - hu_low) * scale - 1.0 for hu in THRESHOLDS]
        self.register_buffer("thresholds", torch.tensor(windowed), persistent=False)
        self.steepness = 0.5 / (RAMP * scale)
        self.norm = nn.BatchNorm1d(len(THRESHOLDS))

    def shares(self, x: Tensor) -> Tensor:
        """Windowed patches (B, 1, P, P, P) to shares in [0, 1] (B, 14), a ramp of ±`RAMP` HU wide."""
        voxels = x.detach().float().flatten(1)
        rows = [((t - voxels) * self.steepness + 0.5).clamp_(0.0, 1.0).mean(dim=1) for t in self.thresholds]
        return torch.stack(rows, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Windowed patches (B, 1, P, P, P) to (B, 14)."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.as_tensor(self.norm(self.shares(x)))
