"""Patches as a model is shown them: of lung alone, at a common inflation, where its settings say so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.lung_tissue import lung_tissue
from anatograph.learning.data.cohort import PatchSource, TrainingStudy
from anatograph.learning.model.config import ModelConfig


def shown(
    patches: NDArray[np.int16], inside: NDArray[np.bool_], parenchyma: float, config: ModelConfig
) -> NDArray[np.int16]:
    """One subject's patches (B, P, P, P) HU as the model sees them, before the window; ``inside`` (B, P, P, P)."""
    if not config.lungs_only and not config.inflation:
        return patches
    return lung_tissue(patches, inside if config.lungs_only else None, parenchyma, config.inflation)


class ShownPatches:
    """A study whose `read_patches` gives what the model is shown."""

    def __init__(self, study: TrainingStudy, config: ModelConfig) -> None:
        self._study, self._config = study, config
        self._parenchyma: dict[str, float] = {}

    def read_patches(self, subject_ids: Sequence[str], landmarks: ArrayLike, /) -> NDArray[np.int16]:
        """As `anatograph.study.store.Study.read_patches`."""
        patches = self._study.read_patches(subject_ids, landmarks)
        inside = self._study.read_inside(subject_ids, landmarks)
        names = np.asarray(subject_ids, dtype=object)
        for name in dict.fromkeys(subject_ids):
            if name not in self._parenchyma:
                self._parenchyma[name] = self._study.subject(name).parenchyma_hu
            rows = np.flatnonzero(names == name)
            patches[rows] = shown(patches[rows], inside[rows], self._parenchyma[name], self._config)
        return patches


def source_of(study: TrainingStudy, config: ModelConfig) -> PatchSource:
    """Where a model of this configuration reads the study's patches: the study itself where it is shown them whole."""
    return ShownPatches(study, config) if config.lungs_only or config.inflation else study
