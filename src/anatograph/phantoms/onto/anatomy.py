"""Where a point lies in real lungs, from nothing but their mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.errors import UserError
from anatograph.imaging.volume import Frame
from anatograph.phantoms.disease.places import Places
from anatograph.phantoms.raster.grid import COARSE_MM, Box, Stage
from anatograph.phantoms.thorax.shape import BASE, LUNG_HEIGHT, Thorax

Array = NDArray[np.float64]
_REFERENCE = np.array([[-138.0, -98.0, BASE + 3.0], [138.0, 103.0, BASE + LUNG_HEIGHT - 12.0]])
"""Bounding box of the reference lungs in thorax coordinates, x, y, z."""
_FINE_MM = 1.6


def lung_places(lungs: NDArray[np.uint8], frame: Frame) -> tuple[Places, Box]:
    """Places in the lungs of a scan (labels z, y, x), and the rows and columns around the lungs.

    Thorax coordinates come from laying the bounding box of both lungs onto that of the reference lungs; depth is the
    Euclidean distance to the surface of the mask; depth below the costal pleura also asks that the reference rib
    cage be near, so that the mediastinal surface does not count. Coordinates of the stage are mm along the axes of
    the frame from its first voxel.

    Raises:
        UserError: where there is no lung.
    """
    spacing = np.asarray(frame.spacing[::-1])
    marked = [np.flatnonzero(np.count_nonzero(lungs, axis=axes) > 3) for axes in ((1, 2), (0, 2), (0, 1))]
    if not all(len(m) > 1 for m in marked):
        raise UserError("there are no lungs in its mask; give another mask, or leave it out to have the lungs found.")
    low = np.array([m[0] for m in marked]) * spacing
    high = np.array([m[-1] + 1 for m in marked]) * spacing
    scale = (high - low)[::-1] / (_REFERENCE[1] - _REFERENCE[0])
    stage = Stage(Frame(frame.shape, frame.spacing, (0.0, 0.0, 0.0)), np.diag(scale), low[::-1] - scale * _REFERENCE[0])
    depth = _depth(lungs, stage, marked)
    cage = Thorax().cage(*stage.coarse_points) * float(scale[:2].mean())
    costal = np.where(depth > 0, np.maximum(depth, cage - 14.0), depth)
    return Places(stage, depth, costal), stage.box_of(depth > -4.0)


def _depth(lungs: NDArray[np.uint8], stage: Stage, marked: list[NDArray[np.int64]]) -> Array:
    """Signed mm inside the lungs on the coarse grid."""
    spacing = stage.spacing_zyx
    steps = np.maximum(np.floor(_FINE_MM / spacing), 1).astype(int)
    margin = np.ceil(12.0 / spacing).astype(int)
    starts = [max(int(m[0] - a), 0) for m, a in zip(marked, margin, strict=True)]
    stops = [min(int(m[-1] + a + 1), n) for m, a, n in zip(marked, margin, lungs.shape, strict=True)]
    part = tuple(slice(a, b, int(s)) for a, b, s in zip(starts, stops, steps, strict=True))
    inside = lungs[part] > 0
    # The outermost voxels of a scan that cuts the lungs are not their surface.
    sampling = spacing * steps
    level = ndimage.distance_transform_edt(inside, sampling=sampling)
    level = level - ndimage.distance_transform_edt(~inside, sampling=sampling)
    grids = [np.arange(n) * COARSE_MM for n in stage.coarse_shape]
    places = [(g / d - a) / s for g, d, a, s in zip(grids, spacing, starts, steps, strict=True)]
    index = np.stack(np.meshgrid(*places, indexing="ij"))
    return np.asarray(ndimage.map_coordinates(level, index, order=1, mode="constant", cval=-30.0), dtype=np.float64)
