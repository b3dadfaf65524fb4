"""Where in the lungs a landmark lies, as a short description."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.imaging.volume import Mask

_COARSE = 4.0
"""mm between the sampled lung voxels."""


def places(atlas: Atlas) -> list[str]:
    """The place of each landmark of an atlas, such as "right upper, anterior".

    Side: that of the nearest voxel of the atlas's lungs (of the half of the mask, where the mask has no sides). Height:
    upper, middle or lower third of that lung between apex and base, the zones of a radiograph and not lobes.
    Anterior or posterior: in front of or behind the middle of that lung's full depth. The description comes from the
    atlas and not from the scan, so a landmark has the same one in every subject.
    """
    voxels, left = _lung_voxels(atlas.lungs)
    landmarks = np.asarray(atlas.landmarks, dtype=np.float64)
    on_left = left[_nearest(voxels, landmarks)]
    words = [""] * len(landmarks)
    for side, name in ((False, "right"), (True, "left")):
        own = voxels[left == side] if (left == side).any() else voxels
        front, back = own[:, 1].min(), own[:, 1].max()
        base, apex = own[:, 2].min(), own[:, 2].max()
        for j in np.flatnonzero(on_left == side):
            height = (landmarks[j, 2] - base) / max(apex - base, 1e-6)
            zone = "upper" if height >= 2 / 3 else "lower" if height < 1 / 3 else "middle"
            depth = "anterior" if landmarks[j, 1] < (front + back) / 2 else "posterior"
            words[j] = f"{name} {zone}, {depth}"
    return words


def on_right(atlas: Atlas) -> NDArray[np.bool_]:
    """(N,) whether a landmark lies in the right lung, or nearest to it; sides as in `places`."""
    voxels, left = _lung_voxels(atlas.lungs)
    return np.asarray(~left[_nearest(voxels, np.asarray(atlas.landmarks, dtype=np.float64))])


def in_lung(atlas: Atlas) -> NDArray[np.bool_]:
    """(N,) whether the middle of a landmark's patch lies in the atlas's lungs: most of the patch is then lung."""
    return atlas.lungs.contains(atlas.landmarks)


def _lung_voxels(lungs: Mask) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """LPS mm of a coarse sample of the lungs' voxels (V, 3), and which of them are in the left lung (V,)."""
    steps = [max(1, round(_COARSE / spacing)) for spacing in lungs.frame.spacing[::-1]]
    coarse = lungs.array[:: steps[0], :: steps[1], :: steps[2]]
    index = np.argwhere(coarse > 0)
    points = lungs.frame.to_lps((index * steps)[:, ::-1])
    labels = coarse[tuple(index.T)]
    left = np.asarray(labels == Mask.LEFT)
    unsided = labels == Mask.UNSIDED
    if unsided.any():
        middle = (points[:, 0].min() + points[:, 0].max()) / 2
        left[unsided] = points[unsided, 0] > middle
    return points, left


def _nearest(voxels: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.intp]:
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(voxels).query(points)[1], dtype=np.intp)


def strongest(values: NDArray[np.float64], atlas: Atlas, most: int) -> Sequence[int]:
    """Indices of up to ``most`` landmarks by descending value (N,), each at least 1.5 steps from those before.

    Landmarks whose patch is mostly chest wall or mediastinum come last; NaN values are left out. A patch's neighbours
    cover much of the same lung and would be redundant.
    """
    chosen: list[int] = []
    known = np.isfinite(values)
    for j in np.lexsort((-np.where(known, values, -np.inf), ~in_lung(atlas))):
        if len(chosen) == most:
            break
        apart = [float(np.linalg.norm(atlas.landmarks[j] - atlas.landmarks[k])) for k in chosen]
        if known[j] and all(distance >= 1.5 * atlas.step for distance in apart):
            chosen.append(int(j))
    return chosen
