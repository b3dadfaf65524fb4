"""Placement of landmarks: the nodes of a regular grid whose patch holds enough lung."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.volume import Frame, Mask, bounding_box

# The grid counts from the right, posterior, inferior corner of the mask: towards the patient's left (+L), front (-P)
# and head (+S). That is how the published atlas is stored, and it makes the grid independent of how a file is stored.
GRID_AXES = np.diag([1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class LandmarkGrid:
    """Grid places that are landmarks, in the voxels of the 1 mm grid that starts at the mask's own corner."""

    corners: NDArray[np.int64]
    """(N, 3) lowest voxel of each patch, counted to the left, to the front and upwards; sorted, the last fastest."""
    origin: NDArray[np.float64]
    """(3,) LPS mm of voxel (0, 0, 0): the right, posterior, inferior corner voxel of the mask."""
    coverage: NDArray[np.float64]
    """(N,) fraction of each patch that is lung."""

    def centres(self, patch_size: int) -> NDArray[np.float64]:
        """(N, 3) LPS mm of the patch centres: corner + (P - 1) / 2 voxels of 1 mm."""
        return np.asarray(corner_centres(self.corners, patch_size) @ GRID_AXES.T + self.origin, dtype=np.float64)


def corner_centres(corners: NDArray[np.int64], patch_size: int) -> NDArray[np.float64]:
    """(N, 3) centre, in voxels, of patches given by their lowest voxel (N, 3)."""
    return np.asarray(corners, dtype=np.float64) + (patch_size - 1) / 2


def find_landmarks(lungs: Mask, patch_size: int, step: int, min_coverage: float) -> LandmarkGrid:
    """Grid places whose cube of ``patch_size`` mm is lung to more than ``min_coverage``.

    Corners are all multiples of ``step``, also those outside the mask's grid, so that a mask cropped to the lungs
    keeps its border patches. Beyond the mask's grid there is no lung.

    Raises:
        UserError: the mask is empty, or no place has enough lung.
    """
    if not lungs.lungs.any():
        raise UserError("the lung mask is empty; give a mask in which the lungs are not 0")
    array, origin = _on_millimetre_grid(lungs)
    windows = [_windows(length, patch_size, step) for length in array.shape]
    box = bounding_box(array > 0)
    if box is None:
        raise UserError("the lung mask is empty; give a mask in which the lungs are not 0")
    block = array[box].astype(np.float32)
    (x_corners, x_window), (y_corners, y_window), (z_corners, z_window) = [
        (corners, window[:, span]) for (corners, window), span in zip(windows, box, strict=True)
    ]
    # Sums over at most P³ ones are exact in float32 for any patch below 256 mm.
    counts = np.matmul(y_window, block @ z_window.T)
    counts = np.tensordot(x_window, counts, axes=(1, 0))
    coverage = counts.astype(np.float64) / float(patch_size) ** 3
    chosen = np.argwhere(coverage > min_coverage)
    if not len(chosen):
        raise UserError(
            f"no patch of {patch_size} mm holds more than {min_coverage:.0%} lung; "
            "use a smaller patch or coverage, or check the mask's spacing"
        )
    corners = np.stack([x_corners[chosen[:, 0]], y_corners[chosen[:, 1]], z_corners[chosen[:, 2]]], axis=1)
    return LandmarkGrid(corners, origin, coverage[tuple(chosen.T)])


def location_codes(corners: NDArray[np.int64]) -> NDArray[np.float32]:
    """p_j of the paper, (N, 3) in [0, 1]: corners over their maximum per axis, as the published code scales them.

    Negative corners (a mask cropped close to the lungs) first move the whole axis up to 0.
    """
    shifted = np.asarray(corners, dtype=np.float64)
    shifted = shifted - np.minimum(shifted.min(axis=0), 0.0)
    return np.asarray(shifted / np.maximum(shifted.max(axis=0), 1.0), dtype=np.float32)


def _on_millimetre_grid(lungs: Mask) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The mask resampled (nearest) to 1 mm, indexed along the grid's axes [left, front, up], and its LPS origin."""
    frame = lungs.frame
    if not frame.is_axis_aligned:
        lungs = _straightened(lungs)
        frame = lungs.frame
    sides = lungs.lungs.transpose(2, 1, 0)[:, ::-1, :]
    corner = frame.to_lps((0.0, frame.shape[1] - 1.0, 0.0))
    picks = []
    for length, spacing in zip(sides.shape, frame.spacing, strict=True):
        # From the centre of the first voxel as far as the last voxel reaches. The small number keeps header
        # rounding from deciding which of two voxels a sample midway between them takes.
        positions = np.arange(int(np.floor((length - 0.5) * spacing - 1e-3)) + 1)
        picks.append(np.clip(np.ceil(positions / spacing - 0.5 - 1e-3).astype(np.int64), 0, length - 1))
    return np.asarray(sides[np.ix_(*picks)]), corner


def _straightened(lungs: Mask) -> Mask:
    """An oblique mask sampled (nearest) at 1 mm on the axis-aligned grid around it."""
    frame = lungs.frame
    top = np.array(frame.shape[::-1]) - 1
    box = frame.to_lps([[x, y, z] for x in (0, top[0]) for y in (0, top[1]) for z in (0, top[2])])
    low, high = box.min(axis=0), box.max(axis=0)
    size = np.ceil(high - low - 1e-3).astype(int) + 1
    target = Frame((int(size[2]), int(size[1]), int(size[0])), (1.0, 1.0, 1.0), (low[0], low[1], low[2]))
    result = np.zeros(target.shape, dtype=np.uint8)
    y, x = np.meshgrid(np.arange(size[1]), np.arange(size[0]), indexing="ij")
    for z in range(size[2]):
        index, inside = frame.nearest(target.to_lps(np.stack([x, y, np.full_like(x, z)], axis=-1)))
        i, j, k = index[inside].T
        result[z][inside] = lungs.array[k, j, i]
    return Mask(result, target)


def _windows(length: int, patch_size: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Corners along one axis whose patch touches [0, length), and (corners, length) with 1 where the patch lies."""
    first = -((patch_size - 1) // step)
    corners = np.arange(first, (length - 1) // step + 1, dtype=np.int64) * step
    offset = np.arange(length)[None, :] - corners[:, None]
    return corners, ((offset >= 0) & (offset < patch_size)).astype(np.float32)
