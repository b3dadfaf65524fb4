"""Three whole slices of a scan, stored beside its patches, so that a page can show it when its file is elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.views import AXIAL, CORONAL, SAGITTAL, View, grey_of, voxel_centres
from anatograph.imaging.volume import Mask, Volume

MARGIN = 25.0
"""mm shown around the lungs."""
VIEWS = (CORONAL, AXIAL, SAGITTAL)
"""Planes of a quality picture, in its order."""


@dataclass(frozen=True, eq=False)
class Slice:
    """Grey values of a plane in the lung window, a pixel a mm."""

    view: View
    """Which plane."""
    place: float
    """Where it cuts, LPS mm along ``view.through``."""
    low: tuple[float, float]
    """LPS mm of the lower corner along ``view.across`` and ``view.up``; pixel k spans low + k to low + k + 1."""
    grey: NDArray[np.uint8]
    """(height, width); rows along ``view.up``, columns along ``view.across``; black outside the scan."""


def extent(lungs: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Point that the slices go through and the box shown, LPS mm; the sagittal slice goes through the right lung.

    Raises:
        ValueError: an empty mask.
    """
    box = lungs.box_lps()
    if box is None:
        raise ValueError("the lung mask is empty")
    low, high = box
    centre = (low + high) / 2
    centre[0] = low[0] + 0.25 * (high[0] - low[0])
    return centre, low - MARGIN, high + MARGIN


def cut_slices(scan: Volume, lungs: Mask) -> tuple[Slice, ...]:
    """The slices of a quality picture from a scan whose axes run along L, P and S.

    Raises:
        ValueError: an empty mask.
    """
    centre, low, high = extent(lungs)
    found = []
    for view in VIEWS:
        index = int(scan.frame.nearest(centre)[0][view.through])
        place = scan.frame.origin[view.through] + index * scan.frame.spacing[view.through]
        corner = (float(low[view.across]), float(low[view.up]))
        shape = tuple(int(np.ceil(high[axis] - low[axis])) for axis in (view.up, view.across))
        found.append(Slice(view, float(place), corner, _sampled(scan, view, index, corner, shape)))
    return tuple(found)


def save_slices(path: Path, slices: Sequence[Slice]) -> None:
    """Write slices as a compressed NumPy archive: ``VIEW`` (grey values) and ``VIEW_at`` (place, low) for each."""
    parts: dict[str, NDArray[np.generic]] = {}
    for one in slices:
        parts[one.view.name] = one.grey
        parts[f"{one.view.name}_at"] = np.array([one.place, *one.low])
    np.savez_compressed(path, **parts)  # type: ignore[arg-type]  # the stub takes the arrays for ``allow_pickle``


def load_slices(path: Path) -> tuple[Slice, ...]:
    """Slices as `save_slices` wrote them; empty where there are none or they cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as parts:
            found = []
            for view in VIEWS:
                grey, at = parts[view.name], parts[f"{view.name}_at"]
                if grey.dtype != np.uint8 or grey.ndim != 2 or at.shape != (3,) or not np.isfinite(at).all():
                    return ()
                found.append(Slice(view, float(at[0]), (float(at[1]), float(at[2])), grey))
            return tuple(found)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return ()


def _sampled(
    scan: Volume, view: View, index: int, low: tuple[float, float], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """(up, across) of plane ``index``, linear between voxels; black beyond the outer voxel faces."""
    slab = view.slab(scan.array, index).astype(np.float32)
    for part, (axis, start, count) in enumerate(((view.up, low[1], shape[0]), (view.across, low[0], shape[1]))):
        centres, half = voxel_centres(scan.frame, axis), scan.frame.spacing[axis] / 2
        wanted = start + 0.5 + np.arange(count)
        inner = np.clip((wanted - centres[0]) / scan.frame.spacing[axis], 0, len(centres) - 1)
        before = np.minimum(inner.astype(np.intp), max(len(centres) - 2, 0))
        after = np.minimum(before + 1, len(centres) - 1)
        share = (inner - before).astype(np.float32)
        rows = np.moveaxis(slab, part, 0)
        rows = rows[before] * (1 - share)[:, None] + rows[after] * share[:, None]
        rows[(wanted < centres[0] - half) | (wanted > centres[-1] + half)] = np.nan
        slab = np.moveaxis(rows, 0, part)
    return grey_of(slab)
