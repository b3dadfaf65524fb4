"""An unbiased atlas of a group: the mean shape, found by averaging the maps from a template to every subject.

In each iteration the template is registered with every subject, y_i = A_i φ_i(x). The new template is drawn where the
subjects' lungs agree, and moved to the mean of the places that its points have in the subjects,

    m(x) = 1/n Σ_i A_i φ_i(x),        template'(m(x)) = 1/n Σ_i occupancy_i(A_i φ_i(x)) > 1/2,

so that no subject, and not the first template either, decides its shape (Guimond, Meunier and Thirion 2000).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.registration.displacement import SplineDisplacement
from anatograph.anatomy.registration.maps import AffineMap, AtlasMap, DeformableMap
from anatograph.anatomy.registration.shape import FINEST, Occupancy, Shape
from anatograph.imaging.volume import Frame, Mask

Array = NDArray[np.float64]

_RIM = 10.0
"""mm around the mean lungs in which the template's grid has air."""
_STEP = 2.0
"""mm of the grid on which the next template is sampled; finer voxels are interpolated."""
_PRECISION = 2.0**-7
"""mm to which the mean map is rounded."""
_INVERSIONS = 20
"""Fixed-point steps that invert the mean map; each leaves a small fraction of the error."""


class MeanShape:
    """Accumulates subjects registered with one template, and draws the next template from them."""

    def __init__(self, template: Mask) -> None:
        self.shape = Shape(template)
        both = self.shape.field(FINEST)
        self._points = self.shape.to_lps(both.points())
        # Deep inside and far outside all subjects agree; only around the surface is anything to be averaged.
        coarse = self.shape.field(8.0).sample(both.points())[0]
        self._near = (coarse > 0.01) & (coarse < 0.99)
        self._sums = {
            side: np.where(self._near, 0.0, self.shape.field(FINEST, side).values.ravel() > 0.5).astype(np.float64)
            for side in self.shape.sides
        }
        self._matrices: list[Array] = []
        self._translations: list[Array] = []
        self._spline: Array | None = None
        self._grid: SplineDisplacement | None = None

    def add(self, lungs: Mask, map_: DeformableMap) -> None:
        """Add a subject's lungs (both labelled by side) and the map from the template to them."""
        subject = Shape(lungs)
        places = subject.to_own(map_.to_subject(self._points[self._near]))
        for side, total in self._sums.items():
            total[self._near] += subject.field(FINEST, side).sample(places)[0]
        forward = map_.forward
        if not isinstance(forward, SplineDisplacement):
            raise TypeError("the mean shape needs maps of the method 'deformable'")
        moved = forward.values @ map_.affine.matrix.T
        self._spline = moved if self._spline is None else self._spline + moved
        self._grid = forward
        self._matrices.append(map_.affine.matrix)
        self._translations.append(map_.affine.translation)

    def template(self, spacing: float) -> Mask:
        """The next template, voxels of 2 mm or a whole part of it, its middle at (0, 0, 0) LPS mm."""
        count = len(self._matrices)
        if self._grid is None or self._spline is None:
            raise ValueError("a mean shape needs at least one subject")
        matrix = np.mean(self._matrices, axis=0)
        mean = AffineMap(matrix, np.mean(self._translations, axis=0))
        # m = mean ∘ (id + s); a spline reproduces sums of displacements exactly.
        values = self._spline / count @ np.linalg.inv(matrix).T
        grid = self._grid
        residual = SplineDisplacement(values, grid.spacing, grid.origin, grid.direction)
        inverse = _inverted(residual)
        corners = self.shape.to_lps(np.stack([self.shape.size * 0, self.shape.size]))
        box = np.array([[x, y, z] for x in corners[:, 0] for y in corners[:, 1] for z in corners[:, 2]])
        # The mean of many subjects may reach a little beyond the mapped box of the template.
        reach = mean.to_subject(box)
        low, high = reach.min(axis=0) - _RIM, reach.max(axis=0) + _RIM
        size = np.ceil((high - low) / _STEP).astype(int) + 1
        z, y, x = np.meshgrid(*(np.arange(n) for n in size[::-1]), indexing="ij")
        points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) * _STEP + low
        own = self.shape.to_own(inverse(mean.to_atlas(points)))
        fine = round(_STEP / spacing)
        labels = np.zeros([(n - 1) * fine + 1 for n in z.shape], dtype=np.uint8)
        for side, total in self._sums.items():
            share = self._averaged(side, total, count).sample(own)[0].reshape(z.shape)
            for axis in range(3):
                share = _denser(share, axis, fine)
            labels[share > 0.5] = side
        shape = (labels.shape[0], labels.shape[1], labels.shape[2])
        step = _STEP / fine
        frame = Frame(shape, (step, step, step), (low[0], low[1], low[2]))
        middle = frame.to_lps(np.argwhere(labels)[:, ::-1].mean(axis=0))
        origin = np.asarray(frame.origin) - middle
        return Mask(labels, Frame(frame.shape, frame.spacing, (origin[0], origin[1], origin[2])))

    def _averaged(self, side: int, total: Array, count: int) -> Occupancy:
        field = self.shape.field(FINEST, side)
        values = np.where(self._near, total / count, total).reshape(field.values.shape).astype(np.float32)
        return replace(field, values=values)


def _denser(values: Array, axis: int, factor: int) -> Array:
    """Linear interpolation along an axis at ``factor`` times the density; both ends stay."""
    place = np.arange((values.shape[axis] - 1) * factor + 1)
    below = np.minimum(place // factor, values.shape[axis] - 2)
    part = ((place - below * factor) / factor).reshape([-1 if k == axis else 1 for k in range(3)])
    first = np.take(values, below, axis=axis)
    return np.asarray(first + part * (np.take(values, below + 1, axis=axis) - first))


def _inverted(displacement: SplineDisplacement) -> SplineDisplacement:
    """The inverse of id + s for a small s, by fixed-point iteration at the grid's points."""
    counts = np.array(displacement.values.shape[2::-1]) - 2
    z, y, x = np.meshgrid(*(np.arange(n) for n in counts[::-1]), indexing="ij")
    low = displacement.origin + displacement.spacing
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) * displacement.spacing + low
    places = points
    for _ in range(_INVERSIONS):
        places = points - (displacement(places) - places)
    vectors = (places - points).reshape(*z.shape, 3)
    return SplineDisplacement.through(vectors, float(displacement.spacing[0]), low, _PRECISION)


def distance(template: Mask, map_: AtlasMap) -> float:
    """Mean distance in mm of a subject from a template: of the template's lungs from their mapped places, after the
    rotation and shift that bring both closest (Kabsch). Size and shape count, pose does not."""
    shape = Shape(template)
    points = shape.to_lps(shape.field(FINEST).inside(4))
    return rigid_distance(points, map_.to_subject(points))


def rigid_distance(points: Array, places: Array) -> float:
    """Mean distance in mm of points (N, 3) from places (N, 3) after the best rigid motion."""
    centred, target = points - points.mean(axis=0), places - places.mean(axis=0)
    left, _, right = np.linalg.svd(centred.T @ target)
    left[:, -1] *= np.sign(np.linalg.det(left @ right))
    return float(np.linalg.norm(centred @ left @ right - target, axis=1).mean())
