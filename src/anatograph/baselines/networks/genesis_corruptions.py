"""The corruptions that Models Genesis learns to undo: intensity changes, local shuffling, in- and out-painting.

Zhou et al. 2019, with the rates of the authors' code. Volumes are (D, H, W) in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class CorruptionRates:
    """Probability of each corruption."""

    flip: float = 0.4
    """Probability of each of up to three flips, applied to the volume and its target alike."""
    shuffle: float = 0.5
    """Local shuffling."""
    intensity: float = 0.9
    """Non-linear intensity."""
    paint: float = 0.9
    """In- or out-painting."""
    outer: float = 0.8
    """Share of out-painting in that."""


def corrupted(
    volume: Volume, random: np.random.Generator, rates: CorruptionRates | None = None
) -> tuple[Volume, Volume]:
    """A corrupted volume and its restoration target."""
    rates = rates or CorruptionRates()
    for _ in range(3):
        if random.random() >= rates.flip:
            break
        volume = np.flip(volume, int(random.integers(3)))
    target = np.ascontiguousarray(volume)
    changed = target
    if random.random() < rates.shuffle:
        changed = locally_shuffled(changed, random)
    if random.random() < rates.intensity:
        changed = nonlinear_intensity(changed, random)
    if random.random() < rates.paint:
        outer = random.random() < rates.outer
        changed = out_painted(changed, random) if outer else in_painted(changed, random)
    return changed, target


def nonlinear_intensity(volume: Volume, random: np.random.Generator) -> Volume:
    """Intensities through a monotone cubic Bézier curve from 0 to 1; half of the curves are decreasing."""
    points = np.array([[0.0, 0.0], random.random(2), random.random(2), [1.0, 1.0]])
    t = np.linspace(0.0, 1.0, 1000)[:, None]
    x, y = sum(comb(3, k) * t**k * (1 - t) ** (3 - k) * points[k] for k in range(4)).T
    y = np.sort(y)
    if random.random() < 0.5:
        y = y[::-1]
    return np.asarray(np.interp(volume, np.sort(x), y), dtype=np.float32)


def locally_shuffled(volume: Volume, random: np.random.Generator) -> Volume:
    """Voxels shuffled within many small blocks, up to a tenth of a side; each block keeps its set of values."""
    most = [max(1, n // 10) for n in volume.shape]
    # The authors shuffle 10,000 blocks of a volume of 64 × 64 × 32.
    blocks = max(1, round(10_000 * volume.size / (64 * 64 * 32)))
    sizes = np.stack([random.integers(1, n + 1, blocks) for n in most], axis=1)
    strides = np.array([volume.shape[1] * volume.shape[2], volume.shape[2], 1])
    flat, result = volume.reshape(-1), volume.reshape(-1).copy()
    for size in np.unique(sizes, axis=0):
        count = int((sizes == size).all(axis=1).sum())
        corner = np.stack([random.integers(0, n - s + 1, count) for n, s in zip(volume.shape, size, strict=True)], 1)
        offset = np.stack(np.meshgrid(*(np.arange(s) for s in size), indexing="ij"), -1).reshape(-1, 3) @ strides
        places = (corner @ strides)[:, None] + offset[None]
        mixed = np.take_along_axis(places, random.random(places.shape).argsort(axis=1), axis=1)
        result[places] = flat[mixed]
    return result.reshape(volume.shape)


def in_painted(volume: Volume, random: np.random.Generator) -> Volume:
    """Up to five blocks, a sixth to a third of a side, filled with noise."""
    result = volume.copy()
    for _ in range(5):
        if random.random() >= 0.95:
            break
        block = _block(volume.shape, [(n // 6, n // 3) for n in volume.shape], random)
        result[block] = random.random(result[block].shape, dtype=np.float32)
    return result


def out_painted(volume: Volume, random: np.random.Generator) -> Volume:
    """All but up to five blocks, three to four sevenths of a side, filled with noise."""
    result = random.random(volume.shape, dtype=np.float32)
    for number in range(5):
        if number and random.random() >= 0.95:
            break
        block = _block(volume.shape, [(n - 4 * n // 7, n - 3 * n // 7) for n in volume.shape], random)
        result[block] = volume[block]
    return result


def _block(
    shape: tuple[int, ...], sizes: list[tuple[int, int]], random: np.random.Generator
) -> tuple[slice, slice, slice]:
    """A block of a size within the given bounds (both included), at least three voxels from the faces."""
    block = []
    for n, (low, high) in zip(shape, sizes, strict=True):
        size = int(random.integers(low, high + 1))
        start = int(random.integers(min(3, n - size), max(n - size - 3, 0) + 1)) if n - size > 3 else 0
        block.append(slice(start, start + size))
    return block[0], block[1], block[2]
