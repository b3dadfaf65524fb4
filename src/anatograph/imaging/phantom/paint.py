"""Drawing small things on the fine grid: tubes by depositing their volume, balls and thick tubes by distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Array = NDArray[np.float64]


def deposit_tubes(
    shape: tuple[int, int, int], start: Array, end: Array, radius: Array, spacing: Array, rng: np.random.Generator
) -> Float:
    """Share of every voxel that tubes fill, (z, y, x) in 0..1.

    start, end: (S, 3) fractional voxel indices z, y, x; radius (S,) mm; spacing (3,) mm along z, y, x. Each tube is cut
    into grains of known volume that are shared out among their eight neighbouring voxels, so that a vessel thinner
    than a voxel is as faint as it would be in a scan.
    """
    length = np.linalg.norm((end - start) * spacing, axis=1)
    fine = float(spacing.min())
    ring = np.clip(np.ceil((radius / (0.55 * fine)) ** 2 * 0.9), 1, 64).astype(np.int64)
    steps = np.maximum(np.ceil(length / (0.6 * fine)), 1).astype(np.int64)
    grains = ring * steps
    segment = np.repeat(np.arange(len(start)), grains)
    number = np.arange(len(segment)) - np.repeat(np.cumsum(grains) - grains, grains)
    along = (number // ring[segment] + 0.5) / steps[segment]
    # Sunflower pattern over the cross-section.
    turn = number % ring[segment]
    distance = radius[segment] * np.sqrt((turn + 0.5) / ring[segment])
    distance[ring[segment] == 1] = 0.0
    angle = 2.399963 * number
    axis = (end - start) * spacing
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-9)
    helper = np.where(np.abs(axis[:, :1]) < 0.8, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    side = np.cross(axis, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(axis, side)
    where = start[segment] + along[:, None] * (end - start)[segment]
    spread = (distance * np.cos(angle))[:, None] * side[segment] + (distance * np.sin(angle))[:, None] * other[segment]
    where += spread / spacing
    volume = np.pi * radius**2 * length / grains / np.prod(spacing)
    out = np.zeros(int(np.prod(shape)), dtype=np.float64)
    base = np.floor(where).astype(np.int64)
    rest = where - base
    weight_all = volume[segment]
    limits = np.asarray(shape)
    inside = ((base >= 0) & (base < limits - 1)).all(axis=1)
    base, rest, weight_all = base[inside], rest[inside], weight_all[inside]
    flat = (base[:, 0] * shape[1] + base[:, 1]) * shape[2] + base[:, 2]
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                weight = weight_all.copy()
                for k, d in enumerate((dz, dy, dx)):
                    weight *= rest[:, k] if d else 1.0 - rest[:, k]
                np.add.at(out, flat + (dz * shape[1] + dy) * shape[2] + dx, weight)
    return np.minimum(out, 1.0).astype(np.float32).reshape(shape)


def stamp_balls(out: Float, centre: Array, radius: Array, spacing: Array, edge_mm: float) -> None:
    """Draws soft balls into ``out`` (z, y, x), keeping the larger value: 1 inside, 0 outside, ``edge_mm`` between.

    centre: (B, 3) fractional voxel indices z, y, x; radius (B,) mm.
    """
    if not len(centre):
        return
    shape = np.asarray(out.shape)
    flat_out = out.reshape(-1)
    classes = np.ceil((radius + edge_mm) / 1.0).astype(np.int64)
    for reach in np.unique(classes):
        which = classes == reach
        half = np.ceil(reach / spacing).astype(np.int64) + 1
        offsets = np.stack(np.meshgrid(*(np.arange(-h, h + 1) for h in half), indexing="ij"), axis=-1).reshape(-1, 3)
        offsets = offsets[np.linalg.norm(offsets * spacing, axis=1) <= reach + 0.9 * float(np.linalg.norm(spacing))]
        for block in np.array_split(np.flatnonzero(which), max(1, int(which.sum()) * len(offsets) // 2_000_000)):
            base = np.round(centre[block]).astype(np.int64)
            voxel = base[:, None, :] + offsets[None]
            distance = np.linalg.norm((voxel - centre[block][:, None, :]) * spacing, axis=2)
            value = np.clip((radius[block][:, None] - distance) / edge_mm + 0.5, 0.0, 1.0).astype(np.float32)
            keep = (value > 0) & ((voxel >= 0) & (voxel < shape)).all(axis=2)
            voxel, value = voxel[keep], value[keep]
            np.maximum.at(flat_out, (voxel[:, 0] * shape[1] + voxel[:, 1]) * shape[2] + voxel[:, 2], value)


def paint_tube(
    volume: Float,
    start: Array,
    end: Array,
    radii: tuple[float, float],
    hu: float,
    spacing: Array,
    raise_only: bool = False,
) -> None:
    """Paints a straight tapering tube into HU ``volume`` (z, y, x).

    start, end: (3,) fractional voxel indices z, y, x; radii in mm at both ends. With ``raise_only`` nothing gets darker.
    """
    reach = (max(radii) + 1.0) / spacing
    low = np.maximum(np.floor(np.minimum(start, end) - reach).astype(int), 0)
    high = np.minimum(np.ceil(np.maximum(start, end) + reach).astype(int) + 1, volume.shape)
    if (high <= low).any():
        return
    z, y, x = (
        ((np.arange(a, b) - s) * d).astype(np.float32) for a, b, s, d in zip(low, high, start, spacing, strict=True)
    )
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    axis = ((end - start) * spacing).astype(np.float32)
    t = (z * axis[0] + y * axis[1] + x * axis[2]) / np.float32(max(float(axis @ axis), 1e-6))
    np.clip(t, 0.0, 1.0, out=t)
    distance = np.sqrt((z - t * axis[0]) ** 2 + (y - t * axis[1]) ** 2 + (x - t * axis[2]) ** 2)
    inside = radii[0] + (radii[1] - radii[0]) * t - distance
    weight = np.clip(inside / np.float32(spacing[1:].mean()) + 0.5, 0.0, 1.0)
    block = volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    target = np.maximum(block, hu) if raise_only else np.float32(hu)
    block += weight * (target - block)
