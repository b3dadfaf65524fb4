"""MedicalNet: a 3D ResNet that its authors trained to segment 23 data sets (Chen, Ma and Zheng 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.baselines.features.kept import kept
from anatograph.baselines.features.survey import Survey, survey_of
from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.baselines.networks.published_weights import load_weights, read_weights
from anatograph.baselines.networks.resnets import Depth, dilated_as_published, published_shape, resnet
from anatograph.embedding.api import chosen_device
from anatograph.errors import UserError
from anatograph.learning.model.windowing import HU_WINDOW
from anatograph.learning.seeding import INITIAL, generator

SIZE = {"default": 128, "quick": 64}
"""Side of the cube of the whole lungs that goes in, by preset."""
RANDOM_DEPTH: dict[str, Depth] = {"default": 50, "quick": 10}
"""Depth of the network with random weights, by preset; with the authors' weights the file decides."""


class MedicalNet(CohortMethod):
    """The pooled features of the encoder, on whole lungs resized to a cube."""

    slug = "medicalnet"
    title = "MedicalNet"
    learns: ClassVar[Learns] = "nothing"

    def __init__(self, weights: Path | None = None, allow_random: bool = False, progress: bool = True) -> None:
        """``weights``: a file such as ``resnet_50_23dataset.pth`` as the authors publish it.

        Without, ``allow_random`` lets a network of random weights stand there, labelled as such.
        """
        self.weights, self.allow_random, self.progress = weights, allow_random, progress
        if weights is None:
            self.note = "random weights"

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, D) features.

        Raises:
            UserError: no weights and not allowed to do without, weights that do not fit, or no MONAI.
        """
        preset = "quick" if scans.preset == "quick" else "default"
        network = self.network(preset, scans.seed)
        survey = survey_of(scans, self.progress)
        made_from = {
            "scans": survey.signature(),
            "size": SIZE[preset],
            "weights": str(self.weights) if self.weights else f"random {scans.seed}",
            "sum": float(sum(v.double().abs().sum() for v in network.state_dict().values())),
        }
        folder = scans.work / self.slug / ("published" if self.weights else "random")

        def make() -> dict[str, NDArray[np.float64]]:
            return {"features": self._features(network, survey, SIZE[preset], scans)}

        return np.array(kept(folder, made_from, make)["features"], dtype=np.float64)

    def network(self, preset: str, seed: int) -> nn.Module:
        """The encoder with the authors' weights, or with random ones where that is allowed, in evaluation mode."""
        if self.weights is None:
            if not self.allow_random:
                raise UserError(
                    "MedicalNet is nothing without its authors' weights: download e.g. resnet_50_23dataset.pth from "
                    "github.com/Tencent/MedicalNet and give its path with --weights medicalnet=FILE, or ask for random "
                    "weights with --allow-random."
                )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(generator(seed, INITIAL).initial_seed()))
                return dilated_as_published(resnet(RANDOM_DEPTH[preset])).eval()
        tensors = read_weights(self.weights)
        known = published_shape(tensors)
        if known is None:
            raise UserError(f"{self.weights} is no MedicalNet ResNet-10, 18, 34 or 50 by the names of its weights.")
        depth, shortcut, widths = known
        network = resnet(depth, widths, shortcut=shortcut)
        load_weights(network, tensors, self.weights, leave=("conv_seg.", "fc."))
        self.note = f"ResNet-{depth}, weights of {self.weights.name}"
        return dilated_as_published(network).eval()

    @torch.inference_mode()
    def _features(self, network: nn.Module, survey: Survey, size: int, scans: Scans) -> NDArray[np.float64]:
        from tqdm import tqdm

        device = chosen_device(scans.device)
        network.to(device)
        found = []
        for row in tqdm(range(len(scans.subject_ids)), desc=self.title, unit="person", disable=not self.progress):
            cube = torch.from_numpy(survey.cubes([row], size)).to(device)
            found.append(network(_standardised(cube)[:, None])[0].double().cpu().numpy())
        return np.stack(found)


def _standardised(hu: Tensor) -> Tensor:
    """(B, D, H, W) HU clipped to the window, then mean 0 and deviation 1 within each volume, as the authors feed it."""
    x = hu.float().clamp(*HU_WINDOW)
    spread, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) / spread.clamp(min=1e-6)
