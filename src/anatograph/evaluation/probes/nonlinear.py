"""A probe that is not linear: what else a vector reveals, such as the scanner."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fit_nonlinear(features: NDArray[np.float64], labels: NDArray[np.int64]) -> Any:
    """A support vector machine with Gaussian kernel (C = 10, width by the variance) on standardised features.

    ``features`` (n, D), ``labels`` (n,) class indices, at least two of them; ``.predict`` gives class indices.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=10.0, gamma="scale")).fit(features, labels)
