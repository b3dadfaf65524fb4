"""MoCo in 3D: an encoder of whole resized scans that learns to tell people apart (He et al. 2020)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anatograph.baselines.features.kept import kept
from anatograph.baselines.features.survey import Survey, survey_of
from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.baselines.networks.resnets import Depth, feature_count, resnet
from anatograph.embedding.api import chosen_device
from anatograph.learning.contrast.augmentation import Augmenter, AugmentSettings
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.contrast.keys import follow, key_forward, query_forward
from anatograph.learning.contrast.momentum import key_copy
from anatograph.learning.contrast.queues import InfoNCE, KeyQueue, queue_length
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
    """Passes over the people."""
    batch: int = 8
    """People of an update; what a large GPU holds at 256³."""
    optimiser: str = "sgd"
    """sgd as published (momentum 0.9, weight decay 1e-4), or adamw, which learns more in a few hundred updates."""
    rate: float = 0.03
    """Learning rate at the top of its cosine."""
    momentum: float = 0.999
    """How slowly the key encoder follows."""
    queue: int = 4096
    """Negatives; a small cohort's queue holds at most four keys of everybody."""
    temperature: float = 0.2
    """τ of InfoNCE."""
    embed_batch: int = 4
    """People embedded at a time."""


SETTINGS = {
    "default": MoCoSettings(),
    "quick": MoCoSettings(64, 10, (16, 32, 64, 128), 128, 24, 12, "adamw", 1e-3, 0.97, embed_batch=16),
}


class MoCo(CohortMethod):
    """The encoder's pooled features; its head is left out, as after all contrastive pretraining."""

    slug = "moco"
    title = "MoCo"
    learns: ClassVar[Learns] = "without labels"
    note = "trained on the cohort"

    def __init__(self, progress: bool = True) -> None:
        self.progress = progress

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, D) features.

        Raises:
            UserError: no MONAI.
        """
        settings = SETTINGS["quick" if scans.preset == "quick" else "default"]
        survey = survey_of(scans, self.progress)
        made_from = {"scans": survey.signature(), "settings": asdict(settings), "seed": scans.seed}

        def make() -> dict[str, NDArray[np.float64]]:
            device = torch.device(chosen_device(scans.device))
            encoder = pretrained_encoder(survey, settings, scans.seed, device, self.progress)
            return {"features": _features(encoder, survey, settings, device)}

        return np.array(kept(scans.work / self.slug / "trained", made_from, make)["features"], dtype=np.float64)


class _Network(nn.Module):
    """Encoder and the head of two dense layers that the contrast sees."""

    def __init__(self, settings: MoCoSettings) -> None:
        super().__init__()
        self.encoder = resnet(settings.depth, settings.widths)
        width = feature_count(settings.depth, settings.widths)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, settings.features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, P, P) to (B, F)."""
        return torch.as_tensor(self.head(self.encoder(x[:, None])))


def pretrained_encoder(
    survey: Survey, settings: MoCoSettings, seed: int, device: torch.device, progress: bool
) -> nn.Module:
    """The encoder after contrast of everybody with everybody else, BatchNorm's statistics those of the cohort."""
    from tqdm import tqdm

    keep_memory()
    people = len(survey.subject_ids)
    batch = min(settings.batch, people)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, INITIAL).initial_seed()))
        network = _Network(settings).to(device)
    key = key_copy(network).train()
    queue = KeyQueue(1, queue_length(settings.queue, people), settings.features).to(device)
    contrast = InfoNCE(settings.temperature)
    augmenter = Augmenter(_augmentation(settings.size), settings.size, device)
    optimiser: torch.optim.Optimizer
    if settings.optimiser == "sgd":
        optimiser = torch.optim.SGD(network.parameters(), settings.rate, momentum=0.9, weight_decay=1e-4)
    else:
        optimiser = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=1e-4)
    updates = people // batch
    bar = tqdm(range(settings.epochs * updates), desc="MoCo", unit="update", disable=not progress)
    for step in bar:
        epoch, place = divmod(step, updates)
        rows = numpy_generator(seed, _ORDER, epoch).permutation(people)[place * batch : (place + 1) * batch]
        cubes = window(torch.from_numpy(survey.cubes(rows, settings.size)).to(device))
        views = [augmenter.views(cubes, (seed, _VIEW, step, side)) for side in (0, 1)]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings.epochs * updates, settings.rate, 0.05)
        # Keys in shuffled parts, as published: otherwise BatchNorm would mark which query a key belongs to.
        keys = key_forward(key, [views[1]], "shuffle", (seed, _SHUFFLE, step))
        owners = torch.from_numpy(rows).to(device)
        found = contrast(query_forward(network, [views[0]], "shuffle"), keys, owners, queue=queue)
        optimiser.zero_grad(set_to_none=True)
        found.loss.backward()
        optimiser.step()
        follow(key, network, settings.momentum, "shuffle")
        queue.enqueue(keys, owners)
        if step % 10 == 0:
            bar.set_postfix_str(f"loss {float(found.loss.detach()):.3f}", refresh=False)
    some = numpy_generator(seed, _ORDER, settings.epochs).permutation(people)[: 8 * batch]
    chunks = [some[start : start + batch] for start in range(0, len(some), batch)]
    with torch.inference_mode():
        recalibrate_batchnorm(
            network.encoder,
            (window(torch.from_numpy(survey.cubes(c, settings.size)).to(device))[:, None] for c in chunks),
        )
    return network.encoder.eval()


def _augmentation(size: int) -> AugmentSettings:
    """The product's own views, their reach in voxels scaled from a patch of 32 to the cube; contrast is kept, as
    density is what tells people apart."""
    scale = size / 64
    return AugmentSettings(
        smooth_low=8 * scale, smooth_high=12 * scale, shift=4 * scale, gamma_probability=0.0, noise_probability=0.8
    )


@torch.inference_mode()
def _features(encoder: nn.Module, survey: Survey, settings: MoCoSettings, device: torch.device) -> NDArray[np.float64]:
    found = []
    for start in range(0, len(survey.subject_ids), settings.embed_batch):
        rows = list(range(start, min(start + settings.embed_batch, len(survey.subject_ids))))
        cubes = window(torch.from_numpy(survey.cubes(rows, settings.size)).to(device))
        found.append(encoder(cubes[:, None]).double().cpu().numpy())
    return np.concatenate(found)
