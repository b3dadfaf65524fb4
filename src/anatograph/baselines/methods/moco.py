"""MoCo in 3D: an encoder of whole resized scans trained by instance discrimination (He et al. 2020)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.baselines.features.cache import cached
from anatograph.baselines.features.scan_features import ScanFeatures, scan_features
from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.baselines.networks.resnets import Depth, feature_count, resnet
from anatograph.embedding.api import chosen_device
from anatograph.execution.progress import progress_over
from anatograph.learning.contrast.augmentation import Augmenter, AugmentSettings
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.contrast.info_nce import InfoNCE
from anatograph.learning.contrast.keys import follow, key_forward, query_forward
from anatograph.learning.contrast.momentum import key_copy
from anatograph.learning.contrast.queues import KeyQueue, queue_length
from anatograph.learning.memory import keep_memory
from anatograph.learning.model.windowing import window
from anatograph.learning.seeding import INITIAL, generator, numpy_generator
from anatograph.learning.training.schedule import learning_rate

_ORDER, _VIEW, _SHUFFLE = 221, 222, 223


@dataclass(frozen=True)
class MoCoSettings:
    """Sizes of the network and its training. The defaults are MoCo's, and the paper's 256³ volumes."""

    size: int = 256
    """Side of the cube of the whole lungs."""
    depth: Depth = 50
    """Of the ResNet."""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of its stages."""
    features: int = 128
    """Length of queries and keys."""
    epochs: int = 200
    """Passes over the subjects."""
    batch: int = 8
    """Subjects per update; what fits on a large GPU at 256³."""
    optimiser: str = "sgd"
    """sgd as published (momentum 0.9, weight decay 1e-4), or adamw, which needs fewer updates."""
    rate: float = 0.03
    """Peak of the cosine learning rate."""
    momentum: float = 0.999
    """Momentum of the key encoder."""
    queue: int = 4096
    """Number of negatives; for a small cohort at most four keys per subject."""
    temperature: float = 0.2
    """τ of InfoNCE."""
    embed_batch: int = 4
    """Subjects embedded at a time."""


SETTINGS = {
    "default": MoCoSettings(),
    "quick": MoCoSettings(64, 10, (16, 32, 64, 128), 128, 24, 12, "adamw", 1e-3, 0.97, embed_batch=16),
}


class MoCo(CohortMethod):
    """The encoder's pooled features; the projection head is dropped, as usual after contrastive pretraining."""

    slug = "moco"
    title = "MoCo"
    learns: ClassVar[Learns] = "without labels"
    note = "trained on the cohort"

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, D) features.

        Raises:
            UserError: MONAI is not installed.
        """
        settings = scans.sized(SETTINGS)
        features = scan_features(scans, self.progress)
        self.updates = settings.epochs * (len(scans.subject_ids) // min(settings.batch, len(scans.subject_ids)))
        made_from = {"scans": features.signature(), "settings": asdict(settings), "seed": scans.seed}

        def make() -> dict[str, NDArray[np.float64]]:
            device = torch.device(chosen_device(scans.device))
            encoder = pretrained_encoder(features, settings, scans.seed, device, self.progress)
            return {"features": _embedded(encoder, features, settings, device)}

        return np.array(cached(scans.work / self.slug / "trained", made_from, make)["features"], dtype=np.float64)


class _Network(nn.Module):
    """Encoder and a projection head of two dense layers for the contrastive loss."""

    def __init__(self, settings: MoCoSettings) -> None:
        super().__init__()
        self.encoder = resnet(settings.depth, settings.widths)
        width = feature_count(settings.depth, settings.widths)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, settings.features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, P, P) to (B, F)."""
        return torch.as_tensor(self.head(self.encoder(x[:, None])))


def pretrained_encoder(
    features: ScanFeatures, settings: MoCoSettings, seed: int, device: torch.device, progress: bool
) -> nn.Module:
    """The encoder after contrastive pretraining, BatchNorm's statistics estimated on the cohort."""
    keep_memory()
    subjects = len(features.subject_ids)
    batch = min(settings.batch, subjects)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, INITIAL).initial_seed()))
        network = _Network(settings).to(device)
    key = key_copy(network).train()
    queue = KeyQueue(1, queue_length(settings.queue, subjects), settings.features).to(device)
    contrast = InfoNCE(settings.temperature)
    augmenter = Augmenter(_augmentation(settings.size), settings.size, device)
    optimiser: torch.optim.Optimizer
    if settings.optimiser == "sgd":
        optimiser = torch.optim.SGD(network.parameters(), settings.rate, momentum=0.9, weight_decay=1e-4)
    else:
        optimiser = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=1e-4)
    updates = subjects // batch
    for step in progress_over(range(settings.epochs * updates), "MoCo", "update", shown=progress):
        epoch, place = divmod(step, updates)
        rows = numpy_generator(seed, _ORDER, epoch).permutation(subjects)[place * batch : (place + 1) * batch]
        cubes = window(torch.from_numpy(features.cubes(rows, settings.size)).to(device))
        views = [augmenter.views(cubes, (seed, _VIEW, step, side)) for side in (0, 1)]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings.epochs * updates, settings.rate, 0.05)
        # Shuffled BatchNorm, as published: otherwise batch statistics leak the positive pair.
        keys = key_forward(key, [views[1]], "shuffle", (seed, _SHUFFLE, step))
        owners = torch.from_numpy(rows).to(device)
        result = contrast(query_forward(network, [views[0]], "shuffle"), keys, owners, None, queue)
        optimiser.zero_grad(set_to_none=True)
        result.loss.backward()
        optimiser.step()
        follow(key, network, settings.momentum, "shuffle")
        queue.enqueue(keys, owners)
    some = numpy_generator(seed, _ORDER, settings.epochs).permutation(subjects)[: 8 * batch]
    chunks = [some[start : start + batch] for start in range(0, len(some), batch)]
    with torch.inference_mode():
        recalibrate_batchnorm(
            network.encoder,
            (window(torch.from_numpy(features.cubes(c, settings.size)).to(device))[:, None] for c in chunks),
        )
    return network.encoder.eval()


def _augmentation(size: int) -> AugmentSettings:
    """Anatograph's default augmentation, noise included, with displacements scaled from a patch of 32 voxels to the
    cube; contrast is left unchanged, since density distinguishes subjects."""
    scale = size / 64
    return AugmentSettings(smooth_low=8 * scale, smooth_high=12 * scale, shift=4 * scale, gamma_probability=0.0)


@torch.inference_mode()
def _embedded(
    encoder: nn.Module, features: ScanFeatures, settings: MoCoSettings, device: torch.device
) -> NDArray[np.float64]:
    vectors = []
    for start in range(0, len(features.subject_ids), settings.embed_batch):
        rows = list(range(start, min(start + settings.embed_batch, len(features.subject_ids))))
        cubes = window(torch.from_numpy(features.cubes(rows, settings.size)).to(device))
        vectors.append(encoder(cubes[:, None]).double().cpu().numpy())
    return np.concatenate(vectors)
