"""Models Genesis: a U-Net pretrained by restoring corrupted pieces of the cohort's scans (Zhou et al. 2019)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anatograph.baselines.features.cache import Arrays, cached
from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.baselines.networks.genesis_corruptions import corrupted
from anatograph.baselines.networks.genesis_network import WIDTH, GenesisUNet
from anatograph.baselines.networks.published_weights import load_weights, read_weights
from anatograph.baselines.options import MethodOptions
from anatograph.embedding.api import chosen_device
from anatograph.errors import UserError
from anatograph.execution.progress import progress_over
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.memory import keep_memory
from anatograph.learning.seeding import INITIAL, generator, numpy_generator
from anatograph.learning.training.schedule import learning_rate

HU_RANGE = (-1000.0, 1000.0)
"""HU mapped to 0 and 1, as in the authors' code."""
_DRAW, _CORRUPT, _STATISTICS = 211, 212, 213


@dataclass(frozen=True)
class GenesisSettings:
    """Sizes of the network and its training."""

    width: int = WIDTH
    """Channels of the first convolution."""
    steps: int = 40_000
    """Updates."""
    batch: int = 16
    """Patches per update."""
    rate: float = 1e-3
    """Peak of Adam's cosine learning rate."""
    landmarks: int = 0
    """Patches per subject, spread evenly over the landmarks, whose features are averaged; 0: all."""


SETTINGS = {"default": GenesisSettings(), "quick": GenesisSettings(4, 120, 8, 3e-3, 48)}


class ModelsGenesis(CohortMethod):
    """The encoder's pooled features, averaged over the patches of the lungs."""

    slug = "models-genesis"
    title = "ModelsGenesis"
    learns: ClassVar[Learns] = "without labels"

    def __init__(self, weights: Path | None = None, progress: bool = True) -> None:
        """``weights``: the authors' ``Genesis_Chest_CT.pt``; without it the network is trained on the cohort."""
        super().__init__(progress)
        self.weights = weights
        self.note = f"weights of {weights.name}" if weights else "trained on the cohort"

    @classmethod
    def from_options(cls, options: MethodOptions) -> Self:
        """The row with the authors' weights, if given."""
        return cls(options.weights.get(cls.slug), options.progress)

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, D) features.

        Raises:
            UserError: weights that cannot be read or do not fit.
        """
        return np.array(self._arrays(scans)["features"], dtype=np.float64)

    def regions(self, scans: Scans) -> NDArray[np.float64]:
        """(S, N, D) features of the patches, NaN where absent or not sampled."""
        return np.array(self._arrays(scans)["regions"], dtype=np.float64)

    def _arrays(self, scans: Scans) -> Arrays:
        settings = scans.sized(SETTINGS)
        self.updates = 0 if self.weights else settings.steps
        made_from = {
            "subjects": scans.subject_ids,
            "scans": [scans.study.subject(name).about["source"].get("digest", "") for name in scans.subject_ids],
            "atlas": scans.study.about["atlas_hash"],
            "settings": asdict(settings),
            "seed": scans.seed,
            "weights": "" if self.weights is None else f"{self.weights} {_size(self.weights)}",
        }
        kind = "published" if self.weights else "trained"

        def make() -> Arrays:
            regions = self._regions(scans, settings)
            return {"regions": regions, "features": np.stack([np.nanmean(one, axis=0) for one in regions])}

        return cached(scans.work / self.slug / kind, made_from, make)

    def _regions(self, scans: Scans, settings: GenesisSettings) -> NDArray[np.float32]:
        keep_memory()
        device = torch.device(chosen_device(scans.device))
        patches = _Patches(scans)
        network = self._published() if self.weights else self._trained(scans, patches, settings, device)
        network.to(device)
        statistics = [
            patches.draw(settings.batch, (scans.seed, _STATISTICS, number), device)[:, None] for number in range(8)
        ]
        # The authors keep BatchNorm in training mode at inference, so that a result depends on the rest of its batch;
        # here the statistics are estimated once, on the cohort.
        with torch.inference_mode():
            recalibrate_batchnorm(network, statistics, network.encode)
        return _embedded(network.eval(), scans, patches, settings, device, self.progress)

    def _published(self) -> GenesisUNet:
        if self.weights is None:
            raise RuntimeError("no weights")
        tensors = read_weights(self.weights)
        first = tensors.get("down_tr64.ops.0.conv1.weight")
        if first is None:
            raise UserError(f"{self.weights} does not contain the tensors of a Models Genesis U-Net.")
        network = GenesisUNet(int(first.shape[0]))
        load_weights(network, tensors, self.weights)
        return network

    def _trained(self, scans: Scans, patches: _Patches, settings: GenesisSettings, device: torch.device) -> GenesisUNet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(scans.seed, INITIAL).initial_seed()))
            network = GenesisUNet(settings.width).to(device)
        optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
        for step in progress_over(range(settings.steps), self.title, "update", shown=self.progress):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, settings.steps, settings.rate, 0.05)
            whole = patches.draw(settings.batch, (scans.seed, _DRAW, step), torch.device("cpu")).numpy()
            random = numpy_generator(scans.seed, _CORRUPT, step)
            pairs = [corrupted(one, random) for one in whole]
            inputs, originals = (
                torch.from_numpy(np.stack(side))[:, None].to(device) for side in zip(*pairs, strict=True)
            )
            loss = torch.nn.functional.mse_loss(network(inputs), originals)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return network


class _Patches:
    """The patches of the subjects of a benchmark, in [0, 1]."""

    def __init__(self, scans: Scans) -> None:
        self.study, self.ids = scans.study, scans.subject_ids
        self.present = scans.study.present(self.ids)
        self.all = np.argwhere(self.present)

    def draw(self, count: int, chance: tuple[int, ...], device: torch.device) -> Tensor:
        """(B, P, P, P) of random subjects and landmarks."""
        chosen = self.all[numpy_generator(*chance).integers(0, len(self.all), count)]
        return self.read([self.ids[row] for row in chosen[:, 0]], chosen[:, 1], device)

    def read(self, ids: list[str], landmarks: NDArray[np.int64], device: torch.device) -> Tensor:
        """(B, P, P, P)."""
        hu = torch.from_numpy(self.study.read_patches(ids, landmarks)).to(device).float()
        low, high = HU_RANGE
        return hu.clamp_(low, high).sub_(low).div_(high - low)


@torch.inference_mode()
def _embedded(
    network: GenesisUNet,
    scans: Scans,
    patches: _Patches,
    settings: GenesisSettings,
    device: torch.device,
    progress: bool,
) -> NDArray[np.float32]:
    landmarks = patches.present.shape[1]
    sampled = np.arange(landmarks)
    if 0 < settings.landmarks < landmarks:
        sampled = np.unique(np.linspace(0, landmarks - 1, settings.landmarks).round().astype(np.int64))
    features = np.full((len(patches.ids), landmarks, network.features), np.nan, dtype=np.float32)
    for row, name in enumerate(progress_over(patches.ids, "ModelsGenesis: embed", "subject", shown=progress)):
        present = sampled[patches.present[row, sampled]]
        if not len(present):  # possible only where few are sampled
            present = np.flatnonzero(patches.present[row])[: len(sampled)]
        for start in range(0, len(present), 32):
            some = present[start : start + 32]
            block = patches.read([name] * len(some), some, device)[:, None]
            features[row, some] = network.pooled(block).float().cpu().numpy()
    return features


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
