"""Low attenuation area and its kin: the density of the lungs in plain figures, from HU as the scanner gave them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.features.figures import FIGURES
from anatograph.baselines.features.survey import survey_of
from anatograph.baselines.method import CohortMethod, Learns, Scans


class LAA950(CohortMethod):
    """Share of lung voxels below -950 HU, one number a person: the clinical descriptor of emphysema."""

    slug = "laa950"
    title = "LAA-950"
    learns: ClassVar[Learns] = "nothing"

    def __init__(self, progress: bool = True) -> None:
        self.progress = progress

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, 1) shares."""
        column = FIGURES.index("LAA-950")
        return survey_of(scans, self.progress).figures()[:, column : column + 1]


class Densitometry(CohortMethod):
    """LAA-950, LAA-910, percentiles of density (Perc15 among them), mean, spread and lung volume."""

    slug = "densitometry"
    title = "Densitometry"
    learns: ClassVar[Learns] = "nothing"

    def __init__(self, progress: bool = True) -> None:
        self.progress = progress

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, K) figures, in the order of `FIGURES`."""
        return survey_of(scans, self.progress).figures()
