"""Drawing small things on the fine grid: tubes by depositing their volume, balls and thick tubes by distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Array = NDArray[np.float64]


def deposit_tubes(out: Float, start: Array, end: Array, heading: Array, radius: Array, spacing: Array) -> None:
    """Adds to ``out`` (z, y, x) the share of every voxel that tubes fill; where they cross, the sum may pass 1.

    start, end: (S, 3) fractional voxel indices z, y, x; heading (S, 3) voxels: a tube starts off bent towards it;
    radius (S,) mm; spacing (3,) mm along z, y, x. Each tube is cut into grains of known volume that are shared out
    among their eight neighbouring voxels, so that a vessel thinner than a voxel is as faint as it would be in a scan.
    """
    along_mm = (end - start) * spacing
    length = np.linalg.norm(along_mm, axis=1)
    fine = float(spacing.min())
    ring = np.clip(np.ceil((radius / (0.62 * fine)) ** 2), 1, 200).astype(np.int64)
    steps = np.maximum(np.ceil(length / (0.75 * fine)), 1).astype(np.int64)
    grains = ring * steps
    segment = np.repeat(np.arange(len(start)), grains)
    number = np.arange(len(segment)) - np.repeat(np.cumsum(grains) - grains, grains)
    disc = ring[segment]
    t = (number // disc + 0.5) / steps[segment]
    # Sunflower pattern over the cross-section, turned from disc to disc.
    distance = np.where(disc == 1, 0.0, radius[segment] * np.sqrt((number % disc + 0.5) / disc))
    angle = 2.399963 * number
    axis = along_mm / np.maximum(length, 1e-9)[:, None]
    helper = np.where(np.abs(axis[:, :1]) < 0.8, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    side = np.cross(axis, helper)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    other = np.cross(axis, side)
    # A cubic that leaves along the parent's heading and arrives at the end.
    bend = heading * spacing
    bend *= (0.55 * length / np.maximum(np.linalg.norm(bend, axis=1), 1e-9))[:, None]
    bend -= np.einsum("sk,sk->s", bend, axis)[:, None] * axis
    lobe = t * (1.0 - t) ** 2
    across, over_ = distance * np.cos(angle), distance * np.sin(angle)
    weight = (np.pi * radius**2 * length / grains / np.prod(spacing))[segment]
    where = []
    for k in range(3):
        mm = across * side[segment, k] + over_ * other[segment, k] + lobe * bend[segment, k] + t * along_mm[segment, k]
        where.append(start[segment, k] + mm / spacing[k])
    base = [np.floor(w).astype(np.int64) for w in where]
    inside = np.ones(len(weight), dtype=bool)
    for b, n in zip(base, out.shape, strict=True):
        inside &= (b >= 0) & (b < n - 1)
    rest = [(w - b)[inside].astype(np.float32) for w, b in zip(where, base, strict=True)]
    flat = ((base[0] * out.shape[1] + base[1]) * out.shape[2] + base[2])[inside]
    # In the order of memory the scatter is several times faster.
    order = np.argsort(flat)
    flat, weight = flat[order], weight[inside].astype(np.float32)[order]
    z, y, x = (r[order] for r in rest)
    flat_out = out.reshape(-1)
    for dz in (0, 1):
        part_z = weight * (z if dz else 1 - z)
        for dy in (0, 1):
            part_y = part_z * (y if dy else 1 - y)
            for dx in (0, 1):
                np.add.at(flat_out, flat + (dz * out.shape[1] + dy) * out.shape[2] + dx, part_y * (x if dx else 1 - x))


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

    start, end: (3,) fractional voxel indices z, y, x; radii in mm at both ends. With
    ``raise_only`` nothing gets darker.
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
