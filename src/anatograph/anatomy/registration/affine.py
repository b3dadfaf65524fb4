"""Our affine registration of two lung masks: least squares on smooth occupancy, coarse and fine together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.registration.maps import AffineMap
from anatograph.anatomy.registration.shape import Shape

UNIT = 100.0
"""mm; positions in the normal equations are in this unit, so that matrix entries and shifts weigh alike."""


@dataclass(frozen=True)
class AffineSettings:
    """How the affine map is found."""

    sigmas: tuple[float, ...] = (20.0, 12.0, 6.0, 3.0, 1.5)
    """Smoothing in mm of each level; a level is added to those before it."""
    iterations: int = 15
    """Gauss-Newton steps at most each time a level is added."""
    points: int = 20000
    """Sample points at most per level."""
    samples: float = 300.0
    """How many independent observations a level is worth against the prior."""
    stretch: float = 0.1
    """Prior standard deviation of the scale factors around those of the moments."""
    shear: float = 0.05
    """Prior standard deviation of the entries off the matrix's diagonal."""
    robust: float | None = None
    joint: bool = True
    floor: float = 1e-5


@dataclass
class _Level:
    points: NDArray[np.float64]
    """(N, 3) atlas LPS."""
    design: NDArray[np.float64]
    """(N, 4) points about the atlas's centroid in `UNIT`, and 1."""
    target: NDArray[np.float32]
    """(N,) occupancy in the atlas."""
    slope: NDArray[np.float64]
    """(N, 3) its gradient, LPS per mm."""
    weight: NDArray[np.float32]
    """(N,) of each point."""
    sigma: float


@dataclass
class Fit:
    """A fitted map with its residual."""

    map: AffineMap
    cost: float
    """Mean square difference of occupancy at the level compared."""
    costs: dict[float, float] = field(default_factory=dict)


def fit_affine(atlas: Shape, subject: Shape, start: AffineMap, settings: AffineSettings = AffineSettings()) -> Fit:
    """Affine map atlas→subject near ``start`` that makes the smooth occupancies alike.

    Minimises, over all levels l, K Σ r² / Σ w s_l² with r the difference of occupancy at sample points, s_l² its mean
    square (so a level counts by how well it can be matched) and K the observations it is worth, plus the square of
    the matrix's distance from ``start`` in prior standard deviations. Where the shapes truly are affine images of each
    other the residual vanishes and with it the prior's say.
    """
    centroid = atlas.to_lps(atlas.mean[None])[0]
    parameters = np.concatenate([start.matrix * UNIT, start.to_subject(centroid[None]).T], axis=1)
    mean = start.matrix.copy()
    deviation = np.full((3, 3), settings.shear)
    np.fill_diagonal(deviation, settings.stretch)
    precision = np.zeros((3, 4))
    precision[:, :3] = deviation**-2
    levels: list[_Level] = []
    for sigma in settings.sigmas:
        level = _level(atlas, sigma, centroid, settings.points)
        levels = [*levels, level] if settings.joint else [level]
        parameters = _solve(parameters, levels, subject, mean, precision, settings)
    costs = {}
    for level in levels:
        residual, _, weight = _evaluate(parameters, level, subject)
        costs[level.sigma] = float((weight * residual**2).sum() / max(weight.sum(), 1e-9))
    matrix = parameters[:, :3] / UNIT
    return Fit(AffineMap(matrix, parameters[:, 3] - matrix @ centroid), next(iter(costs.values())), costs)


def _level(atlas: Shape, sigma: float, centroid: NDArray[np.float64], most: int) -> _Level:
    """Sample points of one level: the grid points where the atlas's occupancy changes, thinned evenly."""
    grid = atlas.field(sigma)
    chosen = np.flatnonzero((grid.values > 0.02) & (grid.values < 0.98))
    if len(chosen) > most:
        chosen = chosen[np.linspace(0, len(chosen) - 1, most).astype(np.int64)]
    own = grid.points()[chosen]
    target, slope = grid.sample(own)
    points = atlas.to_lps(own)
    design = np.concatenate([(points - centroid) / UNIT, np.ones((len(points), 1))], axis=1)
    return _Level(points, design, target, slope @ atlas.direction.T, atlas.known(own, sigma), sigma)


def _evaluate(
    parameters: NDArray[np.float64], level: _Level, subject: Shape
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]:
    own = subject.to_own(level.design @ parameters.T)
    value, slope = subject.field(level.sigma).sample(own)
    return value - level.target, slope @ subject.direction.T, level.weight * subject.known(own, level.sigma)


def _solve(
    parameters: NDArray[np.float64],
    levels: list[_Level],
    subject: Shape,
    mean: NDArray[np.float64],
    precision: NDArray[np.float64],
    settings: AffineSettings,
) -> NDArray[np.float64]:
    """Levenberg-Marquardt steps from ``parameters`` (3, 4)."""
    damping = 1e-3
    states = [_evaluate(parameters, level, subject) for level in levels]
    for _ in range(settings.iterations):
        scales = []
        for residual, _, weight in states:
            square = float((weight * residual**2).sum() / max(float(weight.sum()), 1e-9))
            scales.append(settings.samples / max(square, settings.floor))
        cost = _cost(states, scales, parameters, mean, precision, settings)
        offset = np.zeros((3, 4))
        offset[:, :3] = parameters[:, :3] / UNIT - mean
        unit = np.array([UNIT, UNIT, UNIT, 1.0])
        gradient = (precision * offset / unit).ravel()
        hessian = np.diag((precision / unit**2).ravel())
        back = np.linalg.inv(parameters[:, :3] / UNIT)
        for level, (residual, slope, weight), scale in zip(levels, states, scales, strict=True):
            # The mean of both images' gradients makes Gauss-Newton converge quadratically (ESM).
            both = 0.5 * (slope + level.slope @ back)
            jacobian = (both[:, :, None] * level.design[:, None, :]).reshape(-1, 12)
            share = scale * weight / max(float(weight.sum()), 1e-9)
            if settings.robust:
                share = share / (1 + (residual / settings.robust) ** 2)
            hessian += (jacobian * share[:, None]).T @ jacobian
            gradient += jacobian.T @ (share * residual)
        diagonal = np.diag(np.diag(hessian))
        step = np.linalg.solve(hessian + damping * diagonal, -gradient).reshape(3, 4)
        trial = parameters + step
        if np.linalg.det(trial[:, :3] / UNIT) > 0.05:
            after = [_evaluate(trial, level, subject) for level in levels]
            lower = _cost(after, scales, trial, mean, precision, settings) < cost
        else:
            lower = False
        if lower:
            parameters, states, damping = trial, after, max(damping / 5, 1e-6)
            if float(np.abs(step).max()) < 1e-3:
                break
        else:
            damping *= 8
            if damping > 1e3:
                break
    return parameters


def _cost(
    states: list[tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]],
    scales: list[float],
    parameters: NDArray[np.float64],
    mean: NDArray[np.float64],
    precision: NDArray[np.float64],
    settings: AffineSettings,
) -> float:
    total = float((precision[:, :3] * (parameters[:, :3] / UNIT - mean) ** 2).sum())
    for (residual, _, weight), scale in zip(states, scales, strict=True):
        square = residual**2
        if settings.robust:
            square = settings.robust**2 * np.log1p(square / settings.robust**2)
        total += scale * float((weight * square).sum()) / max(float(weight.sum()), 1e-9)
    return total
