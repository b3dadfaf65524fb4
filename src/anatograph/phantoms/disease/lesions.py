"""Centrilobular holes, paraseptal cysts, ground glass and consolidation of one subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from anatograph.phantoms.profile import Disease
from anatograph.phantoms.raster.grid import COARSE_MM, Box, Field, Stage
from anatograph.phantoms.raster.noise import smooth_noise
from anatograph.phantoms.raster.paint import stamp_balls
from anatograph.phantoms.thorax.lobes import fissure_distance
from anatograph.phantoms.thorax.shape import BASE, LUNG_HEIGHT

Float = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Lesions:
    """Disease of one subject, ready to be painted on the fine grid."""

    holes: Float | None
    """Centrilobular holes on the fine grid, 0..1; None without emphysema."""
    cysts: Float | None
    """Paraseptal cysts on the fine grid, 0..1; None without."""
    walls: Float | None
    """Thin walls of the cysts."""
    glass: Field | None
    """Signed mm inside the ground glass; None without."""
    glass_hu: float
    """What ground glass adds to the lung."""
    dense: Field | None
    """Signed mm inside consolidation; None without."""


def _threshold(field: Array, inside: NDArray[np.bool_], share: float) -> float:
    return float(np.quantile(field[inside], 1.0 - min(share, 0.95)))


def draw_lesions(
    disease: Disease,
    stage: Stage,
    lung_level: Array,
    cage_level: Array,
    lobules: Array,
    box: Box,
    rng: np.random.Generator,
) -> Lesions:
    """Place the disease of one subject.

    lung_level, cage_level: coarse levels (z, y, x), mm inside the lungs and inside the cage; lobules (L, 3) in thorax
    coordinates; fields are read within ``box``. Draws from ``rng`` do not depend on the voxel size.
    """
    _, y, z = stage.coarse_points
    inside = lung_level > 0
    height = (z - BASE) / LUNG_HEIGHT
    streams = rng.spawn(3)
    lung_mm3 = float(inside.sum()) * COARSE_MM**3
    holes = _holes(disease, stage, lobules, height, lung_mm3, streams[0])
    cysts = walls = None
    if disease.paraseptal > 0:
        cysts, walls = _cysts(disease, stage, lung_level, height, lung_mm3, streams[1])
    glass = dense = None
    amplitude = float(streams[2].uniform(170.0, 340.0))
    if disease.ground_glass > 0:
        shape = stage.coarse_shape
        blobs = smooth_noise(streams[2], shape, 18.0) + 0.3 * smooth_noise(streams[2], shape, 6.5)
        rim = np.exp(-np.maximum(cage_level, 0.0) / 20.0)
        place = 1.3 * rim - 2.0 * (height - 0.35) + 0.006 * y + blobs
        share = disease.ground_glass + disease.consolidation
        glass = Field(11.0 * (place - _threshold(place, inside, share)), stage, box)
        if disease.consolidation > 0:
            core = place + 0.004 * y + 0.5 * smooth_noise(streams[2], shape, 9.0)
            dense = Field(9.0 * (core - _threshold(core, inside, disease.consolidation)), stage, box)
    return Lesions(holes, cysts, walls, glass, amplitude, dense)


def _holes(
    disease: Disease, stage: Stage, lobules: Array, height: Array, lung_mm3: float, rng: np.random.Generator
) -> Float | None:
    """Round holes around the centrilobular bronchioles, mostly in the upper lobes, confluent where severe."""
    aim = disease.emphysema
    patches = smooth_noise(rng, stage.coarse_shape, 16.0)
    if aim <= 0:
        return None
    liking = np.exp(4.2 * (stage.nearest(height, lobules) - 0.55) + 0.75 * stage.nearest(patches, lobules))
    mean_radius = 1.7 + 3.2 * aim
    # Holes overlap where they crowd; a third more of them makes up for it on average.
    count = int(1.15 * -np.log(1.0 - aim) * lung_mm3 / (4.19 * mean_radius**3 * 1.45))
    chosen = rng.choice(len(lobules), size=count, p=liking / liking.sum())
    radius = np.clip(mean_radius * rng.lognormal(-0.04, 0.34, count), 1.0, 7.0)
    centre = lobules[chosen] + rng.normal(0.0, 1.8 + 5.0 * aim, (count, 3))
    # A second, smaller ball on the side makes the hole less than perfectly round.
    push = rng.normal(0.0, 1.0, (count, 3))
    push *= (0.75 * radius / np.linalg.norm(push, axis=1))[:, None]
    both = np.concatenate([centre, centre + push])
    radii = np.concatenate([radius, 0.72 * radius])
    out = np.zeros(stage.frame.shape, dtype=np.float32)
    stamp_balls(out, stage.to_index(both), radii, stage.spacing_zyx, 0.7 * float(stage.spacing_zyx.mean()))
    return out


def _cysts(
    disease: Disease, stage: Stage, lung_level: Array, height: Array, lung_mm3: float, rng: np.random.Generator
) -> tuple[Float, Float]:
    """A single row of thin-walled cysts under the pleura and along the fissures, mostly above."""
    x, y, z = stage.coarse_points
    fissure = fissure_distance(x, y, z) + 0.5
    depth = np.minimum(lung_level, fissure)
    rows = smooth_noise(rng, stage.coarse_shape, 20.0)
    wanted = (lung_level > 0) & (depth > 2.0) & (depth < 7.0)
    places = np.argwhere(wanted)
    liking = np.exp(3.6 * (height[wanted] - 0.5) + 2.2 * rows[wanted] - 1.6 * (fissure < lung_level)[wanted])
    order = np.argsort(rng.exponential(1.0, len(places)) / liking)[:6000]
    jitter = rng.uniform(-0.4, 0.4, (len(order), 3))
    lps = (places[order] + jitter)[:, ::-1] * COARSE_MM + np.asarray(stage.frame.origin)
    radius = np.clip(depth[wanted][order] - 0.4, 1.8, 7.0)
    tree = cKDTree(lps)
    taken = np.zeros(len(lps), dtype=bool)
    chosen: list[int] = []
    budget = disease.paraseptal * lung_mm3
    for i in range(len(lps)):
        near = tree.query_ball_point(lps[i], radius[i] + 8.0)
        if any(taken[j] and np.linalg.norm(lps[i] - lps[j]) < 0.84 * (radius[i] + radius[j]) for j in near):
            continue
        taken[i] = True
        chosen.append(i)
        budget -= 4.19 * radius[i] ** 3
        if budget <= 0:
            break
    index = (lps[chosen] - np.asarray(stage.frame.origin))[:, ::-1] / stage.spacing_zyx
    edge = 0.7 * float(stage.spacing_zyx.mean())
    cysts = np.zeros(stage.frame.shape, dtype=np.float32)
    stamp_balls(cysts, index, radius[chosen], stage.spacing_zyx, edge)
    walls = np.zeros(stage.frame.shape, dtype=np.float32)
    stamp_balls(walls, index, radius[chosen] + 0.9, stage.spacing_zyx, edge)
    walls -= cysts
    return cysts, np.maximum(walls, 0.0, out=walls)
