"""'w/o place': the ablation of pooling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.method import Scans
from anatograph.baselines.networks.context_model import ContextModelRow


class WithoutPlace(ContextModelRow):
    """The plain mean of the whole model's node features (eq. 7), whatever the model's own pooling.

    With a model that pools by the mean it equals the model's row.
    """

    slug = "without-place"
    title = "w/o place (mean pooling)"

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, F) the mean over the landmarks that a subject has."""
        return np.asarray(np.nanmean(self.regions(scans), axis=1))
