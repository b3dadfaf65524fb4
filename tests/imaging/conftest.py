"""Scans that the tests of readers share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def fine(chest: NDArray[np.int16]) -> NDArray[np.int16]:
    """The chest with twice the slices: what lies between is needed for a scan half a step apart."""
    return np.repeat(chest, 2, axis=0)
