"""What a model says about one subject."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Embedding(NamedTuple):
    """Features of one subject and of each of its landmarks."""

    subject: NDArray[np.float32]
    """(M · F,) the subject's feature: the mean over the nodes that are present (eq. 7 without f_g), and the model's
    further parts that say where (`anatograph.learning.model.pooling`)."""
    nodes: NDArray[np.float32]
    """(N, F) each landmark's feature after G (h'_j of eq. 10); rows of absent landmarks are NaN."""
    patch_features: NDArray[np.float32]
    """(N, F) each landmark's feature before G (h_j of eq. 4, or C's); rows of absent landmarks are NaN."""
