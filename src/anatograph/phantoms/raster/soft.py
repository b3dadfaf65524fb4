"""Partial volume: soft edges and blending, in place and in single precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def soft(level: Float, width: float) -> Float:
    """0 outside, 1 inside a level set (mm), with ``width`` mm of partial volume in between."""
    result = level * np.float32(1.0 / width)
    result += np.float32(0.5)
    np.maximum(result, np.float32(0.0), out=result)
    np.minimum(result, np.float32(1.0), out=result)
    return np.asarray(result)


def over(hu: Float, value: Float | np.float32, weight: Float) -> None:
    """Blends ``value`` over ``hu`` in place."""
    change = np.subtract(value, hu)
    change *= weight
    hu += change
