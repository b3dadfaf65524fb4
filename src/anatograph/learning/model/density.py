"""The cumulative density histogram of a patch: the part of its feature that needs no learning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

THRESHOLDS = (-1000, -975, -950, -925, -900, -875, -850, -800, -700, -600, -450, -300, -100, 50)
"""HU: dense where emphysema is separated from normal lung, sparse in the range of ground glass."""
RAMP = 15.0
"""Half-width in HU of the ramp at each threshold, so that the histogram is continuous in HU."""


class CumulativeHistogram(nn.Module):
    """The fraction of a patch's voxels below each of `THRESHOLDS`, standardised over subjects and landmarks.

    Contrast between noisy views retains little of the exact position of a density, yet densities are how radiology has
    measured emphysema for decades (LAA-950); so these features are computed instead of learnt.
    """

    part: Tensor

    def __init__(self, hu_low: float, hu_high: float) -> None:
        """``hu_low`` and ``hu_high`` are the HU that are -1 and +1 in windowed patches."""
        super().__init__()
        self.bins = max(1, round(hu_high - hu_low)) + 1  # about one bin per HU, as stored patches are integers
        center = torch.linspace(hu_low, hu_high, self.bins)
        ramp = (torch.tensor(THRESHOLDS)[:, None] - center) / (2.0 * RAMP) + 0.5
        self.register_buffer("part", ramp.clamp(0.0, 1.0), persistent=False)
        self.norm = nn.BatchNorm1d(len(THRESHOLDS))

    def fractions(self, x: Tensor) -> Tensor:
        """Windowed patches (B, 1, P, P, P) to fractions in [0, 1] (B, 14), each over a ramp of ±`RAMP` HU.

        Computed from a fine histogram, so that each patch is read once instead of fourteen times (128 patches in 0.01 s
        instead of 0.28 s on one core).
        """
        voxels = x.detach().float().flatten(1)
        rows = len(voxels)
        bins = ((voxels + 1.0) * (0.5 * (self.bins - 1)) + 0.5).to(torch.int32).clamp_(0, self.bins - 1)
        bins += self.bins * torch.arange(rows, dtype=torch.int32, device=x.device)[:, None]
        counts = torch.bincount(bins.flatten(), minlength=rows * self.bins).view(rows, 1, self.bins)
        return (counts.float() * self.part).sum(dim=2) / voxels.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """Windowed patches (B, 1, P, P, P) to (B, 14)."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.as_tensor(self.norm(self.fractions(x)))
