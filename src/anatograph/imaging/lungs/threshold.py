"""Lungs by thresholds and topology alone: no weights, a few seconds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.errors import UserError
from anatograph.imaging.lungs.airway import find_airway
from anatograph.imaging.lungs.body import AIR_HU, inside_body
from anatograph.imaging.lungs.dense import costal_pockets, filled_lung
from anatograph.imaging.lungs.gas import find_gas, gas_level
from anatograph.imaging.lungs.grid import Bool, CoarseGrid, coarse_grid, dilate, erode, fill_holes
from anatograph.imaging.lungs.sides import choose_lungs
from anatograph.imaging.volume import Mask, Volume, bounding_box

BORDER_HU = -300
"""A voxel at the rim of the lung is lung below this."""


def threshold_lungs(volume: Volume) -> tuple[Mask, tuple[str, ...]]:
    """Right and left lung on the scan's own grid, and notes on anything unusual.

    The topology (body, airway, gas, which lung) is decided on a grid of about 2 mm, the border at full resolution.
    Memory beyond the scan is the mask and a few coarse arrays. Shifting the scan by voxels shifts the result alike.
    Raises `UserError` where the scan shows no lungs.
    """
    grid = coarse_grid(volume)
    notes: list[str] = []
    coarse, excluded = coarse_lungs(grid, volume.source or "the scan", notes)
    array = np.zeros(volume.array.shape, dtype=np.uint8)
    refine(volume.array[grid.box], grid, coarse, excluded, array[grid.box])
    return Mask(array, volume.frame), tuple(notes)


def coarse_lungs(grid: CoarseGrid, source: str, notes: list[str]) -> tuple[NDArray[np.uint8], Bool]:
    """Lungs by side on the coarse grid with dense parts filled in, and what is excluded (airway, gas)."""
    inside = inside_body(grid)
    air = inside & (grid.hu < AIR_HU)
    columns = np.flatnonzero(inside.any(axis=(0, 1)))
    if not air.any():
        raise UserError(f"No lungs were found in {source}: no air inside the body. Check that it is a chest CT in HU.")
    middle_x = _middle(air, columns)
    airway = find_airway(grid, inside & (grid.hu < AIR_HU), middle_x)
    if not airway.any():
        notes.append("no trachea was found, so none was excluded from the lungs")
    level = gas_level(grid, air, airway)
    gas = find_gas(grid, air, airway, level)
    sided = choose_lungs(grid, air & ~airway & ~gas, middle_x, level)
    if not sided.any():
        raise UserError(
            f"No lungs were found in {source}: the air inside the body does not look like lung. "
            "Check that the scan covers the chest, or give a lung mask."
        )
    for side, name in ((Mask.RIGHT, "right"), (Mask.LEFT, "left")):
        if not (sided == side).any():
            notes.append(f"only one lung was found: the {name} lung is missing or holds no air")
    excluded = airway | gas
    result = np.zeros_like(sided)
    rows = np.flatnonzero((sided > 0).any(axis=(0, 2)))
    middle_y = (rows[0] + rows[-1]) / 2
    for side in (Mask.RIGHT, Mask.LEFT):
        part = sided == side
        if part.any():
            part = filled_lung(grid, part)
            part = filled_lung(grid, part | costal_pockets(grid, part, side, middle_x, middle_y))
            result[part & (result == 0) & ~excluded & inside] = side
    other = ~excluded & (sided > 0)
    result[other] = sided[other]
    return result, excluded


def _middle(air: Bool, columns: NDArray[np.intp]) -> float:
    """Block column of the plane between the lungs: the middle of the air inside the body."""
    labels, count = ndimage.label(air)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    big = np.isin(labels, np.flatnonzero(sizes > 0.1 * sizes.max()))
    found = np.flatnonzero(big.any(axis=(0, 1)))
    by_air = (found[0] + found[-1]) / 2
    by_body = (columns[0] + columns[-1]) / 2
    return float(0.5 * (by_air + by_body)) if count else float(by_body)


def refine(
    box: NDArray[np.int16], grid: CoarseGrid, coarse: NDArray[np.uint8], excluded: Bool, out: NDArray[np.uint8]
) -> None:
    """Write the lungs at full resolution into ``out`` (z, y, x, the grid's box), slice by slice.

    The inside of the coarse lungs is kept; within a block of their border each voxel is classified by its HU.
    """
    lungs = coarse > 0
    blocks = bounding_box(lungs, (1, 2, 2))
    if blocks is None:
        return
    step = max(grid.spacing[1:])
    lungs, coarse, barred = lungs[blocks], coarse[blocks], excluded[blocks]
    core = erode(lungs, 1.01 * step, grid.spacing)
    reach = dilate(lungs, 1.01 * step, grid.spacing)
    dense = lungs & (grid.hu[blocks] > BORDER_HU)
    side = (coarse == Mask.LEFT).astype(np.float32) - (coarse == Mask.RIGHT).astype(np.float32)
    fields = [f.astype(np.float32) for f in (core, reach, dense, barred)]
    fields.append(ndimage.uniform_filter(side, 3))
    voxels = grid.voxels(blocks)
    image, target = box[voxels], out[voxels]
    for z, (core_z, reach_z, dense_z, barred_z, side_z) in enumerate(grid.upsampled(blocks, *fields)):
        inside = (core_z > 0.5) | (dense_z > 0.5) | ((reach_z > 0.5) & (image[z] < BORDER_HU))
        # Only near the coarse lungs: where both touch in front and behind, the mediastinum is a hole too.
        inside &= barred_z < 0.5
        inside |= fill_holes(inside) & (reach_z > 0.5)
        target[z] = np.where(inside, np.where(side_z > 0, Mask.LEFT, Mask.RIGHT), 0)
