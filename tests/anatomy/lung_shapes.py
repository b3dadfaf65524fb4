"""Two lungs as a formula, so that a mapped mask can be drawn at any spacing with its true map known."""

from __future__ import annotations

import numpy as np

from anatograph.anatomy.registration import AffineMap
from anatograph.imaging.volume import Frame, Mask

IDENTITY = AffineMap(np.eye(3), np.zeros(3))


def inside(points: np.ndarray) -> np.ndarray:
    """Whether points (..., 3), LPS mm, are lung: two tapered ellipsoids of unequal size, hollow at heart and base."""
    x, y, z = np.moveaxis(points, -1, 0)
    taper = 1 - 0.25 * (z / 130) ** 2 - 0.15 * z / 130
    right = ((x + 72) / (55 * taper)) ** 2 + ((y - 4) / (85 * taper)) ** 2 + (z / 128) ** 2 < 1
    left = ((x - 74) / (50 * taper)) ** 2 + ((y - 8) / (80 * taper)) ** 2 + ((z - 4) / 122) ** 2 < 1
    heart = ((x - 30) / 52) ** 2 + ((y + 30) / 55) ** 2 + ((z + 45) / 60) ** 2 < 1
    dome = ((x + 70) / 75) ** 2 + ((y + 10) / 80) ** 2 + ((z + 125) / 50) ** 2 < 1
    dome |= ((x - 75) / 70) ** 2 + ((y + 10) / 80) ** 2 + ((z + 128) / 42) ** 2 < 1
    return (right | left) & ~heart & ~dome


def bend(points: np.ndarray, height: float) -> np.ndarray:
    """Points (N, 3) with the middle between front and back raised by up to ``height`` mm, as no affine map can."""
    raised = points.copy()
    raised[:, 2] += height * np.exp(-(((points[:, 1] - 5) / 30) ** 2))
    return raised


def draw(
    map_: AffineMap = IDENTITY,
    spacing: tuple[float, float, float] = (2.0, 2.0, 2.0),
    height: float = 0.0,
    sided: bool = False,
) -> Mask:
    """The lungs after `bend` and then ``map_``, as a mask with air around; ``sided`` labels right and left."""
    box = np.array([[x, y, z] for x in (-140, 140) for y in (-100, 100) for z in (-145, 145 + height)], dtype=float)
    corners = map_.to_subject(box)
    low, high = corners.min(axis=0) - 7.3, corners.max(axis=0) + 7.3
    size = np.ceil((high - low) / spacing).astype(int)
    frame = Frame((int(size[2]), int(size[1]), int(size[0])), spacing, (low[0], low[1], low[2]))
    z, y, x = np.meshgrid(*(np.arange(n) for n in frame.shape), indexing="ij")
    points = frame.to_lps(np.stack([x, y, z], axis=-1)).reshape(-1, 3)
    own = bend(map_.to_atlas(points), -height)
    side = np.where(own[:, 0] < 0, Mask.RIGHT, Mask.LEFT) if sided else Mask.UNSIDED
    return Mask((inside(own) * side).astype(np.uint8).reshape(frame.shape), frame)


def some_map(seed: int, entries: float = 0.06, shift: float = 25.0) -> AffineMap:
    rng = np.random.default_rng(seed)
    return AffineMap(np.eye(3) + rng.uniform(-entries, entries, (3, 3)), rng.uniform(-shift, shift, 3))
