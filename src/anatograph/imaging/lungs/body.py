"""The inside of the body: without surrounding air, the table, clothes, and what lies outside the field of view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, components, dilate, erode

AIR_HU = -400
"""Halfway between aerated lung (about -850) and soft tissue (about 50)."""
ROOM_STEP_HU = 45.0
"""Air at the edge of the view at most this much denser than the darkest there is room air; denser air is a cut lung."""
ROOM_LEVEL_HU = (-955.0, -900.0)
"""Bounds of that level, for views that show no room air, or none but padding."""
WALL_MM = 3.0
"""Half the thickness of the thinnest chest wall; table shells and folds of cloth are thinner."""
LEAK_MM = 6.0
"""Half the width of the largest gap in a thin chest wall through which room air does not enter the lung."""
LEAKED_MM2 = 300.0
"""Lung behind such a gap is at least as large in a slice."""
WITHIN_HULL = 0.8
"""And at least this much of it lies within the convex hull of the body in that slice."""


def inside_body(grid: CoarseGrid) -> Bool:
    """Blocks inside the body, tissue and air, z, y, x; empty where there is no body.

    Tissue thinner than a chest wall is removed first (table, clothes, cables); the largest component is kept and its
    axial slices are filled. Where the edge of the view cuts the body open, room air is distinguished from lung by its
    density and by the share of its border along that edge.
    """
    tissue = (grid.hu > AIR_HU) & grid.in_view
    thick = erode(np.pad(tissue, ((0, 0), (1, 1), (1, 1)), mode="edge"), WALL_MM, grid.spacing)
    labels, sizes = components(thick)
    if len(sizes) < 2:
        return np.zeros_like(tissue)
    largest = labels == int(np.argmax(sizes[1:])) + 1
    body = dilate(largest, WALL_MM, grid.spacing)[:, 1:-1, 1:-1] & grid.in_view
    edge = grid.in_view & ~_shrunk(grid.in_view)
    level = _room_level(grid, body, edge)
    result = np.zeros_like(body)
    for z in range(len(body)):
        outside = _room(grid.hu[z], body[z], grid.in_view, edge, level)
        outside &= ~_leaked_into(grid, z, outside & ~tissue[z], body[z], edge, level)
        result[z] = grid.in_view & ~outside
    # Islands in the room (table, other limbs) do not belong to the body.
    labels, _ = components(result)
    touched = np.unique(labels[body])
    touched = touched[touched > 0]
    return np.asarray(np.isin(labels, touched))


def _leaked_into(grid: CoarseGrid, z: int, room: Bool, body: Bool, edge: Bool, level: float) -> Bool:
    """Blocks (y, x) of a slice's room air that are lung behind a gap in a thin chest wall.

    They are reached from the edge of the view through passages narrower than twice `LEAK_MM` only, are wider than that
    themselves, denser than the room's air, and within the convex hull of the body, unlike the pad of a table.
    """
    result = np.zeros_like(room)
    spacing = (grid.spacing[0], *grid.spacing[1:])
    core = erode(room[None], LEAK_MM, spacing)[0]
    labels, count = ndimage.label(core)
    open_ = np.unique(labels[edge])
    behind = np.setdiff1d(np.arange(1, count + 1), open_)
    if not behind.size:
        return result
    least = LEAKED_MM2 / (grid.spacing[1] * grid.spacing[2])
    sizes = np.bincount(labels.ravel())
    chosen = [k for k in behind if sizes[k] >= least and float(np.percentile(grid.hu[z][labels == k], 20)) > level]
    if chosen:
        hull = _hull(body)
        chosen = [k for k in chosen if float(hull[labels == k].mean()) > WITHIN_HULL]
    if chosen:
        outside = dilate((core & np.isin(labels, open_))[None], LEAK_MM, spacing)[0]
        result = dilate(np.isin(labels, chosen)[None], LEAK_MM + max(grid.spacing[1:]), spacing)[0] & room & ~outside
    return result


def _hull(body: Bool) -> Bool:
    """The convex hull of a slice's body; empty where it has none."""
    rim = np.argwhere(body & ~ndimage.binary_erosion(body))
    try:
        faces = ConvexHull(rim).equations
    except (QhullError, ValueError):
        return np.zeros_like(body)
    places = np.moveaxis(np.indices(body.shape), 0, -1)
    return np.asarray((places @ faces[:, :2].T + faces[:, 2] <= 1e-6).all(axis=-1))


def _room_level(grid: CoarseGrid, body: Bool, edge: Bool) -> float:
    """HU between room air, as this scanner renders it, and lung."""
    air = grid.hu[~body & edge]
    lowest = float(np.percentile(air, 5)) if air.size else -1000.0
    return float(np.clip(lowest + ROOM_STEP_HU, *ROOM_LEVEL_HU))


def _shrunk(region: Bool) -> Bool:
    return np.asarray(ndimage.binary_erosion(region, border_value=0))


def _room(hu: NDArray[np.float32], body: Bool, in_view: Bool, edge: Bool, level: float) -> Bool:
    """Blocks of one slice that are outside the body; ``level`` separates room air from lung.

    Only the left and right edges of the view cut a lung open; air open in front or behind is room, or the table.
    """
    labels, count = ndimage.label(in_view & ~body)
    room = np.zeros(count + 1, dtype=bool)
    centre = (np.array(body.shape) - 1) / 2
    border = edge | ndimage.binary_dilation(body)
    for k in np.unique(labels[edge]):
        if k == 0:
            continue
        part = labels == k
        at_edge = np.argwhere(part & edge) - centre
        sideways = abs(float(at_edge[:, 0].mean())) < float(np.abs(at_edge[:, 1]).mean())
        cut_open = sideways and len(at_edge) < 0.6 * (part & border).sum() and part.sum() > 5
        # Partial volume only brightens, so a low percentile distinguishes a sliver of room air from lung.
        room[k] = not (cut_open and float(np.percentile(hu[part], 20)) > level)
    return np.asarray(room[labels])
