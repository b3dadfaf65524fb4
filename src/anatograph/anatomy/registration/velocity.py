"""Stationary velocity fields on a lattice: their flow, and the energy that keeps them smooth.

A velocity v vanishes on the border of its lattice, so it is a sine series (type I) in each direction. Its energy is

    R(v) = λ Σ_k (ℓ² |ω_k|²)^p (1 + m² |ω_k|²) |v̂_k|² / M

over the M lattice points, with v̂ the orthonormal sine coefficients and |ω_k|² the eigenvalues of the lattice's negative
Laplacian: p = 1 penalises stretch, p = 2 bending, and waves shorter than 2π m are penalised by one order more. The fit
works on the *whitened* coefficients u with R(v) = |u|².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.fft import dstn, idstn
from scipy.sparse import csr_array

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Smoothness:
    """How strongly a velocity field is kept smooth."""

    strength: float = 1e-3
    """λ, in units of the data term (mm²)."""
    power: float = 1.5
    """p: between stretch (1) and bending (2)."""
    length: float = 50.0
    """ℓ in mm: waves of 2π times this length cost λ per mm² of their mean square."""
    fine: float = 8.0
    """m in mm."""


class VelocityLattice:
    """A regular lattice along LPS for velocities in mm that vanish on its border; arrays are (Z, Y, X, 3)."""

    def __init__(self, low: Array, cells: tuple[int, int, int], spacing: float, smoothness: Smoothness) -> None:
        self.low = low
        """(3,) LPS mm of the border's lowest corner."""
        self.cells = cells
        """Cells along x, y, z; the lattice points are the corners between them, without the border."""
        self.spacing = spacing
        """mm between lattice points."""
        self.shape = (cells[2] - 1, cells[1] - 1, cells[0] - 1)
        """Lattice points along z, y, x."""
        lines = [(2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))) / spacing**2 for n in self.shape]
        waves = lines[0][:, None, None] + lines[1][None, :, None] + lines[2][None, None, :]
        energy = smoothness.strength * (smoothness.length**2 * waves) ** smoothness.power / waves.size
        energy *= 1 + smoothness.fine**2 * waves
        self._half: Array = energy[..., None] ** -0.5

    def velocity(self, whitened: Array) -> Array:
        """v (Z, Y, X, 3) in mm from whitened coefficients u of the same shape."""
        return np.asarray(idstn(whitened * self._half, type=1, norm="ortho", axes=(0, 1, 2)))

    def adjoint(self, gradient: Array) -> Array:
        """Gradient by u from the gradient by v, both (Z, Y, X, 3)."""
        return np.asarray(dstn(gradient, type=1, norm="ortho", axes=(0, 1, 2)) * self._half)

    def refined(self, whitened: Array, finer: VelocityLattice) -> Array:
        """u on a finer lattice over the same box, of exactly the same sine series."""
        result = np.zeros((*finer.shape, 3))
        scale = np.prod([(fine + 1) / (own + 1) for own, fine in zip(self.shape, finer.shape, strict=True)]) ** 0.5
        result[: self.shape[0], : self.shape[1], : self.shape[2]] = whitened * self._half * scale
        return np.asarray(result / finer._half)

    def flow(self, velocity: Array, points: Array, steps: int) -> tuple[Array, list[Array]]:
        """Points (N, 3) after unit time along ``velocity`` (midpoint rule), and the ``steps`` midpoints on the way."""
        # map_coordinates reads one component at a time, and the zero border is part of the field.
        parts = [np.pad(velocity[..., axis], 1) for axis in range(3)]
        trace = []
        for _ in range(steps):
            middle = points + (0.5 / steps) * self._sample(parts, points)
            points = points + self._sample(parts, middle) / steps
            trace.append(middle)
        return points, trace

    def interpolation(self, trace: list[Array]) -> csr_array:
        """(N, M) matrix: the mean over the trace's places (each (N, 3)) of v, from v at the M lattice points."""
        count = len(trace[0])
        indices = np.empty((count, len(trace), 8), dtype=np.int32)
        weights = np.empty((count, len(trace), 8), dtype=np.float32)
        depth, height, width = self.shape
        for column, points in enumerate(trace):
            place = (points - self.low) / self.spacing - 1
            cell = np.floor(place)
            part = (place - cell).astype(np.float32)
            x, y, z = cell.astype(np.int32).T
            for corner in range(8):
                i, j, k = x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2)
                inside = (i >= 0) & (i < width) & (j >= 0) & (j < height) & (k >= 0) & (k < depth)
                share = np.where([corner & 1, corner >> 1 & 1, corner >> 2], part, 1 - part).prod(axis=1)
                indices[:, column, corner] = np.where(inside, (k * height + j) * width + i, 0)
                weights[:, column, corner] = np.where(inside, share / len(trace), 0)
        starts = np.arange(count + 1, dtype=np.int32) * (8 * len(trace))
        return csr_array((weights.ravel(), indices.ravel(), starts), shape=(count, depth * height * width))

    def _sample(self, parts: list[Array], points: Array) -> Array:
        index = ((points - self.low) / self.spacing).T[::-1]
        return np.stack([ndimage.map_coordinates(part, index, order=1) for part in parts], axis=1)
