"""A study whose patches are read as a model is shown them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.learning.data.cohort import PatchSource, TrainingStudy
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.shown import needs_lungs, shown


class ShownPatches:
    """A study whose `read_patches` gives what the model is shown."""

    def __init__(self, study: TrainingStudy, config: ModelConfig) -> None:
        self._study, self._config = study, config
        self._parenchyma: dict[str, NDArray[np.float64]] = {}

    def read_patches(self, subject_ids: Sequence[str], landmarks: ArrayLike, /) -> NDArray[np.int16]:
        """As `anatograph.study.store.Study.read_patches`."""
        patches = self._study.read_patches(subject_ids, landmarks)
        inside = self._study.read_inside(subject_ids, landmarks)
        names = np.asarray(subject_ids, dtype=object)
        places = np.broadcast_to(np.asarray(landmarks), len(names))
        for name in dict.fromkeys(subject_ids):
            if name not in self._parenchyma:
                self._parenchyma[name] = self._study.subject(name).parenchyma_hu
            rows = np.flatnonzero(names == name)
            densities = self._parenchyma[name][places[rows]]
            patches[rows] = shown(patches[rows], inside[rows], densities, self._config)
        return patches


def source_of(study: TrainingStudy, config: ModelConfig) -> PatchSource:
    """Where a model of this configuration reads the study's patches: the study itself where it is shown them whole."""
    return ShownPatches(study, config) if needs_lungs(config) else study
