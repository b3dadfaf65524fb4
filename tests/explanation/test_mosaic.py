"""Slices put together from stored patches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from anatograph.explanation.mosaic import mosaic
from anatograph.imaging.views import AXIAL, CORONAL


def _subject() -> Any:
    """Two patches of 4 mm, side by side from right to left and touching, and a third that is absent; HU say which."""
    patches = np.stack([np.full((4, 4, 4), value, dtype=np.int16) for value in (-900, -100, 500)])
    patches[0, 3] = -800  # the uppermost millimetre of the first
    landmarks = np.array([[2.0, 2.0, 2.0], [6.0, 2.0, 2.0], [10.0, 2.0, 2.0]])
    return SimpleNamespace(patches=patches, landmarks=landmarks, present=np.array([True, True, False]))


def test_every_pixel_is_that_of_the_nearest_patch() -> None:
    low, high = np.zeros(3), np.array([12.0, 4.0, 4.0])
    axial = mosaic(_subject(), AXIAL, low, high)
    assert axial.shape == (4, 12)
    assert (axial[:, :4] == -900).all()
    assert (axial[:, 4:8] == -100).all()
    assert np.isnan(axial[:, 8:]).all()
    coronal = mosaic(_subject(), CORONAL, low, high)
    assert (coronal[3, :4] == -800).all()
    assert (coronal[:3, :4] == -900).all()
