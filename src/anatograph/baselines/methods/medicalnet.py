"""MedicalNet: a 3D ResNet that its authors trained to segment 23 data sets (Chen, Ma and Zheng 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.baselines.features.cache import cached
from anatograph.baselines.features.scan_features import ScanFeatures, scan_features
from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.baselines.networks.published_weights import load_weights, read_weights
from anatograph.baselines.networks.resnets import Depth, dilated_as_published, published_shape, resnet
from anatograph.baselines.options import MethodOptions
from anatograph.embedding.api import chosen_device
from anatograph.errors import UserError
from anatograph.execution.progress import progress_over
from anatograph.learning.model.windowing import HU_WINDOW
from anatograph.learning.seeding import INITIAL, generator

SIZE = {"default": 128, "quick": 64}
"""Side of the input cube of the whole lungs, by preset."""
RANDOM_DEPTH: dict[str, Depth] = {"default": 50, "quick": 10}
"""Depth of the network with random weights, by preset; with the authors' weights it follows from the file."""


class MedicalNet(CohortMethod):
    """The pooled features of the encoder, on whole lungs resized to a cube."""

    slug = "medicalnet"
    title = "MedicalNet"
    learns: ClassVar[Learns] = "nothing"

    def __init__(self, weights: Path | None = None, allow_random: bool = False, progress: bool = True) -> None:
        """``weights``: a file such as ``resnet_50_23dataset.pth`` as the authors publish it.

        Without one, ``allow_random`` permits a network with random weights, labelled as such.
        """
        super().__init__(progress)
        self.weights, self.allow_random = weights, allow_random
        if weights is None:
            self.note = "random weights"

    @classmethod
    def from_options(cls, options: MethodOptions) -> Self:
        """The row with the authors' weights, if given."""
        return cls(options.weights.get(cls.slug), options.allow_random, options.progress)

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, D) features.

        Raises:
            UserError: no weights and random ones not permitted, weights that do not fit, or MONAI not installed.
        """
        network, size = self.network(scans.sized(RANDOM_DEPTH), scans.seed), scans.sized(SIZE)
        features = scan_features(scans, self.progress)
        made_from = {
            "scans": features.signature(),
            "size": size,
            "weights": str(self.weights) if self.weights else f"random {scans.seed}",
            "sum": float(sum(v.double().abs().sum() for v in network.state_dict().values())),
        }
        folder = scans.work / self.slug / ("published" if self.weights else "random")

        def make() -> dict[str, NDArray[np.float64]]:
            return {"features": self._features(network, features, size, scans)}

        return np.array(cached(folder, made_from, make)["features"], dtype=np.float64)

    def network(self, random_depth: Depth, seed: int) -> nn.Module:
        """The encoder with the authors' weights, or with random ones where permitted, in evaluation mode."""
        if self.weights is None:
            if not self.allow_random:
                raise UserError(
                    "MedicalNet needs its authors' weights: download e.g. resnet_50_23dataset.pth from "
                    "github.com/Tencent/MedicalNet and give its path with --weights medicalnet=FILE, or allow "
                    "random weights with --allow-random."
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(generator(seed, INITIAL).initial_seed()))
                return dilated_as_published(resnet(random_depth)).eval()
        tensors = read_weights(self.weights)
        known = published_shape(tensors)
        if known is None:
            raise UserError(f"{self.weights} does not contain the tensors of a MedicalNet ResNet-10, 18, 34 or 50.")
        depth, shortcut, widths = known
        network = resnet(depth, widths, shortcut=shortcut)
        load_weights(network, tensors, self.weights, leave=("conv_seg.", "fc."))
        self.note = f"ResNet-{depth}, weights of {self.weights.name}"
        return dilated_as_published(network).eval()

    @torch.inference_mode()
    def _features(self, network: nn.Module, features: ScanFeatures, size: int, scans: Scans) -> NDArray[np.float64]:
        device = chosen_device(scans.device)
        network.to(device)
        vectors = []
        for row in progress_over(range(len(scans.subject_ids)), self.title, "subject", shown=self.progress):
            cube = torch.from_numpy(features.cubes([row], size)).to(device)
            vectors.append(network(_standardised(cube)[:, None])[0].double().cpu().numpy())
        return np.stack(vectors)


def _standardised(hu: Tensor) -> Tensor:
    """(B, D, H, W) HU clipped to the window, then standardised within each volume, as in the authors' code."""
    x = hu.float().clamp(*HU_WINDOW)
    spread, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) / spread.clamp(min=1e-6)
