"""Where in the lungs a landmark lies, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.imaging.volume import Mask

_COARSE = 4.0
"""mm between the lung voxels that are looked at."""


def places(atlas: Atlas) -> list[str]:
    """The place of each landmark of an atlas, such as "right upper, anterior".

    Side: that of the nearest voxel of the atlas's lungs (of the half of the mask, where the mask has no sides). Height:
    upper, middle or lower third of that lung between apex and base, the zones of a radiograph and not lobes.
    Anterior or posterior: before or behind the middle of that lung at its deepest. The words come from the atlas and
    not from the scan, so a landmark has the same in everyone.
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


def _lung_voxels(lungs: Mask) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """LPS mm of a coarse choice of the lungs' voxels (V, 3), and which of them are in the left lung (V,)."""
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


def strongest(values: NDArray[np.float64], landmarks: NDArray[np.float64], most: int, apart: float) -> Sequence[int]:
    """Indices of up to ``most`` landmarks by falling value (N,), none nearer than ``apart`` mm to a stronger one.

    NaN values are left out; a patch's neighbours see much of the same lung, so they would only repeat it.
    """
    chosen: list[int] = []
    for j in np.argsort(-np.where(np.isfinite(values), values, -np.inf), kind="stable"):
        if len(chosen) == most or not np.isfinite(values[j]):
            break
        if all(float(np.linalg.norm(landmarks[j] - landmarks[k])) >= apart for k in chosen):
            chosen.append(int(j))
    return chosen
