"""LAA-950: the clinical descriptor of emphysema."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.features.density_figures import FIGURES
from anatograph.baselines.features.scan_features import scan_features
from anatograph.baselines.method import CohortMethod, Learns, Scans


class LAA950(CohortMethod):
    """Share of lung voxels below -950 HU, one number per subject, from HU as the scanner gave them."""

    slug = "laa950"
    title = "LAA-950"
    learns: ClassVar[Learns] = "nothing"

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, 1) shares."""
        column = FIGURES.index("LAA-950")
        return scan_features(scans, self.progress).density()[:, column : column + 1]
