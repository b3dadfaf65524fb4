"""Bronchi, arteries and veins of one subject's lungs, in thorax coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.raster.grid import COARSE_MM, Stage
from anatograph.phantoms.thorax.lobes import lobe_index
from anatograph.phantoms.thorax.shape import Thorax
from anatograph.phantoms.thorax.trees import Tree, grow, join

Array = NDArray[np.float64]

# Where the trees of right upper, middle, lower, left upper and lower lobe begin.
_BRONCHUS = np.array([(-44, 10, 12), (-42, -4, -22), (-42, 16, -30), (48, 2, 6), (44, 20, -22)], dtype=np.float64)
_ARTERY = np.array([(-44, -2, 16), (-48, -2, -16), (-50, 14, -24), (50, -6, 16), (52, 22, -14)], dtype=np.float64)
_VEIN = np.array([(-38, -12, 0), (-32, -12, -24), (-30, 22, -36), (44, -12, -2), (38, 22, -34)], dtype=np.float64)


@dataclass(frozen=True)
class Polyline:
    """A large vessel or bronchus drawn by hand: points (P, 3) in thorax coordinates and radii (P,) in mm."""

    points: Array
    radii: Array


@dataclass(frozen=True)
class LungTrees:
    """The three trees and the twigs at which lobules hang."""

    bronchi: Tree
    arteries: Tree
    veins: Tree
    lobules: Array
    """(L, 3) places of the centrilobular bronchioles."""
    twig_mm: float
    """Radius of the last arteries drawn."""


def supply_points(level: Array, stage: Stage, step_mm: float, rng: np.random.Generator) -> Array:
    """Jittered places (P, 3), one about every ``step_mm``, in the lungs whose coarse level (z, y, x) is given."""
    low = np.asarray(stage.frame.origin)
    extent = (np.asarray(level.shape[::-1]) - 1) * COARSE_MM
    axes = [np.arange(step_mm / 2, e, step_mm) for e in extent]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points + rng.uniform(-0.42, 0.42, points.shape) * step_mm
    index = np.clip(np.round(points[:, ::-1] / COARSE_MM).astype(int), 0, np.asarray(level.shape) - 1)
    keep = level[index[:, 0], index[:, 1], index[:, 2]] > 2.0
    return stage.to_thorax(points[keep] + low)


def grow_trees(level: Array, stage: Stage, rng: np.random.Generator, step_mm: float) -> LungTrees:
    """Trees that fill the lungs; ``step_mm`` the distance between twigs."""
    lobules = supply_points(level, stage, step_mm, rng)
    drained = supply_points(level, stage, step_mm, rng)
    lobe, lobe_drained = lobe_index(*lobules.T), lobe_index(*drained.T)
    arteries, veins, bronchi = [], [], []
    for k in range(5):
        mine = lobules[lobe == k]
        tree = grow(_ARTERY[k], mine, rng)
        arteries.append(tree)
        veins.append(grow(_VEIN[k], drained[lobe_drained == k], rng))
        # The bronchus runs beside its artery, nearer to the hilum, and ends before the twigs.
        many = tree.supplied >= 8
        shift = _BRONCHUS[k] - _ARTERY[k]
        fade = np.where(tree.generation == 0, 1.0, 0.55 ** np.minimum(tree.generation, 9.0))[:, None]
        fade_end = (0.55 ** (tree.generation + 1.0))[:, None]
        side = shift / np.linalg.norm(shift)
        width = (0.42 * tree.supplied ** (1 / 2.6) * 1.9)[:, None]
        bronchi.append(
            Tree(
                (tree.start + fade * shift + np.where(tree.generation[:, None] > 0, side * width, 0.0))[many],
                (tree.end + fade_end * shift + side * width)[many],
                tree.supplied[many],
                tree.generation[many],
                tree.heading[many],
            )
        )
    return LungTrees(join(bronchi), join(arteries), join(veins), lobules, 0.40)


def great_vessels(thorax: Thorax) -> dict[str, list[Polyline]]:
    """Trachea and main bronchi ("air"), aorta, caval veins and pulmonary arteries and veins ("blood"), oesophagus."""

    def line(*rows: tuple[float, float, float, float]) -> Polyline:
        table = np.array(rows, dtype=np.float64)
        return Polyline(table[:, :3], table[:, 3])

    def behind(z: float) -> float:
        return float(thorax.spine_y(np.asarray(z)))

    heights = np.linspace(55.0, -180.0, 13)
    ax, ay = thorax.aorta_line(heights)
    descending = Polyline(np.stack([ax, ay, heights], axis=1), np.linspace(12.5, 11.0, 13))
    hx, _, hz = thorax.heart_centre
    air = [
        line(
            (0, behind(175) - 34, 175, 8.5),
            (1, behind(120) - 33, 120, 8.7),
            (2, behind(60) - 31, 60, 8.8),
            (2, 12, 22, 9.0),
        ),
        line((2, 12, 22, 7.5), (-22, 11, 8, 7.0), (-40, 12, -6, 6.3), (-42, 16, -28, 5.4)),
        line((-27, 11, 6, 5.2), (-44, 10, 12, 4.6)),
        line((-41, 10, -14, 4.0), (-42, -4, -22, 3.6)),
        line((2, 12, 22, 7.2), (26, 14, 4, 6.4), (44, 14, -6, 6.0), (44, 20, -22, 5.0)),
        line((42, 13, -3, 5.0), (48, 2, 6, 4.6)),
    ]
    blood = [
        descending,
        line(
            (-8, -22, hz + 30, 16),
            (-14, -26, 10, 16),
            (-10, -24, 45, 15.5),
            (2, -6, 62, 14),
            (16, 16, 62, 13),
            (24, float(ay[0]), 50, 12.5),
        ),
        line((-28, -8, hz + 20, 10), (-30, -12, 40, 9.5), (-24, -14, 80, 9)),
        line((-24, -14, 80, 8), (-30, -6, 120, 7.5), (-34, -2, 165, 7)),
        line((-24, -14, 78, 7.5), (12, -22, 88, 7), (32, -10, 120, 7), (38, -4, 165, 6.5)),
        line((-4, -12, 64, 6.5), (-12, -2, 110, 6), (-26, 4, 165, 5)),
        line((6, 0, 66, 5.5), (16, 6, 110, 4.8), (24, 8, 165, 4.5)),
        line((15, 14, 66, 5.5), (28, 20, 110, 5), (40, 16, 160, 4.5)),
        line((12, -44, hz + 30, 14), (18, -34, -6, 14), (22, -16, 14, 13), (40, -4, 16, 11), (50, -6, 16, 9.5)),
        line((20, -18, 12, 12), (-8, -8, 4, 12), (-34, -3, 6, 11), (-44, -2, 16, 8.5)),
        line((-34, -3, 6, 9.5), (-46, 2, -10, 9), (-50, 14, -24, 8)),
        line((40, -4, 16, 10), (52, 10, 4, 9.5), (52, 22, -14, 8)),
        *(line((hx * 0.3, 14, hz + 10, 9), (*v, 6.5)) for v in (tuple(map(float, w)) for w in _VEIN)),  # type: ignore[arg-type]
        line((-16, 2, hz - 10, 12), (-20, 10, -110, 12), (-20, 16, -190, 12)),
    ]
    oesophagus = [line(*((6.0, behind(z) - 25.0, z, 6.5) for z in (170.0, 110.0, 50.0, 0.0, -50.0, -100.0)))]
    return {"air": air, "blood": blood, "oesophagus": oesophagus}
