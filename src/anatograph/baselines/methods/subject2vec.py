"""Subject2Vec: a subject as a set of patches, pooled by attention, with a decoder as regulariser (Singla et al. 2018).

Three parts trained jointly: a patch encoder whose pooled features predict the target, attention weights over the
patches, and a decoder that reconstructs every patch from its features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.baselines.method import Scans
from anatograph.baselines.networks.supervised import Draw, FoldNetwork, SupervisedNetwork, TrainingSchedule
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.networks import PatchEncoder
from anatograph.learning.model.windowing import window
from anatograph.learning.seeding import numpy_generator


@dataclass(frozen=True)
class SetSettings:
    """Sizes of the network and its training. The defaults are those of the authors' code."""

    features: int
    """Length of a patch feature."""
    light: bool
    """A small encoder at half resolution in place of the authors' thirteen convolutions."""
    patches: int
    """Patches per subject and update; 0: all."""
    predicted_from: int
    """Patches, spread evenly over the landmarks, used for prediction; 0: all."""
    training: TrainingSchedule
    """How long and how fast."""
    generative: float = 10.0
    """λ1, weight of the reconstruction."""
    attention: float = 1e-4
    """λ2, weight of the term that keeps the attention from concentrating on few patches."""


SETTINGS = {
    "default": SetSettings(128, False, 256, 0, TrainingSchedule(30, 4, 1e-3, 1e-4)),
    "quick": SetSettings(32, True, 8, 48, TrainingSchedule(16, 12, 3e-3, 1e-4)),
}


class _Equivariant(nn.Module):
    """A layer on sets (Zaheer et al. 2017): σ(b + (x - max over the set) W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, inputs) to (B, M, outputs)."""
        return torch.sigmoid(self.dense(x - x.amax(dim=1, keepdim=True)))


class _LightEncoder(nn.Module):
    """Four strided convolutions on a patch at half resolution."""

    def __init__(self, features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AvgPool3d(2)]
        inputs = 1
        for outputs in (8, 16, 32, features):
            layers += [nn.Conv3d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm3d(outputs), nn.ELU(inplace=True)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, P, P, P) to (B, F)."""
        return torch.as_tensor(self.layers(x)).mean(dim=(2, 3, 4))


class _Decoder(nn.Module):
    """Transposed convolutions from a patch's features back to the patch."""

    def __init__(self, features: int, widths: tuple[int, ...], side: int) -> None:
        super().__init__()
        self.start = side // 2 ** len(widths)
        self.first = nn.Linear(features, features * self.start**3)
        layers: list[nn.Module] = []
        inputs = features
        for width in widths:
            layers += [
                nn.ConvTranspose3d(inputs, width, 4, 2, 1, bias=False),
                nn.BatchNorm3d(width),
                nn.ELU(inplace=True),
            ]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.Conv3d(inputs, 1, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) to (B, side, side, side)."""
        x = self.first(features).view(len(features), -1, *(self.start,) * 3)
        return torch.as_tensor(self.layers(x))[:, 0]


class SetNetwork(SupervisedNetwork):
    """Encoder, attention, predictor and decoder."""

    def __init__(self, settings: SetSettings, outputs: int, side: int) -> None:
        super().__init__()
        self.settings = settings
        width = settings.features
        # The authors' encoder is C of the paper's Table 1, layer by layer.
        config = ModelConfig(feature_size=width, patch_size=side)
        self.encoder: nn.Module = _LightEncoder(width) if settings.light else PatchEncoder(config)
        self.shrink = nn.AvgPool3d(2) if settings.light else nn.Identity()
        widths = (16, 8, 8) if settings.light else (64, 32, 16, 8)
        self.decoder = _Decoder(width, widths, side // 2 if settings.light else side)
        self.attend = nn.Sequential(_Equivariant(width, 64), _Equivariant(64, 1))
        self.dense = nn.Sequential(nn.Linear(width, width), nn.ELU(), nn.Dropout(0.1))
        self.outputs = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Sets of patches (B, M, P, P, P) to (B, O)."""
        return self._pooled(self._encoded(x))[0]

    def losses(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (B, O), and λ1 · reconstruction + λ2 · Σ log(α + ε), as the authors add them."""
        features = self._encoded(inputs)
        outputs, alpha = self._pooled(features)
        reconstructed = self.decoder(features.flatten(0, 1))
        original = self.shrink(inputs.flatten(0, 1)[:, None])[:, 0]
        error = nn.functional.mse_loss(reconstructed, original)
        spread = torch.log(alpha + 1e-4).sum(dim=1).mean()
        return outputs, self.settings.generative * error + self.settings.attention * spread

    def attention(self, x: Tensor) -> Tensor:
        """(B, M) weights of the patches, summing to 1."""
        return self._pooled(self._encoded(x))[1]

    def _encoded(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.encoder(x.flatten(0, 1)[:, None])).view(*x.shape[:2], -1)

    def _pooled(self, features: Tensor) -> tuple[Tensor, Tensor]:
        alpha = torch.softmax(self.attend(features), dim=1)
        # The authors weight before the dense layer and sum after it.
        subject = self.dense(features * alpha * features.shape[1]).mean(dim=1)
        return self.outputs(subject), alpha[..., 0]


class Subject2Vec(FoldNetwork[SetSettings]):
    """The study's own patches, without their locations."""

    slug = "subject2vec"
    title = "Subject2Vec"
    sizes = SETTINGS

    def network(self, scans: Scans, outputs: int) -> SupervisedNetwork:
        """All three parts."""
        return SetNetwork(self.settings(scans), outputs, int(scans.study.about["patch_size"]))

    def inputs(self, scans: Scans, rows: NDArray[np.int64], draw: Draw | None, device: torch.device) -> Tensor:
        """(B, M, P, P, P) windowed patches: sampled at random in training, a fixed set otherwise.

        All subjects of a batch have the same number; where fewer landmarks lie inside the scan some are repeated.
        """
        settings = self.settings(scans)
        count = settings.patches if draw is not None else settings.predicted_from
        total = int(scans.study.about["landmarks"])
        count = min(count or total, total)
        random = None if draw is None else numpy_generator(*draw)
        sets = []
        for row in rows:
            name = scans.subject_ids[int(row)]
            present = np.flatnonzero(scans.study.subject(name).present)
            if random is None:
                some = present[np.linspace(0, len(present) - 1, count).round().astype(np.int64)]
            else:
                some = random.permutation(present)[np.arange(count) % len(present)]
            sets.append(torch.from_numpy(scans.study.read_patches([name] * count, some)))
        return window(torch.stack(sets).to(device))
