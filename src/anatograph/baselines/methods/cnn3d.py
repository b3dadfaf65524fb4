"""3D CNN: a residual network that predicts the target from the whole resized lungs, end to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatograph.baselines.features.scan_features import scan_features
from anatograph.baselines.method import Scans
from anatograph.baselines.networks.resnets import WIDTHS, Depth, resnet
from anatograph.baselines.networks.supervised import Draw, FoldNetwork, SupervisedNetwork, TrainingSchedule
from anatograph.learning.contrast.augmentation import Augmenter, AugmentSettings
from anatograph.learning.model.windowing import window


@dataclass(frozen=True)
class VolumeSettings:
    """Sizes of the network and its training."""

    size: int
    """Side of the cube of the whole lungs."""
    depth: Depth
    """Of the ResNet."""
    widths: tuple[int, ...]
    """Channels of its stages."""
    training: TrainingSchedule
    """How long and how fast."""


SETTINGS = {
    "default": VolumeSettings(128, 18, WIDTHS, TrainingSchedule(100, 8)),
    "quick": VolumeSettings(32, 10, (8, 16, 32, 64), TrainingSchedule(40, 16, 2e-3)),
}


class _Network(SupervisedNetwork):
    def __init__(self, settings: VolumeSettings, outputs: int) -> None:
        super().__init__()
        self.resnet = resnet(settings.depth, settings.widths, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, P, P) to (B, O)."""
        return torch.as_tensor(self.resnet(x[:, None]))


class VolumeCNN(FoldNetwork[VolumeSettings]):
    """Whole lungs, resized."""

    slug = "cnn3d"
    title = "3D CNN"
    sizes = SETTINGS

    def network(self, scans: Scans, outputs: int) -> SupervisedNetwork:
        """A ResNet."""
        return _Network(self.settings(scans), outputs)

    def inputs(self, scans: Scans, rows: NDArray[np.int64], draw: Draw | None, device: torch.device) -> Tensor:
        """(B, P, P, P) windowed; in training deformed slightly and with noise added."""
        size = self.settings(scans).size
        cubes = window(torch.from_numpy(scan_features(scans, self.progress).cubes(rows, size)).to(device))
        if draw is None:
            return cubes
        return Augmenter(_augmentation(size), size, device).views(cubes, draw)


def _augmentation(size: int) -> AugmentSettings:
    scale = size / 32
    return AugmentSettings(
        smooth_low=8 * scale,
        smooth_high=12 * scale,
        displacement_high=600.0,
        shift=2 * scale,
        gamma_probability=0.0,
    )
