"""Densitometry: a dozen standard measures of lung density, from HU as the scanner gave them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.features.scan_features import scan_features
from anatograph.baselines.method import CohortMethod, Learns, Scans


class Densitometry(CohortMethod):
    """LAA-950, LAA-910, percentiles of density (Perc15 among them), mean, standard deviation and lung volume."""

    slug = "densitometry"
    title = "Densitometry"
    learns: ClassVar[Learns] = "nothing"

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, K) measures, in the order of `anatograph.baselines.features.density_figures.FIGURES`."""
        return scan_features(scans, self.progress).density()
