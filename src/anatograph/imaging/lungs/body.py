"""What lies inside the body: without the air around it, the table, clothes, and what the scanner did not see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, components, dilate, erode

AIR_HU = -400
"""Half way between aerated lung (about -850) and soft tissue (about 50)."""
ROOM_AIR_HU = -955
"""Air that touches the edge of the view is the room's if its mean is below this; else a lung cut off there."""
WALL_MM = 3.0
"""Half the thickness of the thinnest chest wall; shells of tables and folds of cloth are thinner."""


def inside_body(grid: CoarseGrid) -> Bool:
    """Blocks inside the body, tissue and air, z, y, x; empty where there is no body.

    Tissue thinner than a chest wall is removed first (table, clothes, cables), the largest piece is kept and every
    axial slice of it filled. Where the edge of the view cuts the body open, the room's air is told from the lung's by
    its density and by how much of its border lies along that edge.
    """
    tissue = (grid.hu > AIR_HU) & grid.in_view
    thick = erode(np.pad(tissue, ((0, 0), (1, 1), (1, 1)), mode="edge"), WALL_MM, grid.spacing)
    labels, sizes = components(thick)
    if len(sizes) < 2:
        return np.zeros_like(tissue)
    largest = labels == int(np.argmax(sizes[1:])) + 1
    body = dilate(largest, WALL_MM, grid.spacing)[:, 1:-1, 1:-1] & grid.in_view
    edge = grid.in_view & ~_shrunk(grid.in_view)
    result = np.zeros_like(body)
    for z in range(len(body)):
        outside = _room(grid.hu[z], body[z], grid.in_view, edge)
        result[z] = grid.in_view & ~outside
    # What is left besides the body: islands in the room (table, other limbs) do not belong to it.
    labels, _ = components(result)
    touched = np.unique(labels[body])
    touched = touched[touched > 0]
    return np.asarray(np.isin(labels, touched))


def _shrunk(region: Bool) -> Bool:
    return np.asarray(ndimage.binary_erosion(region, border_value=0))


def _room(hu: NDArray[np.float32], body: Bool, in_view: Bool, edge: Bool) -> Bool:
    """Blocks of one slice that are outside the body."""
    labels, count = ndimage.label(in_view & ~body)
    if count == 0:
        return np.zeros_like(body)
    index = np.arange(1, count + 1)
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    on_edge = np.bincount(labels[edge], minlength=count + 1)[1:]
    rim = np.bincount(labels[ndimage.binary_dilation(body | ~in_view) & (labels > 0)], minlength=count + 1)[1:]
    mean = np.asarray(ndimage.mean(hu, labels, index))
    cut_lung = (mean > ROOM_AIR_HU) & (on_edge < 0.4 * np.maximum(rim, 1)) & (area > 20)
    room = (on_edge > 0) & ~cut_lung
    return np.asarray(np.concatenate(([False], room))[labels])
