"""Patches with nothing but lung tissue in them, at a common inflation.

A patch is a cube, so at the border of a lung it also shows ribs, heart and diaphragm, and how much of them differs
from subject to subject more than disease does; and a lung that is breathed out is denser everywhere. Both are removed
from what a model sees, not from what a study stores.

Lung is treated as a sponge: tissue and blood stay, air comes and goes, so that 1000 + HU of a voxel is divided by how
much the lung expands (Stoel et al. 2008, Proc Am Thorac Soc 5:919). The expansion is read from the most frequent
density of the lungs. As disease shifts that density too, the correction is made in part (``strength``).

Letters in shapes: N landmarks, P patch side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.patches import PATCH_SPACING
from anatograph.imaging.volume import Mask

OUTSIDE_HU = 100
"""What voxels outside the lungs are shown as: soft tissue, denser than any lung."""
COMMON_HU = -860.0
"""Density of the parenchyma that lungs are brought to, that of a deep breath."""
PARENCHYMA = (-970, -500)
"""HU between which the most frequent density of the lungs is looked for."""
LARGEST_FACTOR = 1.4
"""1000 + HU is never multiplied by more than this, nor divided by it: beyond, it is disease and not breath."""
_DENSE = -500.0
"""From here to 0 HU the correction fades: vessels, consolidation and walls hold no air that could go."""
_SMOOTH_HU = 12.0
_AIR = -1024
_ROWS = 64


def inside_lungs(lungs: Mask, landmarks: ArrayLike, patch_size: int) -> NDArray[np.bool_]:
    """(N, P, P, P) which voxels of each patch are lung, z, y, x, by the nearest voxel of the mask.

    ``lungs`` on a frame whose axes run along L, P and S; ``landmarks`` (N, 3) LPS mm are the patches' centres.
    """
    if not lungs.frame.is_axis_aligned:
        raise ValueError("the mask's axes must run along L, P and S")
    points = np.asarray(landmarks, dtype=np.float64)
    steps = (np.arange(patch_size) - (patch_size - 1) / 2) * PATCH_SPACING
    array = np.pad(lungs.lungs, 1)  # one voxel of outside all around, for what lies beyond the grid
    axes = []
    for axis in range(3):
        index = np.rint((points[:, axis, None] + steps - lungs.frame.origin[axis]) / lungs.frame.spacing[axis])
        axes.append(np.clip(index.astype(np.intp) + 1, 0, array.shape[2 - axis] - 1))
    inside = np.empty((len(points), *(patch_size,) * 3), dtype=np.bool_)
    for row in range(len(points)):
        inside[row] = array[np.ix_(axes[2][row], axes[1][row], axes[0][row])]
    return inside


def parenchyma_hu(patches: NDArray[np.int16], inside: NDArray[np.bool_]) -> float:
    """The most frequent density of the lung tissue in patches (N, P, P, P), HU; `COMMON_HU` where there is none.

    The peak of the histogram of the voxels ``inside``, smoothed by a Gaussian of 12 HU, within `PARENCHYMA`.
    """
    from scipy.ndimage import gaussian_filter1d

    low, high = PARENCHYMA
    reach = int(4 * _SMOOTH_HU)
    counts = np.zeros(high - low + 2 * reach + 1)
    for start in range(0, len(patches), _ROWS):
        rows = slice(start, start + _ROWS)
        hu = patches[rows][inside[rows]]
        hu = hu[(hu >= low - reach) & (hu <= high + reach)].astype(np.int64)
        counts += np.bincount(hu - (low - reach), minlength=len(counts))
    if not counts.any():
        return COMMON_HU
    smooth = gaussian_filter1d(counts, _SMOOTH_HU)[reach : len(counts) - reach]
    return float(low + int(smooth.argmax()))


def lung_tissue(
    patches: NDArray[np.int16], inside: NDArray[np.bool_] | None, parenchyma: float, strength: float
) -> NDArray[np.int16]:
    """Patches (…, P, P, P) HU at the common inflation, `OUTSIDE_HU` where not ``inside`` (None: everywhere kept).

    1000 + HU is multiplied by f = ((1000 + `COMMON_HU`) / (1000 + ``parenchyma``)) ** ``strength``, at most
    `LARGEST_FACTOR` and at least its inverse, below -500 HU; from there to 0 HU the correction fades linearly.
    ``strength`` 0 leaves the densities as they are, 1 makes all lungs equally dense.
    """
    factor = ((1000.0 + COMMON_HU) / max(1000.0 + parenchyma, 1.0)) ** strength
    factor = min(max(factor, 1.0 / LARGEST_FACTOR), LARGEST_FACTOR)
    table = _table(factor)
    flat = patches.reshape(-1, *patches.shape[-3:])
    kept = None if inside is None else inside.reshape(flat.shape)
    out = np.empty(flat.shape, dtype=np.int16)
    for start in range(0, len(flat), _ROWS):  # an index takes four times the memory of the patches it is of
        rows = slice(start, start + _ROWS)
        np.take(table, flat[rows].view(np.uint16), out=out[rows])
        if kept is not None:
            out[rows][~kept[rows]] = OUTSIDE_HU
    return out.reshape(patches.shape)


def _table(factor: float) -> NDArray[np.int16]:
    """(65536,) what becomes of every HU, by the HU as an unsigned number."""
    hu = np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.float64)
    changed = (hu + 1000.0) * (1.0 + (factor - 1.0) * np.clip(hu / _DENSE, 0.0, 1.0)) - 1000.0
    return np.asarray(np.where(hu < 0, np.maximum(np.rint(changed), _AIR), hu), dtype=np.int16)
