"""Slices for the page: grey values, and outlines over them as SVG paths."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.explanation.mosaic import mosaic
from anatograph.imaging.views import View, grey_of
from anatograph.imaging.volume import Mask, Volume
from anatograph.study.subject import StoredSubject

_MARGIN = 12.0
"""mm shown around the lungs."""
_GRID = 2.0
"""mm between the points at which masks are looked up for their outlines."""
_TOLERANCE = 0.8
"""mm by which a simplified outline may leave the true one."""


@dataclass(frozen=True)
class SliceDrawing:
    """A slice ready for the page; lengths in mm, the origin at the top left corner."""

    view: View
    """Which plane."""
    width: int
    """mm."""
    height: int
    """mm."""
    picture: NDArray[np.uint8]
    """(height, width) grey values, a pixel a mm."""
    lungs: str
    """SVG path of the lung mask."""
    atlas: str
    """SVG path of the atlas's lungs where the map puts them."""
    landmarks: str
    """SVG path of a dot for each landmark near the plane."""


def draw_slice(
    subject: StoredSubject, atlas: Atlas, lungs: Mask, view: View, scan: Volume | None = None
) -> SliceDrawing | None:
    """The slice through the middle of the lungs, from the patches if there is no ``scan``; None for an empty mask."""
    box = lungs.box_lps()
    if box is None:
        return None
    low, high = box[0] - _MARGIN, box[1] + _MARGIN
    place = float((low + high)[view.through] / 2)
    width = int(np.ceil(high[view.across] - low[view.across]))
    height = int(np.ceil(high[view.up] - low[view.up]))
    if scan is None:
        picture = grey_of(mosaic(subject, view, low, high))
    else:
        picture = _from_scan(scan, view, place, low, (height, width))
    if not view.downwards:
        picture = picture[::-1]
    h = low[view.across] + np.arange(0, width + _GRID, _GRID)
    v = low[view.up] + np.arange(0, height + _GRID, _GRID)
    flat = view.points(place, h, v).reshape(-1, 3)
    shape = (len(v), len(h))

    def drawn(inside: NDArray[np.bool_]) -> str:
        return _outline(inside.reshape(shape), height, view.downwards)

    near = np.abs(subject.landmarks[:, view.through] - place) <= atlas.step / 2
    dots = []
    for point in subject.landmarks[near & subject.present]:
        x, y = point[view.across] - low[view.across], point[view.up] - low[view.up]
        dots.append(f"M{x:.0f} {y if view.downwards else height - y:.0f}h0")
    return SliceDrawing(
        view,
        width,
        height,
        np.ascontiguousarray(picture),
        drawn(lungs.contains(flat)),
        drawn(atlas.lungs.contains(subject.map().to_atlas(flat))),
        "".join(dots),
    )


def webp(grey: NDArray[np.uint8], scale: float = 1.0, quality: int = 60) -> bytes:
    """Grey values as a WebP picture, made smaller by ``scale``."""
    from PIL import Image

    image = Image.fromarray(grey)
    if scale != 1.0:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def _from_scan(
    scan: Volume, view: View, place: float, low: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """(height, width) of the plane at ``place``, by the nearest voxel; black outside the scan."""
    ends, numbers = {view.through: np.array([place])}, {}
    ends[view.up], ends[view.across] = (
        low[axis] + np.arange(n) for axis, n in zip((view.up, view.across), shape, strict=True)
    )
    for axis, line in ends.items():
        numbers[axis] = np.rint((line - scan.frame.origin[axis]) / scan.frame.spacing[axis]).astype(np.intp)
    sizes = scan.frame.shape[::-1]
    block = scan.array[np.ix_(*(np.clip(numbers[axis], 0, sizes[axis] - 1) for axis in (2, 1, 0)))]
    picture = grey_of(np.squeeze(block, axis=2 - view.through))
    for axis, part in ((view.up, 0), (view.across, 1)):
        beyond = (numbers[axis] < 0) | (numbers[axis] >= sizes[axis])
        picture[(beyond, slice(None)) if part == 0 else (slice(None), beyond)] = 0
    return picture


def _outline(inside: NDArray[np.bool_], height: int, downwards: bool) -> str:
    """SVG path about what is true on a grid of `_GRID` mm, in whole mm."""
    from contourpy import contour_generator
    from matplotlib.path import Path as Line

    if not inside.any():
        return ""
    padded = np.pad(inside.astype(np.float32), 1)
    parts = []
    for line in contour_generator(z=padded).lines(0.5):
        points = (np.asarray(line) - 1) * _GRID
        if len(points) < 8:
            continue
        if not downwards:
            points[:, 1] = height - points[:, 1]
        path = Line(points)
        path.simplify_threshold = _TOLERANCE
        path.should_simplify = True
        corners = np.asarray(path.cleaned(simplify=True).vertices)[:-1]
        steps = np.diff(np.rint(corners).astype(int), axis=0)
        start = np.rint(corners[0]).astype(int)
        parts.append(f"M{start[0]} {start[1]}l" + " ".join(f"{x} {y}" for x, y in steps if x or y) + "z")
    return "".join(parts).replace(" -", "-")
