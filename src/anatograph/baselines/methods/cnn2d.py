"""2D CNN: a network that predicts the target from a few slices through the lungs (González et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.baselines.features.scan_features import scan_features
from anatograph.baselines.method import Scans
from anatograph.baselines.networks.supervised import Draw, FoldNetwork, SupervisedNetwork, TrainingSchedule
from anatograph.learning.model.windowing import window
from anatograph.learning.seeding import generator

_SHIFT = 1 / 16
"""Largest shift in training, as a fraction of a view's side."""
_NOISE = 0.03
"""Standard deviation of the noise added in training, in the windowed scale: 19 HU."""


@dataclass(frozen=True)
class SliceSettings:
    """Sizes of the network and its training."""

    channels: tuple[int, ...]
    """Channels of the convolutions, each followed by 2× pooling."""
    hidden: int
    """Width of the dense layer before the outputs."""
    training: TrainingSchedule
    """How long and how fast."""


SETTINGS = {
    "default": SliceSettings((32, 64, 128, 128, 256), 256, TrainingSchedule(100, 16)),
    "quick": SliceSettings((8, 16, 32, 64), 64, TrainingSchedule(40, 16, 2e-3)),
}


class _Network(SupervisedNetwork):
    """Convolutions with BatchNorm, ReLU and pooling over the montage, then two dense layers."""

    def __init__(self, settings: SliceSettings, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for number, channels in enumerate(settings.channels):
            side = 5 if number == 0 else 3
            layers += [
                nn.Conv2d(inputs, channels, side, padding=side // 2, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            inputs = channels
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4))
        self.dense = nn.Sequential(
            nn.Linear(16 * inputs, settings.hidden), nn.ReLU(inplace=True), nn.Dropout(0.3),
            nn.Linear(settings.hidden, outputs),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Montages (B, H, W) to (B, O)."""
        return torch.as_tensor(self.dense(self.convolutions(x[:, None]).flatten(1)))


class SliceCNN(FoldNetwork[SliceSettings]):
    """Four slices side by side in one picture."""

    slug = "cnn2d"
    title = "2D CNN"
    sizes = SETTINGS

    def network(self, scans: Scans, outputs: int) -> SupervisedNetwork:
        """Four or five convolutions and two dense layers."""
        return _Network(self.settings(scans), outputs)

    def inputs(self, scans: Scans, rows: NDArray[np.int64], draw: Draw | None, device: torch.device) -> Tensor:
        """(B, 2n, 2n): the four views, windowed; in training shifted slightly and with noise added."""
        x = window(torch.from_numpy(scan_features(scans, self.progress).views(rows)))
        if draw is not None:
            x = _augmented(x, draw)
        top, bottom = torch.cat([x[:, 0], x[:, 1]], dim=2), torch.cat([x[:, 2], x[:, 3]], dim=2)
        return torch.cat([top, bottom], dim=1).to(device)


def _augmented(x: Tensor, draw: Draw) -> Tensor:
    """Views (B, 4, n, n), all views of a subject shifted by the same few pixels (air is shifted in), plus noise."""
    random = generator(*draw)
    most = max(1, round(x.shape[-1] * _SHIFT))
    shifts = torch.randint(-most, most + 1, (len(x), 2), generator=random)
    shifted = torch.full_like(x, -1.0)
    side = x.shape[-1]
    for k, (down, right) in enumerate(shifts.tolist()):
        to_y, to_x = slice(max(down, 0), side + min(down, 0)), slice(max(right, 0), side + min(right, 0))
        from_y, from_x = slice(max(-down, 0), side + min(-down, 0)), slice(max(-right, 0), side + min(-right, 0))
        shifted[k, :, to_y, to_x] = x[k, :, from_y, from_x]
    return shifted + _NOISE * torch.randn(x.shape, generator=random)
