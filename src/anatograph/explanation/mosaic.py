"""Slices put together from stored patches, for subjects whose whole slices an earlier version did not store."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.views import View, grey_of
from anatograph.imaging.volume import Mask
from anatograph.study.quality.slices import VIEWS, Slice, extent
from anatograph.study.subject import StoredSubject


def slices_of_patches(subject: StoredSubject, lungs: Mask) -> tuple[Slice, ...]:
    """The planes of the stored slices, put together from a subject's patches; black where none reaches.

    Raises:
        ValueError: an empty mask.
    """
    centre, low, high = extent(lungs)
    found = []
    for view in VIEWS:
        near, far = low.copy(), high.copy()
        near[view.through] = far[view.through] = centre[view.through]
        corner = (float(low[view.across]), float(low[view.up]))
        grey = grey_of(mosaic(subject, view, near, far))
        found.append(Slice(view, float(centre[view.through]), corner, grey))
    return tuple(found)


def mosaic(
    subject: StoredSubject, view: View, low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float32]:
    """HU (up, across) of the slice through the middle of the box from ``low`` to ``high`` (LPS mm); NaN in gaps.

    Pixels are 1 mm wide, the first begins at ``low``. Each is taken from the patch whose centre is nearest to
    the pixel's own.
    """
    place = float((low + high)[view.through] / 2)
    across, up = (low[axis] + 0.5 + np.arange(int(np.ceil((high - low)[axis]))) for axis in (view.across, view.up))
    picture = np.full((len(up), len(across)), np.nan, dtype=np.float32)
    nearest = np.full(picture.shape, np.inf)
    landmarks, patches = subject.landmarks, subject.patches
    half = patches.shape[1] / 2
    for j in np.flatnonzero((np.abs(landmarks[:, view.through] - place) < half) & subject.present):
        h, v = across - landmarks[j, view.across], up - landmarks[j, view.up]
        columns, rows = np.abs(h) < half, np.abs(v) < half
        if not (columns.any() and rows.any()):
            continue
        index: list[Any] = [0, 0, 0]
        index[2 - view.through] = int(np.floor(place - landmarks[j, view.through] + half))
        index[2 - view.up] = np.floor(v[rows] + half).astype(int)[:, None]
        index[2 - view.across] = np.floor(h[columns] + half).astype(int)[None, :]
        values = np.asarray(patches[j])[tuple(index)]
        far = np.maximum(np.abs(v[rows])[:, None], np.abs(h[columns])[None, :])
        far = np.maximum(far, abs(place - landmarks[j, view.through]))
        block = np.ix_(rows, columns)
        better = far < nearest[block]
        picture[block] = np.where(better, values, picture[block])
        nearest[block] = np.where(better, far, nearest[block])
    return picture
