"""Which voxels of a subject's patches are lung, eight to a byte."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INSIDE = "inside.npy"
"""The file in a subject's folder: (N, P³ / 8) uint8."""


def packed_length(patch_size: int) -> int:
    """Bytes for a patch."""
    return -(-(patch_size**3) // 8)


def pack(inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(N, P, P, P) to (N, P³ / 8)."""
    return np.packbits(inside.reshape(len(inside), -1), axis=1)


def unpack(bits: NDArray[np.uint8], patch_size: int) -> NDArray[np.bool_]:
    """The inverse of `pack`: (N, P³ / 8) to (N, P, P, P)."""
    flat = np.unpackbits(bits, axis=1, count=patch_size**3)
    return flat.reshape(len(bits), *(patch_size,) * 3).view(np.bool_)
