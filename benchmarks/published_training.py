"""The published recipe of pretraining, written plainly, timed part by part; `pretrain_throughput` compares with it."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose, Rand3DElastic, RandAdjustContrast, RandGaussianNoise
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import DataLoader, Dataset

from anatograph.learning.contrast.info_nce import InfoNCE
from anatograph.learning.contrast.momentum import key_copy, momentum_update
from anatograph.learning.contrast.queues import KeyQueue
from anatograph.learning.data.cohort import TrainingCohort
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.graphs import make_graphs

IN_PROCESS, IN_WORKERS = "augmentation in this process", "augmentation in loader workers"


def used() -> float:
    """Processor seconds of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Clock:
    """Wall and processor seconds of named parts."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def __call__(self, name: str, part: Callable[[], Any], scale: float = 1.0) -> Any:
        wall, cpu = time.perf_counter(), used()
        result = part()
        self.wall[name] = self.wall.get(name, 0.0) + scale * (time.perf_counter() - wall)
        self.cpu[name] = self.cpu.get(name, 0.0) + scale * (used() - cpu)
        return result


class Patches:
    """A study in memory: smooth random tissue, the same few patches again and again."""

    def __init__(self, landmarks: int) -> None:
        coarse = np.random.default_rng(0).normal(-750, 150, (64, 8, 8, 8)).astype(np.float32)
        fine = F.interpolate(torch.from_numpy(coarse)[:, None], size=32, mode="trilinear", align_corners=True)
        self.patches = fine[:, 0].clamp(-1024, 240).to(torch.int16).numpy()
        self.landmarks = landmarks

    def read_patches(self, subject_ids: Sequence[str], landmarks: ArrayLike) -> NDArray[np.int16]:
        rows = (np.array([int(s) for s in subject_ids]) * 7 + np.asarray(landmarks)) % len(self.patches)
        return self.patches[rows]


def published_transform() -> Compose:
    """The published code's transforms, on HU + 1024."""
    angle = math.pi / 18
    elastic = Rand3DElastic(
        prob=1.0,
        sigma_range=(8, 12),
        magnitude_range=(0, 1264),
        spatial_size=(32, 32, 32),
        translate_range=(12, 12, 12),
        rotate_range=(angle, angle, angle),
        scale_range=(0.1, 0.1, 0.1),
        mode="bilinear",
        padding_mode="border",
    )
    return Compose([RandAdjustContrast(prob=0.25), RandGaussianNoise(prob=0.25, mean=0.0, std=50), elastic])


class PlainViews(Dataset[torch.Tensor]):
    """Two views of each item, the plain way: transforms run on one item at a time in a loader worker."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.transform = images, published_transform()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> torch.Tensor:
        return torch.stack([torch.as_tensor(self.transform(self.images[item])) for _ in range(2)])


def loader_seconds(images: torch.Tensor, workers: int) -> float:
    """Wall seconds of two views of each of ``images`` (M, C, P, P, P) from this many workers, once they are running."""
    loader: Any = DataLoader(PlainViews(images), batch_size=1, num_workers=workers, persistent_workers=True)
    seconds = 0.0
    for _ in range(2):  # the first round starts the workers and selects kernels
        began = time.perf_counter()
        for _ in loader:
            pass
        seconds = time.perf_counter() - began
    return seconds


def published_patch(cohort: TrainingCohort, codes: NDArray[np.float32], batch: int, views: int) -> Clock:
    """One update of the published patch level (single process, so nothing is shuffled between GPUs)."""
    clock = Clock()
    torch.manual_seed(0)
    model = Model(ModelConfig(), codes)
    key, queue, nce = key_copy(model), KeyQueue(1, 4096, 128, torch.float32), InfoNCE(0.2, mask_same_subject=False)
    optimiser = torch.optim.SGD(model.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)
    transform = published_transform()
    hu = cohort.source.read_patches([str(i % len(cohort.ids)) for i in range(batch)], [0] * batch)
    images = torch.from_numpy(hu.astype(np.float32) + 1024.0)
    queue.enqueue(torch.randn(4096, 128), torch.arange(4096))
    code = torch.as_tensor(codes[:1]).expand(batch, -1)
    owners = torch.arange(batch)

    def view() -> torch.Tensor:
        made = [torch.as_tensor(transform(image[None]))[0] for image in images[:views]]
        return torch.stack([made[i % len(made)] for i in range(batch)]) / 632.0 - 1.0

    first = clock(IN_PROCESS, view, batch / views)
    second = clock(IN_PROCESS, view, batch / views)
    clock.wall[IN_WORKERS] = loader_seconds(images[:views, None], torch.get_num_threads()) * batch / views
    model.train()
    key.train()

    def update(part: Clock) -> None:
        part("momentum update", lambda: momentum_update(key, model, 0.999, "own"))
        with torch.no_grad():
            keys = part("key forward", lambda: key.contrast_features(second, code))
        loss = part(
            "forward and backward", lambda: nce(model.contrast_features(first, code), keys, owners, None, queue)
        )
        optimiser.zero_grad()
        part("forward and backward", loss.loss.backward)
        part("optimiser step", optimiser.step)
        part("queue", lambda: queue.enqueue(keys, owners))

    update(Clock())  # selects the convolutions' kernels
    update(clock)
    return clock


def published_graph(cohort: TrainingCohort, codes: NDArray[np.float32], batch: int, subjects: int) -> Clock:
    """One round of the published graph level: two fresh views of ``batch`` subjects, measured on ``subjects``."""
    clock = Clock()
    torch.manual_seed(0)
    model, transform = Model(ModelConfig(), codes).eval(), published_transform()
    trained = Model(ModelConfig(), codes)
    key = key_copy(trained)
    nce, queue = InfoNCE(0.2, mask_same_subject=False), KeyQueue(1, 4096, 128, torch.float32)
    queue.enqueue(torch.randn(4096, 128), torch.arange(4096))
    optimiser = torch.optim.SGD(trained.parameters(), 0.03, momentum=0.9, weight_decay=1e-4)
    found = []
    for row in range(2 * subjects):
        hu = cohort.source.read_patches([cohort.ids[row // 2]] * cohort.landmarks, np.arange(cohort.landmarks))
        image = torch.from_numpy(hu.astype(np.float32) + 1024.0)
        view = clock(IN_PROCESS, lambda image=image: torch.as_tensor(transform(image)), batch / subjects)
        with torch.no_grad():
            x = view / 632.0 - 1.0
            h = clock("patches through E", lambda x=x: model.patch_features(x, model.location_codes), batch / subjects)
        found.append(h)
    # Every worker gets the same number of subjects.
    items = torch.stack([image] * max(subjects, torch.get_num_threads()))
    clock.wall[IN_WORKERS] = loader_seconds(items, torch.get_num_threads()) * batch / len(items)
    h = torch.stack([found[i % len(found)] for i in range(2 * batch)])
    graphs = make_graphs([cohort.edges[0]] * batch, cohort.landmarks)

    def update() -> None:
        momentum_update(key, trained, 0.999, "own")
        with torch.no_grad():
            keys = key.subject_projection(h[1::2], graphs)
        loss = nce(trained.subject_projection(h[::2], graphs), keys, torch.arange(batch), None, queue).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        queue.enqueue(keys, torch.arange(batch))

    clock("G", update)
    return clock
