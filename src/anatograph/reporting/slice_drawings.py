"""Slices for the page: grey values, and outlines over them as SVG paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.imaging.views import View
from anatograph.imaging.volume import Mask
from anatograph.study.quality.slices import Slice
from anatograph.study.quality.webp import webp
from anatograph.study.subject import StoredSubject

_GRID = 2.0
"""mm between the points at which masks are sampled for their outlines."""
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


def draw_slices(subject: StoredSubject, atlas: Atlas, lungs: Mask, slices: Sequence[Slice]) -> list[SliceDrawing]:
    """Each slice with the outlines of the lung mask and of the mapped atlas, and the landmarks near it."""
    brought = subject.map()
    drawn = []
    for one in slices:
        view = one.view
        height, width = one.grey.shape
        h = one.low[0] + np.arange(0, width + _GRID, _GRID)
        v = one.low[1] + np.arange(0, height + _GRID, _GRID)
        flat, shape = view.points(one.place, h, v).reshape(-1, 3), (len(v), len(h))
        near = (np.abs(subject.landmarks[:, view.through] - one.place) <= atlas.step / 2) & subject.present
        dots = []
        for point in subject.landmarks[near]:
            x, y = point[view.across] - one.low[0], point[view.up] - one.low[1]
            if 0 <= x <= width and 0 <= y <= height:
                dots.append(f"M{x:.0f} {y if view.downwards else height - y:.0f}h0")
        drawn.append(
            SliceDrawing(
                view,
                width,
                height,
                np.ascontiguousarray(one.grey if view.downwards else one.grey[::-1]),
                _outline(lungs.contains(flat).reshape(shape), height, view.downwards),
                _outline(atlas.lungs.contains(brought.to_atlas(flat)).reshape(shape), height, view.downwards),
                "".join(dots),
            )
        )
    return drawn


def encoded(grey: NDArray[np.uint8], scale: float, quality: int) -> str:
    """Grey values as a WebP picture in base64, made smaller by ``scale``."""
    from PIL import Image

    image = Image.fromarray(grey)
    if scale != 1.0:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return webp(image, quality)


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
