"""A study in memory whose patches are waves particular to subject and landmark, for tests of the training engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.imaging.volume import Frame, Mask
from anatograph.learning.contrast.augmentation import Augmenter
from anatograph.learning.data.cohort import read_cohort
from anatograph.learning.data.loader import PatchBatch, read_updates
from anatograph.learning.data.sampler import PatchSampler
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.training.presets import build_settings
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainState
from anatograph.study.settings import PreprocessSettings


@dataclass(frozen=True)
class SmallSubject:
    landmarks: NDArray[np.float64]
    edges: NDArray[np.int32]
    present: NDArray[np.bool_]
    patches: NDArray[np.int16]
    parenchyma_hu: NDArray[np.float64]


class SmallStudy:
    """What `Study` offers to pretraining, over arrays (S, N, P, P, P)."""

    def __init__(self, subjects: int = 6, grid: int = 2, patch: int = 16, seed: int = 0, absent: float = 0.0) -> None:
        random = np.random.default_rng(seed)
        places = np.stack(np.meshgrid(*[np.arange(grid)] * 3, indexing="ij"), -1).reshape(-1, 3)
        codes = (places / max(grid - 1, 1)).astype(np.float32)
        lungs = Mask(np.ones((2, 2, 2), np.uint8), Frame((2, 2, 2), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
        self.atlas = Atlas(places * 26.0, codes, lungs, patch_size=patch)
        self.settings = PreprocessSettings()
        self.subject_ids = [f"s{i:03d}" for i in range(subjects)]
        n = len(places)
        axis = np.arange(patch) - (patch - 1) / 2
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        subject, place = random.normal(size=(subjects, 1, 4)), random.normal(size=(1, n, 4))
        a, b, c, d = np.moveaxis(subject + 0.3 * place, -1, 0)[..., None, None, None]
        wave = np.sin(0.5 * (1 + 0.4 * a) * x + b) * np.cos(0.5 * (1 + 0.4 * c) * y) + np.sin(0.6 * z + 2 * d)
        self.patches = (-700 + 80 * d + 120 * wave + 15 * random.normal(size=wave.shape)).round().astype(np.int16)
        self.present = random.random((subjects, n)) >= absent
        self.present[:, 0] = True
        pairs = [(j, k) for j in range(n) for k in range(j + 1, n) if np.abs(places[j] - places[k]).sum() == 1]
        self.edges = np.array(pairs, dtype=np.int32).reshape(-1, 2)

    def subject(self, name: str) -> SmallSubject:
        i = self.subject_ids.index(name)
        return SmallSubject(
            self.atlas.landmarks, self.edges, self.present[i], self.patches[i], np.full(len(self.atlas), -860.0)
        )

    def digest(self) -> str:
        return "small"

    def read_patches(self, subject_ids: Sequence[str], landmarks: ArrayLike) -> NDArray[np.int16]:
        rows = [self.subject_ids.index(name) for name in subject_ids]
        return self.patches[rows, np.asarray(landmarks)]

    def read_inside(self, subject_ids: Sequence[str], landmarks: ArrayLike) -> NDArray[np.bool_]:
        return np.ones((len(subject_ids), *self.patches.shape[2:]), dtype=np.bool_)


SMALL = (
    "patch_size=16", "feature_size=16", "density_in_contrast=true", "patch_batch=8", "landmarks_per_batch=4",
    "graph_batch=4", "epochs=1",
    "patch_steps=4", "graph_rounds=3", "bank_views=2", "bank_draws=4", "recalibrate_batches=2", "log_every=2",
    "watch_every=2", "smooth_low=4", "smooth_high=6", "workers=0", "device=cpu",
)  # fmt: skip


def small(*overrides: str) -> PretrainSettings:
    """A run of seconds, for a study of patches of 16 voxels."""
    return build_settings("quick", None, [*SMALL, *overrides])


def begun(study: SmallStudy, settings: PretrainSettings) -> tuple[TrainState, Augmenter, PatchBatch]:
    """The state of a run before its first update, its augmenter and its first batch."""
    torch.manual_seed(0)
    model = Model(settings.model, study.atlas.location_codes)
    state = TrainState(model, settings, len(study.subject_ids), torch.device("cpu"))
    sampler = PatchSampler(study.present, settings.patch_batch, settings.landmarks_per_batch, settings.seed)
    batch = next(read_updates(read_cohort(study), sampler, range(1)))
    return state, Augmenter(settings.augment, settings.model.patch_size), batch


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
