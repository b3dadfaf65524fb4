"""Hounsfield units to the numbers the networks see."""

from __future__ import annotations

import torch
from torch import Tensor

HU_WINDOW = (-1024.0, 240.0)
"""The paper's window: air to soft tissue."""


def window(hu: Tensor, low: float = HU_WINDOW[0], high: float = HU_WINDOW[1]) -> Tensor:
    """Clip Hounsfield units (any shape, any dtype) to [low, high] and scale them linearly to [-1, 1], float32."""
    return hu.to(torch.float32).clamp(low, high).sub_(low).mul_(2.0 / (high - low)).sub_(1.0)
