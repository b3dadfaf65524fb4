"""Patches with nothing but lung tissue in them, at a common inflation.

A patch is a cube, so at the border of a lung it also shows ribs, heart and diaphragm, and how much of them differs
from subject to subject more than disease does; and a lung that is breathed out is denser everywhere. Both are removed
from what a model sees, not from what a study stores.

Lung is treated as a sponge: tissue and blood stay, air comes and goes, so that 1000 + HU of a voxel is divided by how
much the lung expands (Stoel et al. 2008, Proc Am Thorac Soc 5:919). The expansion is read from the most frequent
density of the lung, of each lung by itself: one that is compressed, or behind a tumour, holds less air than the other.
Where disease decides that density (holes of emphysema, or more ground glass than normal lung) that of both lungs is
taken. As disease shifts it everywhere, the correction is made in part (``strength``).

Letters in shapes: N landmarks, P patch side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.patches import PATCH_SPACING
from anatograph.imaging.volume import Mask

OUTSIDE_HU = 100
"""What voxels outside the lungs are shown as: soft tissue, denser than any lung."""
COMMON_HU = -860.0
"""Density of the parenchyma that lungs are brought to, that of a deep breath."""
PARENCHYMA = (-940, -500)
"""HU between which the most frequent density of the lungs is looked for; below are the holes of emphysema."""
AERATED_HU = -750.0
"""A lung whose most frequent density is above this is more ill than breathed out: its own density is not taken."""
LARGEST_FACTOR = 1.4
"""1000 + HU is never multiplied by more than this, nor divided by it: beyond, it is disease and not breath."""
_DENSE = -500.0
"""From here to 0 HU the correction fades: vessels, consolidation and walls hold no air that could go."""
_SMOOTH_HU = 12.0
_REACH = int(4 * _SMOOTH_HU)
_FIGURE = "lungs_parenchyma_{}_hu"
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


class Parenchyma(NamedTuple):
    """The density that each lung's inflation is read from, HU."""

    right: float
    left: float

    def at(self, on_right: NDArray[np.bool_]) -> NDArray[np.float64]:
        """That of the lung each landmark lies in; ``on_right`` (N,) is `anatograph.anatomy.places.on_right`."""
        return np.where(on_right, self.right, self.left)

    def figures(self) -> dict[str, float]:
        """As a study keeps it among the quality figures of a subject."""
        return {_FIGURE.format(side): density for side, density in self._asdict().items()}

    @classmethod
    def from_figures(cls, figures: Mapping[str, Any]) -> Parenchyma | None:
        """What `figures` gave; None where an earlier version, which knew one density for both lungs, wrote them, or
        where they are no numbers."""
        known = [figures.get(_FIGURE.format(side)) for side in cls._fields]
        densities = [float(value) for value in known if isinstance(value, int | float) and math.isfinite(value)]
        return cls(*densities) if len(densities) == len(known) else None


def parenchyma(patches: NDArray[np.int16], inside: NDArray[np.bool_], on_right: NDArray[np.bool_]) -> Parenchyma:
    """The most frequent density of each lung in patches (N, P, P, P), of which ``on_right`` (N,) are in the right one.

    The peak of the histogram of the voxels ``inside``, smoothed by a Gaussian of 12 HU, within `PARENCHYMA`. A lung
    that has no peak there below `AERATED_HU` gets that of both lungs together: half emphysema, its histogram falls from
    the lower end on; half consolidated, its peak is disease. `COMMON_HU` where there is no lung at all.
    """
    counts = [_histogram(patches[side], inside[side]) for side in (on_right, ~on_right)]
    both, _ = _peak(counts[0] + counts[1])
    own = [density if real and density < AERATED_HU else both for density, real in map(_peak, counts)]
    return Parenchyma(*own)


def _histogram(patches: NDArray[np.int16], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How many voxels ``inside`` have each HU of `PARENCHYMA`, and of what the smoothing reaches around it."""
    low, high = PARENCHYMA[0] - _REACH, PARENCHYMA[1] + _REACH
    counts = np.zeros(high - low + 1)
    for start in range(0, len(patches), _ROWS):
        rows = slice(start, start + _ROWS)
        hu = patches[rows][inside[rows]]
        hu = hu[(hu >= low) & (hu <= high)].astype(np.int64)
        counts += np.bincount(hu - low, minlength=len(counts))
    return counts


def _peak(counts: NDArray[np.float64]) -> tuple[float, bool]:
    """Where a histogram is highest within `PARENCHYMA`, HU, and whether it falls from there to both sides."""
    from scipy.ndimage import gaussian_filter1d

    if not counts.any():
        return COMMON_HU, False
    smooth = gaussian_filter1d(counts, _SMOOTH_HU)[_REACH : len(counts) - _REACH]
    highest = int(smooth.argmax())
    return float(PARENCHYMA[0] + highest), 0 < highest < len(smooth) - 1


def lung_tissue(
    patches: NDArray[np.int16], inside: NDArray[np.bool_] | None, densities: ArrayLike, strength: float
) -> NDArray[np.int16]:
    """Patches (N, P, P, P) HU at the common inflation, `OUTSIDE_HU` where not ``inside`` (None: everywhere kept).

    1000 + HU is multiplied by f = ((1000 + `COMMON_HU`) / (1000 + density)) ** ``strength``, at most
    `LARGEST_FACTOR` and at least its inverse, below -500 HU; from there to 0 HU the correction fades linearly.
    ``densities`` are those of the lung each patch is in, (N,) or one for all (`Parenchyma`). ``strength`` 0 leaves
    patches as they are, 1 makes all lungs equally dense.
    """
    each = np.broadcast_to(np.asarray(densities, dtype=np.float64), len(patches))
    out = np.empty(patches.shape, dtype=np.int16)
    for density in np.unique(each):
        factor = ((1000.0 + COMMON_HU) / max(1000.0 + density, 1.0)) ** strength
        table = _table(min(max(factor, 1.0 / LARGEST_FACTOR), LARGEST_FACTOR))
        of_lung = np.flatnonzero(each == density)
        for start in range(0, len(of_lung), _ROWS):  # an index takes four times the memory of the patches it is of
            rows = of_lung[start : start + _ROWS]
            out[rows] = np.take(table, patches[rows].view(np.uint16))
    if inside is not None:
        out[~inside] = OUTSIDE_HU
    return out


def _table(factor: float) -> NDArray[np.int16]:
    """(65536,) what becomes of every HU, by the HU as an unsigned number."""
    hu = np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.float64)
    changed = (hu + 1000.0) * (1.0 + (factor - 1.0) * np.clip(hu / _DENSE, 0.0, 1.0)) - 1000.0
    return np.asarray(np.where(hu < 0, np.maximum(np.rint(changed), _AIR), hu), dtype=np.int16)
