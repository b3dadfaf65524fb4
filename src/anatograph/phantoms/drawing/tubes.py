"""The large tubes of the chest: great vessels, oesophagus, trachea and bronchi."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.drawing.body import BLOOD, Body
from anatograph.phantoms.profile import SubjectProfile
from anatograph.phantoms.raster.grid import Stage
from anatograph.phantoms.raster.paint import paint_tube
from anatograph.phantoms.thorax.lungtrees import LungTrees, great_vessels

Float = NDArray[np.float32]


def draw_large_tubes(hu: Float, body: Body, trees: LungTrees, stage: Stage, profile: SubjectProfile) -> None:
    """Great vessels, oesophagus, trachea and bronchi: drawn by distance, blood first, then walls, then air."""
    spacing = stage.spacing_zyx
    lines = great_vessels(body.thorax)
    blood = BLOOD + profile.contrast_hu
    for kind, value in (("blood", blood), ("oesophagus", 38.0)):
        for line in lines[kind]:
            points = stage.to_index(line.points)
            for a, b, r, s in zip(points[:-1], points[1:], line.radii[:-1], line.radii[1:], strict=True):
                paint_tube(hu, a, b, (float(r), float(s)), value, spacing, raise_only=kind == "blood")
    bronchi = trees.bronchi
    radius = np.minimum(0.235 * bronchi.supplied ** (1 / 2.6), 4.2)
    seen = np.flatnonzero(radius > 0.45 * float(spacing.max()) + 0.4)
    starts, ends = stage.to_index(bronchi.start), stage.to_index(bronchi.end)
    tubes = [(starts[i], ends[i], (float(radius[i]), float(0.93 * radius[i]))) for i in seen]
    for line in lines["air"]:
        points = stage.to_index(line.points)
        ends_of = zip(points[:-1], points[1:], line.radii[:-1], line.radii[1:], strict=True)
        tubes += [(a, b, (float(r), float(s))) for a, b, r, s in ends_of]
    for a, b, (r, s) in tubes:
        wall = 0.3 + 0.13 * max(r, s)
        paint_tube(hu, a, b, (r + wall, s + wall), 10.0 if r > 3 else -330.0 + 110.0 * r, spacing, raise_only=True)
    for a, b, radii in tubes:
        paint_tube(hu, a, b, radii, -985.0, spacing)
