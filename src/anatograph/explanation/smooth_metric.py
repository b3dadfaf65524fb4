"""The penalty of a probe that does not rely on how the regions of one lung differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anatograph.embedding.regions import Regions
from anatograph.learning.model.whitening import MOST, whitening


def smooth_metric(regions: Regions, subject_ids: Sequence[str]) -> NDArray[np.float64]:
    """`whitening` (F, F) of the regions of some subjects, of many an even selection, as a metric for `fit_probe`.

    A probe of subject features has as many weights as there are subjects or more, and uses whatever separates them.
    Directions in which the regions of one lung vary cost it nothing, since they average out over the lung; a map of
    its M_j = W h'_j is then mostly that variation. With this metric such directions are costly: of all weights that
    predict about as well, those with the smoothest map are taken.
    """
    step = max(1, -(-len(subject_ids) // MOST))
    return whitening(np.array([regions.of(name) for name in subject_ids[::step]]))
