"""Displacements x → x + d(x) on a grid, as ITK interpolates them: linearly, or by cubic B-splines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Array = NDArray[np.float64]


class Displacement(ABC):
    """x → x + d(x) inside a box, the identity outside. Points are (N, 3) LPS mm."""

    def __init__(self, values: Array, spacing: ArrayLike, origin: ArrayLike, direction: ArrayLike) -> None:
        self.spacing = np.asarray(spacing, dtype=np.float64)
        """(3,) of the grid, x, y, z, mm."""
        self.origin = np.asarray(origin, dtype=np.float64)
        """(3,) LPS mm of grid point (0, 0, 0)."""
        self.direction = np.asarray(direction, dtype=np.float64).reshape(3, 3)
        """(3, 3) direction cosines."""
        self._values = np.ascontiguousarray(np.moveaxis(values, -1, 0), dtype=np.float64)

    @property
    def values(self) -> Array:
        """(Z, Y, X, 3) what the grid holds: displacements or spline coefficients along LPS, mm."""
        return np.moveaxis(self._values, 0, -1)

    @abstractmethod
    def to_itk(self) -> sitk.Transform:
        """The same map as an ITK transform."""

    @abstractmethod
    def __call__(self, points: Array) -> Array:
        """Displaced points (N, 3), LPS mm."""

    @abstractmethod
    def determinants(self) -> tuple[Array, Array]:
        """Evenly spread points (N, 3), LPS mm, and (N,) the determinant of the map's derivative there."""

    def _images(self) -> list[sitk.Image]:
        images = []
        for component in self._values:
            image = sitk.GetImageFromArray(component)
            image.SetSpacing(self.spacing.tolist())
            image.SetOrigin(self.origin.tolist())
            image.SetDirection(self.direction.ravel().tolist())
            images.append(image)
        return images

    def _moved(self, points: Array, low: float, order: Literal[1, 3]) -> Array:
        """Points displaced where their index is at least ``low`` from the grid's ends."""
        index = (points - self.origin) @ self.direction / self.spacing
        size = np.array(self._values.shape[:0:-1])
        inside = ((index >= low) & (index <= size - 1 - low)).all(axis=1)
        moved = np.empty_like(points)
        for axis, component in enumerate(self._values):
            shift = ndimage.map_coordinates(component, index.T[::-1], order=order, mode="nearest", prefilter=False)
            moved[:, axis] = points[:, axis] + np.where(inside, shift, 0.0)
        return moved

    def _places(self, starts: tuple[float, float, float], counts: tuple[int, ...]) -> Array:
        """(N, 3) LPS mm of a block of grid places beginning at index ``starts``; counts z, y, x; x fastest."""
        z, y, x = np.meshgrid(*(np.arange(n) for n in counts), indexing="ij")
        index = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) + starts
        return np.asarray((index * self.spacing) @ self.direction.T + self.origin, dtype=np.float64)

    def _determinants(self, along: list[Array]) -> Array:
        """(N,) from the derivatives (3, Z, Y, X) of the components by the grid's x, y, z, per grid step."""
        slopes = np.stack([part / step for part, step in zip(along, self.spacing, strict=True)], axis=-1)
        matrices = np.moveaxis(slopes, 0, -2) @ self.direction.T + np.eye(3)
        return np.asarray(np.linalg.det(matrices).ravel(), dtype=np.float64)


class LinearDisplacement(Displacement):
    """d given at the grid's points, linear between: ITK's displacement field transform."""

    @classmethod
    def from_itk(cls, transform: sitk.DisplacementFieldTransform) -> LinearDisplacement:
        """From an ITK transform."""
        return cls.from_image(transform.GetDisplacementField())

    @classmethod
    def from_image(cls, image: sitk.Image) -> LinearDisplacement:
        """From a vector image."""
        return cls(sitk.GetArrayFromImage(image), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    def to_itk(self) -> sitk.DisplacementFieldTransform:
        """The same map as an ITK transform."""
        image = sitk.Compose(self._images())
        return sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))

    def __call__(self, points: Array) -> Array:
        """Displaced points (N, 3), LPS mm."""
        return self._moved(points, -0.5, 1)

    def determinants(self) -> tuple[Array, Array]:
        """The grid's points, by central differences."""
        along = [np.gradient(self._values, axis=3 - axis) for axis in range(3)]
        return self._places((0.0, 0.0, 0.0), self._values.shape[1:]), self._determinants(along)


class SplineDisplacement(Displacement):
    """d a cubic B-spline with coefficients at the grid's points: ITK's B-spline transform.

    The outermost coefficients lie one step outside the box.
    """

    @classmethod
    def through(cls, vectors: Array, spacing: float, origin: ArrayLike, precision: float) -> SplineDisplacement:
        """The spline through displacements (Z, Y, X, 3) on a grid along LPS whose ends are the ends of the box.

        Coefficients are rounded to ``precision`` mm, so that they compress well.
        """
        parts = [ndimage.spline_filter(vectors[..., axis], order=3, mode="mirror") for axis in range(3)]
        padded = np.stack([np.pad(part, 1, mode="reflect") for part in parts], axis=-1)
        low = np.asarray(origin, dtype=np.float64) - spacing
        return cls(np.rint(padded / precision) * precision, np.full(3, spacing), low, np.eye(3))

    @classmethod
    def from_itk(cls, transform: sitk.BSplineTransform) -> SplineDisplacement:
        """From an ITK transform."""
        images = transform.GetCoefficientImages()
        values = np.stack([sitk.GetArrayFromImage(image) for image in images], axis=-1)
        return cls(values, images[0].GetSpacing(), images[0].GetOrigin(), images[0].GetDirection())

    def to_itk(self) -> sitk.BSplineTransform:
        """The same map as an ITK transform."""
        return sitk.BSplineTransform(self._images(), 3)

    def __call__(self, points: Array) -> Array:
        """Displaced points (N, 3), LPS mm."""
        return self._moved(points, 1.0, 3)

    def determinants(self) -> tuple[Array, Array]:
        """At the grid's points within the box, and in the middle of its cells; exact."""
        places, values = [], []
        # Weights of a cubic B-spline and of its derivative at a grid point and half-way to the next.
        for offset, weight, slope in (
            (0.0, np.array([1, 4, 1, 0]) / 6, np.array([-0.5, 0.0, 0.5, 0.0])),
            (0.5, np.array([1, 23, 23, 1]) / 48, np.array([-1, -5, 5, 1]) / 8),
        ):
            along = []
            for derived in (3, 2, 1):
                part = self._values
                for axis in (1, 2, 3):
                    part = _weighted(part, slope if axis == derived else weight, axis)
                along.append(part)
            places.append(self._places((1 + offset, 1 + offset, 1 + offset), along[0].shape[1:]))
            values.append(self._determinants(along))
        return np.concatenate(places), np.concatenate(values)


def _weighted(values: Array, weights: Array, axis: int) -> Array:
    """Sums of four neighbours along an axis, weighted; three shorter than ``values``."""
    count = values.shape[axis] - 3
    parts = [np.take(values, np.arange(k, k + count), axis=axis) * weight for k, weight in enumerate(weights)]
    return np.asarray(sum(parts[1:], parts[0]))
