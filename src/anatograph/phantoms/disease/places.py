"""Where a point lies in the lungs: what the distributions of diseases and of normal variants are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.disease.description import Bias
from anatograph.phantoms.raster.grid import Stage
from anatograph.phantoms.thorax.lobes import lobe_index
from anatograph.phantoms.thorax.shape import BASE, LUNG_HEIGHT

Array = NDArray[np.float64]
_HILA = np.array([(-42.0, 6.0, 0.0), (46.0, 8.0, 0.0)])
_MIDLINE = 4.0


@dataclass(frozen=True, eq=False)
class Places:
    """Position in the lungs at every sample (z, y, x) of a stage's coarse grid."""

    stage: Stage
    """The grids."""
    depth: Array
    """mm inside the lungs, negative outside."""
    costal: Array
    """mm from the costal pleura, positive inside."""

    @cached_property
    def points(self) -> tuple[Array, Array, Array]:
        """Thorax coordinates x, y, z."""
        return self.stage.coarse_points

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """In the lungs."""
        return np.asarray(self.depth > 0)

    @cached_property
    def height(self) -> Array:
        """0 at the deepest recess of the lungs, 1 at the apices."""
        return np.asarray((self.points[2] - BASE) / LUNG_HEIGHT)

    @cached_property
    def left(self) -> Array:
        """-1 in the right lung, 1 in the left, steep at the midline."""
        return np.asarray(np.tanh((self.points[0] - _MIDLINE) / 18.0))

    @cached_property
    def back(self) -> Array:
        """About -1 at the front of the chest, 1 at its back (LPS y)."""
        return np.asarray(self.points[1] / 100.0)

    @cached_property
    def peripheral(self) -> Array:
        """1 at the costal pleura, falling by e every 20 mm."""
        return np.exp(-np.maximum(self.costal, 0.0) / 20.0)

    @cached_property
    def central(self) -> Array:
        """1 at the hilum of a lung, falling as a Gaussian of 42 mm."""
        x, y, z = self.points
        squares = [(x - a) ** 2 + (y - b) ** 2 + ((z - c) / 1.25) ** 2 for a, b, c in _HILA]
        return np.asarray(np.exp(-np.minimum(*squares) / (2 * 42.0**2)))

    @cached_property
    def lobes(self) -> NDArray[np.int64]:
        """Index of `LOBES`; in real lungs an estimate from the reference anatomy."""
        return lobe_index(*self.points)

    def preference(self, bias: Bias) -> Array:
        """Log-density of a disease with this bias, up to a constant."""
        return np.asarray(
            bias.upper * (self.height - 0.5)
            + bias.left * self.left
            + bias.peripheral * self.peripheral
            + bias.central * self.central
            + bias.dependent * self.back
        )
