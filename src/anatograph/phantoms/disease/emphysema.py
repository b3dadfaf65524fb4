"""Centrilobular holes and paraseptal cysts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from anatograph.phantoms.disease.description import Disease
from anatograph.phantoms.disease.places import Places
from anatograph.phantoms.raster.grid import COARSE_MM
from anatograph.phantoms.raster.noise import smooth_noise
from anatograph.phantoms.raster.paint import stamp_balls
from anatograph.phantoms.thorax.lobes import fissure_distance

Float = NDArray[np.float32]
Array = NDArray[np.float64]


def draw_holes(disease: Disease, places: Places, lobules: Array, rng: np.random.Generator) -> Float | None:
    """Holes around the centrilobular bronchioles where the disease prefers to lie, confluent where severe.

    lobules (L, 3) in thorax coordinates. Returns 0..1 on the fine grid, None without emphysema. The first holes of a
    more severe disease are those of a milder one drawn with the same ``rng``.
    """
    stage, aim = places.stage, disease.emphysema
    patches = smooth_noise(rng, stage.coarse_shape, 16.0)
    picking, sizing, moving = rng.spawn(3)
    if aim <= 0:
        return None
    preference = places.preference(disease.emphysema_bias) + 0.75 * patches
    odds = np.exp(stage.nearest(preference, lobules))
    lung_mm3 = float(places.inside.sum()) * COARSE_MM**3
    mean_radius = 1.7 + 3.2 * aim
    # Holes overlap where they crowd; more of them make up for it on average, and for lungs with little room there.
    crowding = float((odds / odds.mean()).clip(0.0, 8.0).std())
    count = int((1.05 + 0.35 * aim * crowding) * -np.log(1.0 - aim) * lung_mm3 / (4.19 * mean_radius**3 * 1.45))
    chosen = picking.choice(len(lobules), size=count, p=odds / odds.sum())
    radius = np.clip(mean_radius * sizing.lognormal(-0.04, 0.34, count), 1.0, 7.0)
    offset = moving.normal(0.0, 1.0, (count, 2, 3))
    centre = lobules[chosen] + (1.8 + 5.0 * aim) * offset[:, 0]
    # A second, smaller ball on the side makes the hole less than perfectly round.
    push = offset[:, 1] * (0.75 * radius / np.linalg.norm(offset[:, 1], axis=1))[:, None]
    both = np.concatenate([centre, centre + push])
    radii = np.concatenate([radius, 0.72 * radius])
    out = np.zeros(stage.frame.shape, dtype=np.float32)
    stamp_balls(out, stage.to_index(both), radii, stage.spacing_zyx, 0.7 * float(stage.spacing_zyx.mean()))
    return out


def draw_cysts(disease: Disease, places: Places, rng: np.random.Generator) -> tuple[Float, Float] | None:
    """A single row of thin-walled cysts under the pleura and along the fissures, mostly above, and their walls.

    Both are 0..1 on the fine grid; None without paraseptal emphysema.
    """
    if disease.paraseptal <= 0:
        return None
    stage = places.stage
    fissure = fissure_distance(*places.points) + 0.5
    depth = np.minimum(places.depth, fissure)
    rows = smooth_noise(rng, stage.coarse_shape, 20.0)
    wanted = (places.depth > 0) & (depth > 2.0) & (depth < 7.0)
    voxels = np.argwhere(wanted)
    preference = 3.6 * (places.height - 0.5) + 2.2 * rows - 1.6 * (fissure < places.depth)
    preference += disease.emphysema_bias.left * places.left
    order = np.argsort(rng.exponential(1.0, len(voxels)) / np.exp(preference[wanted]))[:9000]
    jitter = rng.uniform(-0.4, 0.4, (len(order), 3))
    lps = (voxels[order] + jitter)[:, ::-1] * COARSE_MM + np.asarray(stage.frame.origin)
    radius = np.clip(depth[wanted][order] - 0.4, 1.8, 7.0)
    chosen = _apart(lps, radius, disease.paraseptal * float(places.inside.sum()) * COARSE_MM**3)
    index = (lps[chosen] - np.asarray(stage.frame.origin))[:, ::-1] / stage.spacing_zyx
    edge = 0.7 * float(stage.spacing_zyx.mean())
    cysts = np.zeros(stage.frame.shape, dtype=np.float32)
    stamp_balls(cysts, index, radius[chosen], stage.spacing_zyx, edge)
    walls = np.zeros(stage.frame.shape, dtype=np.float32)
    stamp_balls(walls, index, radius[chosen] + 0.9, stage.spacing_zyx, edge)
    walls -= cysts
    return cysts, np.maximum(walls, 0.0, out=walls)


def _apart(lps: Array, radius: Array, volume_mm3: float) -> list[int]:
    """The first balls (in order) that hardly overlap, until their volume is reached."""
    tree = cKDTree(lps)
    taken = np.zeros(len(lps), dtype=bool)
    chosen: list[int] = []
    for i in range(len(lps)):
        near = tree.query_ball_point(lps[i], radius[i] + 8.0)
        if any(taken[j] and np.linalg.norm(lps[i] - lps[j]) < 0.84 * (radius[i] + radius[j]) for j in near):
            continue
        taken[i] = True
        chosen.append(i)
        volume_mm3 -= 4.19 * radius[i] ** 3
        if volume_mm3 <= 0:
            break
    return chosen
