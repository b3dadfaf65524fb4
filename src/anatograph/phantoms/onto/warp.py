"""Small smooth warps of a real scan, on its own grid or a coarser one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.phantoms.raster.grid import Field, Stage
from anatograph.phantoms.raster.noise import smooth_noise

Float = NDArray[np.float32]
_SMOOTH_MM = 45.0
_BENT_MM = 3.0
_SCALE = 0.025
_SLAB = 4


@dataclass(frozen=True, eq=False)
class WarpedScan:
    """A real scan and its lungs after a warp."""

    hu: Float
    """HU, z, y, x."""
    lungs: NDArray[np.uint8]
    """Labels as `Mask`."""
    frame: Frame
    """Where the voxels lie, LPS mm: the scan's own frame, or a coarser one with the same first voxel."""


def output_frame(frame: Frame, spacing_mm: float | None) -> Frame:
    """The frame itself, or one whose voxels are no finer than ``spacing_mm`` along any axis."""
    if spacing_mm is None or min(frame.spacing) >= spacing_mm:
        return frame
    x, y, z = (max(own, spacing_mm) for own in frame.spacing)
    lengths = zip(frame.shape, frame.spacing[::-1], (z, y, x), strict=True)
    planes, rows, columns = (int((count - 1) * own / new) + 1 for count, own, new in lengths)
    return replace(frame, shape=(planes, rows, columns), spacing=(x, y, z))


def local_stage(frame: Frame) -> Stage:
    """Grids over a frame whose coordinates are mm along its own axes from its first voxel."""
    return Stage(Frame(frame.shape, frame.spacing, (0.0, 0.0, 0.0)), np.eye(3), np.zeros(3))


def warp_scan(volume: Volume, lungs: Mask, spacing_mm: float | None, rng: np.random.Generator) -> WarpedScan:
    """Warp a scan and its lungs by a smooth displacement of a few mm and a scaling of a few per cent.

    The displacement is Gaussian noise, smooth over 45 mm, of standard deviation 3 mm along each axis; the scaling,
    about the middle of the lungs, has standard deviation 2.5 %. HU are interpolated by cubic splines (after a blur
    where voxels get coarser), labels by the nearest voxel; beyond the scan its outermost voxels are repeated.
    """
    frame = output_frame(volume.frame, spacing_mm)
    stage = local_stage(frame)
    own, new = np.asarray(volume.frame.spacing[::-1]), np.asarray(frame.spacing[::-1])
    scale = rng.normal(0.0, _SCALE, 3)
    middle = np.array([float(np.mean(np.flatnonzero(lungs.lungs.any(axis=axes)))) for axes in ((1, 2), (0, 2), (0, 1))])
    bends = [Field(_BENT_MM * smooth_noise(rng, stage.coarse_shape, _SMOOTH_MM), stage) for _ in range(3)]
    values = volume.array.astype(np.float32)
    wider = np.where(new > 1.05 * own, 0.42 * np.sqrt(np.maximum((new / own) ** 2 - 1.0, 0.0)), 0.0)
    if wider.any():
        ndimage.gaussian_filter(values, wider, output=values, truncate=3.0)
    ndimage.spline_filter(values, 3, output=values, mode="mirror")
    hu = np.empty(frame.shape, dtype=np.float32)
    labels = np.empty(frame.shape, dtype=np.uint8)
    axes = [np.arange(n) * s for n, s in zip(frame.shape, new, strict=True)]
    for start in range(0, frame.shape[0], _SLAB):
        stop = min(start + _SLAB, frame.shape[0])
        grid = (axes[0][start:stop, None, None], axes[1][None, :, None], axes[2][None, None, :])
        places = []
        for k in range(3):
            centre = middle[k] * own[k]
            place = centre + (1.0 + scale[k]) * (grid[k] - centre) + bends[k].slab(start, stop)
            places.append(np.clip(place / own[k], 0.0, volume.frame.shape[k] - 1.0))
        # Cubic interpolation reads a few slices around the slab; passing those alone keeps the rest out of the cache.
        low = max(int(places[0].min()) - 4, 0)
        high = min(int(places[0].max()) + 6, volume.frame.shape[0])
        places[0] -= low
        index = np.stack(places)
        ndimage.map_coordinates(values[low:high], index, output=hu[start:stop], order=3, mode="mirror", prefilter=False)
        ndimage.map_coordinates(lungs.array[low:high], index, output=labels[start:stop], order=0, mode="nearest")
    np.clip(hu, -1024.0, 3071.0, out=hu)
    return WarpedScan(hu, labels, frame)
