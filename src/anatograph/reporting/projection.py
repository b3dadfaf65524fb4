"""Subjects on a plane: UMAP where it is installed and there are enough of them, else principal components."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

FEWEST_FOR_UMAP = 30
"""Below this, neighbourhoods say nothing and the principal components are shown."""


def project(features: NDArray[np.float64], seed: int = 0, umap: bool = True) -> tuple[NDArray[np.float64], str]:
    """Standardised features (n, F) on a plane (n, 2), and the method in words; the same features, the same plane.

    Without ``umap`` it is the principal components in any case.
    """
    mean, std = features.mean(axis=0), features.std(axis=0)
    standardised = (features - mean) / np.where(std > 0, std, 1.0)
    if umap and len(features) >= FEWEST_FOR_UMAP:
        try:
            from umap import UMAP
        except ImportError:
            pass
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                plane = UMAP(n_neighbors=15, random_state=seed).fit_transform(standardised)
            return np.asarray(plane, dtype=np.float64), "UMAP, 15 neighbours"
    left, singular, right = np.linalg.svd(standardised, full_matrices=False)
    # The sign of a component is free: its largest weight is made positive.
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    plane = (left * singular * signs)[:, :2]
    if plane.shape[1] < 2:
        plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    shares = singular**2 / max(float((singular**2).sum()), 1e-12)
    said = " and ".join(f"{share:.0%}" for share in shares[:2])
    return plane, f"first two principal components ({said} of the variance)"
