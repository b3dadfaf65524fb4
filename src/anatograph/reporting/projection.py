"""Subjects on a plane: UMAP where it is installed and there are enough of them, else principal components."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_FOR_UMAP = 30
"""Below this, neighbourhoods carry no information and only the principal components are shown."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Subjects on a plane."""

    name: str
    """The method in words."""
    points: NDArray[np.float64]
    """(n, 2)."""
    axes: tuple[str, str]
    """Titles of the axes."""
    scaled: bool
    """Whether the numbers on the axes mean something."""


def project(features: NDArray[np.float64], seed: int = 0, umap: bool = True) -> Plane:
    """Standardised features (n, F) on a plane; the same features give the same plane.

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
            return Plane("UMAP, 15 neighbours", np.asarray(plane, dtype=np.float64), ("UMAP 1", "UMAP 2"), False)
    left, singular, right = np.linalg.svd(standardised, full_matrices=False)
    # The sign of a component is free: its largest weight is made positive.
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    plane = (left * singular * signs)[:, :2]
    if plane.shape[1] < 2:
        plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    shares = singular**2 / max(float((singular**2).sum()), 1e-12)
    first, second = 100 * shares[0], 100 * shares[1] if len(shares) > 1 else 0.0
    axes = (f"PC 1 ({first:.0f} % of the variance)", f"PC 2 ({second:.0f} %)")
    return Plane("principal components", plane, axes, True)
