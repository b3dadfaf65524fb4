"""3D CNN: a residual network from whole resized lungs to the target, end to end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatograph.baselines.features.survey import survey_of
from anatograph.baselines.method import Scans
from anatograph.baselines.networks.resnets import WIDTHS, Depth, resnet
from anatograph.baselines.networks.supervised import Chance, FoldNetwork, SupervisedNetwork, Training
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
    training: Training


SETTINGS = {
    "default": VolumeSettings(128, 18, WIDTHS, Training(100, 8)),
    "quick": VolumeSettings(32, 10, (8, 16, 32, 64), Training(40, 16, 2e-3)),
}


class _Network(SupervisedNetwork):
    def __init__(self, settings: VolumeSettings, outputs: int) -> None:
        super().__init__()
        self.resnet = resnet(settings.depth, settings.widths, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, P, P) to (B, O)."""
        return torch.as_tensor(self.resnet(x[:, None]))


class VolumeCNN(FoldNetwork):
    """Whole lungs, resized."""

    slug = "cnn3d"
    title = "3D CNN"

    def training(self, scans: Scans) -> Training:
        """By preset."""
        return _settings(scans).training

    def shares_network(self, scans: Scans) -> bool:
        """In the quick preset only; a network for each target is the rule."""
        return scans.preset == "quick"

    def network(self, scans: Scans, outputs: int) -> SupervisedNetwork:
        """A ResNet."""
        return _Network(_settings(scans), outputs)

    def inputs(self, scans: Scans, rows: NDArray[np.int64], chance: Chance | None, device: torch.device) -> Tensor:
        """(B, P, P, P) windowed; in training moved a little and with noise."""
        size = _settings(scans).size
        cubes = window(torch.from_numpy(survey_of(scans, self.progress).cubes(rows, size)).to(device))
        if chance is None:
            return cubes
        return Augmenter(_augmentation(size), size, device).views(cubes, chance)


def _settings(scans: Scans) -> VolumeSettings:
    return SETTINGS["quick" if scans.preset == "quick" else "default"]


def _augmentation(size: int) -> AugmentSettings:
    scale = size / 32
    return AugmentSettings(
        smooth_low=8 * scale,
        smooth_high=12 * scale,
        displacement_high=600.0,
        shift=2 * scale,
        gamma_probability=0.0,
        noise_probability=0.5,
    )
