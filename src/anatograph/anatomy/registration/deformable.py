"""Our deformable registration: a diffeomorphism of the lungs' surfaces, side by side, on top of the affine map.

The map is y = A(φ(x)) with A affine and φ the flow of a stationary velocity v after unit time, so its inverse is the
flow of -v. Minimised is

    E(v) = Σ_{s,d} mean_{s,d} w r² + R(v),        r = √(2π) σ (occupancy there - occupancy here)

over sides s (the right lung's surface is compared with the right lung, left with left) and both directions d
(points around the atlas's surface carried to the subject, points around the subject's carried to the atlas). Near a
surface r is the distance in mm; far from it r saturates at 1.25 σ, so that what cannot be matched (a lobe that is
consolidated) is not followed. R is the energy of `velocity`. The weights w vanish at the faces at which either mask was
truncated, and towards the rim of the band of points, so that no point enters or leaves abruptly.

Coarse occupancy and a coarse lattice come first. Each level takes a fixed number of Gauss-Newton steps, in which the
derivative of the flow is approximated by the mean of v along a point's path; the linear systems are solved by a fixed
number of conjugate gradient steps. All of it is deterministic, and small changes of the masks change the map little.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.sparse import csr_array

from anatograph.anatomy.registration.displacement import SplineDisplacement
from anatograph.anatomy.registration.maps import AffineMap, DeformableMap
from anatograph.anatomy.registration.shape import Shape
from anatograph.anatomy.registration.velocity import Smoothness, VelocityLattice

Array = NDArray[np.float64]

UNKNOWN = 2.0
"""Within this many σ of a face at which a mask was truncated its smooth occupancy is not what the lung's would be."""
PRECISION = 2.0**-7
"""mm to which the stored spline is rounded, so that it compresses well."""


@dataclass(frozen=True)
class Level:
    """One resolution of the fit."""

    sigma: float
    """Smoothing of the occupancy in mm."""
    lattice: float
    """mm between velocities; the coarsest is a multiple of each."""
    iterations: int
    """Gauss-Newton steps."""
    spacing: float
    """mm between sample points."""


@dataclass(frozen=True)
class DeformableSettings:
    """Settings of the deformable fit."""

    levels: tuple[Level, ...] = (
        Level(16.0, 16.0, 4, 16.0),
        Level(8.0, 16.0, 3, 11.0),
        Level(4.0, 8.0, 3, 8.0),
        Level(2.5, 8.0, 3, 8.0),
    )
    """Coarse to fine."""
    smoothness: Smoothness = field(default_factory=Smoothness)
    """Energy of the velocity."""
    margin: float = 32.0
    """mm around the atlas's lungs over which the deformation fades out."""
    band: float = 0.02
    """Occupancy between this and 1 minus this counts as near the surface."""
    conjugate_steps: int = 10
    """Conjugate gradient steps for each Gauss-Newton step."""
    steps: int = 5
    """Steps in time of the flow while fitting."""
    final_steps: int = 6
    """Steps in time of the flow that is stored."""


@dataclass(frozen=True, eq=False)
class _Band:
    """Sample points around one surface, and where they should come to lie."""

    points: Array
    """(N, 3) in atlas space after the inverse affine map, LPS mm."""
    occupancy: Array
    """(N,) of the mask the points belong to."""
    weight: Array
    """(N,) w before the other mask is considered."""
    side: int
    """`Mask.RIGHT`, `Mask.LEFT` or 0 for both together."""
    forward: bool
    """From the atlas to the subject, or back."""


@dataclass(frozen=True, eq=False)
class _Linearised:
    """Residuals of all bands at one velocity, and their derivative by it."""

    energy: float
    residual: Array
    """(N,) mm."""
    slope: Array
    """(N, 3) derivative of the residual by the displacement."""
    weight: Array
    """(N,) that sum to 1."""
    path: list[Array]
    """Places (N, 3) along the points' paths."""
    sign: Array
    """(N,) 1 forward, -1 backward: velocity to displacement."""


class _Fit:
    """One pair of masks on one level."""

    def __init__(
        self, atlas: Shape, subject: Shape, affine: AffineMap, level: Level, settings: DeformableSettings
    ) -> None:
        self.atlas, self.subject, self.affine = atlas, subject, affine
        self.sigma, self.steps = level.sigma, settings.steps
        self.bands = []
        for side in common_sides(atlas, subject):
            for shape, forward in ((atlas, True), (subject, False)):
                points, occupancy, weight = _around_surface(shape, side, level, settings.band)
                points = points if forward else affine.to_atlas(points)
                self.bands.append(_Band(points, occupancy, weight, side, forward))

    def linearised(self, lattice: VelocityLattice, velocity: Array) -> _Linearised:
        """Residuals and derivatives at a velocity."""
        unit = float(np.sqrt(2 * np.pi)) * self.sigma
        residuals, slopes, weights, signs, paths = [], [], [], [], []
        for band in self.bands:
            sign = 1.0 if band.forward else -1.0
            places, trace = lattice.flow(sign * velocity, band.points, self.steps)
            other = self.subject if band.forward else self.atlas
            own = other.to_own(self.affine.to_subject(places) if band.forward else places)
            value, slope = other.field(self.sigma, band.side).sample(own)
            slope = slope @ other.direction.T
            weight = band.weight * other.known(own, self.sigma, UNKNOWN * self.sigma)
            residuals.append((value - band.occupancy) * unit)
            slopes.append((slope @ self.affine.matrix if band.forward else slope) * unit)
            weights.append(weight / max(float(weight.sum()), 1e-9) / len(self.bands))
            signs.append(np.full(len(places), sign))
            paths.append(trace)
        residual, weight = np.concatenate(residuals), np.concatenate(weights)
        path = [np.concatenate([trace[step] for trace in paths]) for step in range(self.steps)]
        energy = float(weight @ residual**2)
        return _Linearised(energy, residual, np.concatenate(slopes), weight, path, np.concatenate(signs))


def common_sides(atlas: Shape, subject: Shape) -> tuple[int, ...]:
    """The lungs to be matched one by one: those that both masks have; (0,) where either does not part its lungs."""
    common = tuple(side for side in atlas.sides if side in subject.sides)
    return common if common and atlas.sides and subject.sides else (0,)


def fit_deformable(
    atlas: Shape, subject: Shape, affine: AffineMap, settings: DeformableSettings | None = None
) -> DeformableMap:
    """Diffeomorphic map atlas→subject near ``affine``; see the module's docstring for the objective. Deterministic."""
    settings = settings or DeformableSettings()
    coarsest = max(level.lattice for level in settings.levels)
    size = atlas.box[1] - atlas.box[0] + 2 * settings.margin
    # The sine transform is fastest over products of 2, 3 and 5.
    blocks = np.array([next_fast_len(int(np.ceil(length / coarsest)), real=True) for length in size])
    low = atlas.box.mean(axis=0) - blocks * coarsest / 2
    lattice: VelocityLattice | None = None
    whitened = np.zeros(0)
    for level in settings.levels:
        cells = [round(float(n) * coarsest / level.lattice) for n in blocks]
        finer = VelocityLattice(low, (cells[0], cells[1], cells[2]), level.lattice, settings.smoothness)
        whitened = np.zeros((*finer.shape, 3)) if lattice is None else lattice.refined(whitened, finer)
        lattice = finer
        whitened = _solve(_Fit(atlas, subject, affine, level, settings), lattice, whitened, level, settings)
    if lattice is None:
        raise ValueError("a deformable fit needs at least one level")
    return _stored(lattice, lattice.velocity(whitened), affine, settings.final_steps)


def _around_surface(shape: Shape, side: int, level: Level, band: float) -> tuple[Array, Array, Array]:
    """Points (N, 3) LPS mm near a lung's surface, their occupancy (N,) and weight (N,).

    They form a jittered lattice in the shape's own millimetres: whether a point is used depends on it alone, so a
    mask that changes a little keeps nearly all of them. The jitter avoids aliasing with surfaces along the axes.
    """
    counts = np.ceil(shape.size / level.spacing).astype(int) + 1
    z, y, x = np.meshgrid(*(np.arange(-1, n + 1) for n in counts[::-1]), indexing="ij")
    node = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    number = node @ np.array([1.0, 61.0, 3721.0])
    jitter = (number[:, None] * np.array([0.8191725134, 0.6710436067, 0.5497004779])) % 1 - 0.5
    own = (node + jitter) * level.spacing
    occupancy, _ = shape.field(level.sigma, side).sample(own)
    near = (occupancy > band) & (occupancy < 1 - band)
    own, occupancy = own[near], occupancy[near]
    rim = np.clip((np.minimum(occupancy, 1 - occupancy) - band) / (3 * band), 0, 1)
    return shape.to_lps(own), occupancy, rim * shape.known(own, level.sigma, UNKNOWN * level.sigma)


def _solve(fit: _Fit, lattice: VelocityLattice, whitened: Array, level: Level, settings: DeformableSettings) -> Array:
    """Gauss-Newton on the whitened coefficients, halving a step that does not lower E."""
    state = fit.linearised(lattice, lattice.velocity(whitened))
    energy = state.energy + float((whitened**2).sum())
    for _ in range(level.iterations):
        step = _newton_step(lattice, state, whitened, settings.conjugate_steps)
        for fraction in (1.0, 0.5, 0.25):
            trial = whitened + fraction * step
            after = fit.linearised(lattice, lattice.velocity(trial))
            lower = after.energy + float((trial**2).sum())
            if lower < energy:
                whitened, state, energy = trial, after, lower
                break
        else:
            break
    return whitened


def _newton_step(lattice: VelocityLattice, state: _Linearised, whitened: Array, count: int) -> Array:
    """Solve (1 + JᵀWJ) step = -(u + JᵀW r) by ``count`` steps of conjugate gradients."""
    interpolation: csr_array = lattice.interpolation(state.path)
    transposed = interpolation.T.tocsr()
    slope = state.slope * state.sign[:, None]

    def backward(values: Array) -> Array:
        parts = [transposed @ (slope[:, axis] * values) for axis in range(3)]
        return lattice.adjoint(np.stack(parts, axis=1).reshape(*lattice.shape, 3))

    def forward(direction: Array) -> Array:
        velocity = lattice.velocity(direction).reshape(-1, 3)
        change: Array = sum((slope[:, axis] * (interpolation @ velocity[:, axis]) for axis in range(3)), np.zeros(1))
        return change

    residual = -(whitened + backward(state.weight * state.residual))
    step, direction = np.zeros_like(residual), residual
    square = float((residual**2).sum())
    for _ in range(count):
        if square <= 0:
            break
        image = direction + backward(state.weight * forward(direction))
        length = square / float((direction * image).sum())
        step = step + length * direction
        residual = residual - length * image
        before, square = square, float((residual**2).sum())
        direction = residual + (square / before) * direction
    return step


def _stored(lattice: VelocityLattice, velocity: Array, affine: AffineMap, steps: int) -> DeformableMap:
    """The flow and its inverse as splines on the lattice, the inverse corrected for what interpolation changes."""
    z, y, x = np.meshgrid(*(np.arange(n + 1) for n in lattice.cells[::-1]), indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1) * lattice.spacing + lattice.low
    shape = (*z.shape, 3)

    def spline(places: Array) -> SplineDisplacement:
        vectors = (places - points).reshape(shape)
        return SplineDisplacement.through(vectors, lattice.spacing, lattice.low, PRECISION)

    forward = spline(lattice.flow(velocity, points, steps)[0])
    inverse = spline(lattice.flow(-velocity, points, steps)[0])
    # ψ(y - (φ(ψ(y)) - y)) is a better inverse of the interpolated φ than ψ.
    inverse = spline(inverse(2 * points - forward(inverse(points))))
    return DeformableMap(affine, forward, inverse)
