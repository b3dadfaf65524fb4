"""The lungs of the mean adult, from which the default atlas is made."""

from __future__ import annotations

import numpy as np

from anatograph.imaging.volume import Frame, Mask
from anatograph.phantoms.thorax.shape import BASE, LUNG_HEIGHT, Thorax, fine_axis

_COARSE = 2
_MARGIN = 6


def reference_lungs() -> Mask:
    """The mean adult's lungs at 1 mm, noise-free, right 1 and left 2: the source of the default atlas.

    Shape about (300, 206, 290) z,y,x; 1 mm isotropic; LPS mm with the origin of coordinates between the lungs. Made
    of plain arithmetic alone (see `shape`), so that it is the same to the bit everywhere.
    """
    x = np.arange(-144 - _MARGIN, 144 + _MARGIN + 1, _COARSE, dtype=np.float64)
    y = np.arange(-104 - _MARGIN, 108 + _MARGIN + 1, _COARSE, dtype=np.float64)
    z = np.arange(int(BASE) - _MARGIN, int(BASE + LUNG_HEIGHT) + _MARGIN + 1, _COARSE, dtype=np.float64)
    right, left = Thorax().lungs(x[None, None, :], y[None, :, None], z[:, None, None])
    sides = []
    for level in (right, left):
        fine = fine_axis(fine_axis(fine_axis(level, 0, _COARSE), 1, _COARSE), 2, _COARSE)
        sides.append(fine > 0.0)
    count = (len(z), len(y), len(x))
    shape = ((count[0] - 1) * _COARSE + 1, (count[1] - 1) * _COARSE + 1, (count[2] - 1) * _COARSE + 1)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[sides[0]] = Mask.RIGHT
    labels[sides[1]] = Mask.LEFT
    frame = Frame(shape, (1.0, 1.0, 1.0), (float(x[0]), float(y[0]), float(z[0])))
    return Mask(labels, frame)
