"""Our affine registration of two lung masks: least squares on smooth occupancy, all levels jointly.

What is minimised over the matrix A and the translation t, and why:

* Σ_l v_l K / s_l² · mean w r²: r is the difference of smooth occupancy at sample points around the atlas's surface,
  smoothed with σ_l of 20, 6 and 1.5 mm. s_l² is the mean square of r itself, so a level counts as a measurement with
  the error it shows, worth K independent ones. v_l = min(1, (e / s_l²)²) discounts a level that cannot be
  matched: surfaces that differ by 10 mm carry no information at 1.5 mm, and following them costs accuracy inside.
* w falls from 1 at the apex to `base_weight` at the base: the diaphragm is where two breaths differ most.
* The second moments of both masks should agree, A C Aᵀ = C', which affine images of each other do exactly. Fitted
  surfaces alone overrate the stretch of lungs that grow mostly at the base.
* Off-diagonal entries stay small unless the data support larger ones.

Where the masks truly are affine images of each other, s_l² falls to rounding and only the first term remains.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.registration.maps import AffineMap
from anatograph.anatomy.registration.shape import Shape

UNIT = 100.0
"""mm; positions in the normal equations are in this unit, so that matrix entries and shifts weigh alike."""

_State = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class AffineSettings:
    """Settings of the affine fit."""

    sigmas: tuple[float, ...] = (20.0, 6.0, 1.5)
    """Smoothing in mm of each level; levels are added one at a time and kept."""
    iterations: int = 20
    """Maximum Gauss-Newton steps each time a level is added."""
    points: int = 6000
    """Maximum number of sample points per level."""
    samples: float = 300.0
    """K: how many independent observations a level is worth against the priors."""
    mismatch: float = 0.005
    """e: mean square difference of occupancy above which a level is discounted."""
    base_weight: float = 0.2
    """w at the lowest point of the atlas's lungs; 1 at the highest."""
    moments: float = 0.001
    """Relative standard deviation of the mapped spread along each axis from the subject's."""
    mixed_moments: float = 0.02
    """The same for the mixed second moments, relative to the product of the two spreads."""
    stretch: float = 0.2
    """Standard deviation of the matrix's diagonal from the start's."""
    shear: float = 0.05
    """Standard deviation of the entries off the diagonal from the start's."""


@dataclass(frozen=True, eq=False)
class _Level:
    """Sample points of one smoothing."""

    sigma: float
    """mm."""
    design: NDArray[np.float64]
    """(N, 4): points about the atlas's centroid in `UNIT`, and 1."""
    target: NDArray[np.float64]
    """(N,) occupancy in the atlas."""
    slope: NDArray[np.float64]
    """(N, 3) its gradient along LPS, per mm."""
    weight: NDArray[np.float64]
    """(N,) w."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted map and its residuals."""

    map: AffineMap
    """Atlas to subject."""
    residuals: dict[float, float] = field(default_factory=dict)
    """s_l² by σ_l."""


class _Prior:
    """Prior on the matrix, independent of the surfaces."""

    def __init__(self, atlas: Shape, subject: Shape, start: NDArray[np.float64], settings: AffineSettings) -> None:
        self.start = start
        deviation = np.full((3, 3), settings.shear)
        np.fill_diagonal(deviation, settings.stretch)
        self.precision = deviation**-2
        self.atlas = atlas.covariance
        spread = np.sqrt(np.diag(subject.covariance))
        self.subject = subject.covariance
        trust = 1 / (np.outer(spread, spread) * settings.mixed_moments)
        np.fill_diagonal(trust, 1 / (2 * spread**2 * settings.moments))
        # Moments of a truncated lung carry no information. Halved off the diagonal, as both triangles are summed.
        self.trust = np.zeros((3, 3)) if atlas.is_cut or subject.is_cut else trust**2 * (0.5 + 0.5 * np.eye(3))

    def cost(self, matrix: NDArray[np.float64]) -> float:
        off = matrix @ self.atlas @ matrix.T - self.subject
        return float((self.trust * off**2).sum() + (self.precision * (matrix - self.start) ** 2).sum())

    def normal_equations(self, matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gauss-Newton Hessian (9, 9) and gradient (9,) of half the cost by the matrix's entries, row by row."""
        half = self.atlas @ matrix.T
        off = matrix @ half - self.subject
        eye = np.eye(3)
        # d(A C Aᵀ)_ij / dA_kl = δ_ik (C Aᵀ)_lj + δ_jk (C Aᵀ)_li
        jacobian = (np.einsum("ik,lj->ijkl", eye, half) + np.einsum("jk,li->ijkl", eye, half)).reshape(9, 9)
        weighted = jacobian * self.trust.reshape(9, 1)
        hessian = weighted.T @ jacobian + np.diag(self.precision.ravel())
        gradient = weighted.T @ off.ravel() + (self.precision * (matrix - self.start)).ravel()
        return hessian, gradient


def fit_affine(atlas: Shape, subject: Shape, start: AffineMap, settings: AffineSettings | None = None) -> Fit:
    """Affine map atlas→subject near ``start``; see the module's docstring for the objective. Deterministic."""
    settings = settings or AffineSettings()
    centroid = atlas.to_lps(atlas.mean[None])[0]
    parameters = np.concatenate([start.matrix * UNIT, start.to_subject(centroid[None]).T], axis=1)
    prior = _Prior(atlas, subject, start.matrix, settings)
    levels: list[_Level] = []
    for sigma in settings.sigmas:
        levels.append(_level(atlas, sigma, centroid, settings))
        parameters = _solve(parameters, levels, subject, prior, settings)
    residuals = {level.sigma: _mean_square(_evaluate(parameters, level, subject)) for level in levels}
    matrix = parameters[:, :3] / UNIT
    return Fit(AffineMap(matrix, parameters[:, 3] - matrix @ centroid), residuals)


def _level(atlas: Shape, sigma: float, centroid: NDArray[np.float64], settings: AffineSettings) -> _Level:
    """Sample points of one level: where the atlas's occupancy changes, thinned evenly."""
    grid = atlas.field(sigma)
    chosen = np.flatnonzero((grid.values > 0.02) & (grid.values < 0.98))
    if len(chosen) > settings.points:
        chosen = chosen[np.linspace(0, len(chosen) - 1, settings.points).astype(np.int64)]
    # Off the grid's nodes (an additive recurrence spreads them evenly): linear interpolation blurs a little between
    # nodes, and both images must be blurred alike, or the map is off by a tenth of a millimetre.
    steps = np.arange(len(chosen))[:, None] * np.array([0.8191725134, 0.6710436067, 0.5497004779])
    own = grid.points()[chosen] + (steps % 1 - 0.5) * grid.spacing
    target, slope = grid.sample(own)
    points = atlas.to_lps(own)
    low, high = atlas.box[:, 2]
    weight = settings.base_weight + (1 - settings.base_weight) * np.clip((points[:, 2] - low) / (high - low), 0, 1)
    design = np.concatenate([(points - centroid) / UNIT, np.ones((len(points), 1))], axis=1)
    return _Level(sigma, design, target, slope @ atlas.direction.T, weight * atlas.known(own, sigma))


def _evaluate(parameters: NDArray[np.float64], level: _Level, subject: Shape) -> _State:
    """Differences of occupancy (N,), the subject's gradient along LPS (N, 3), weights (N,)."""
    own = subject.to_own(level.design @ parameters.T)
    value, slope = subject.field(level.sigma).sample(own)
    return value - level.target, slope @ subject.direction.T, level.weight * subject.known(own, level.sigma)


def _mean_square(state: _State) -> float:
    residual, _, weight = state
    return float(weight @ residual**2) / max(float(weight.sum()), 1e-9)


def _solve(
    parameters: NDArray[np.float64],
    levels: list[_Level],
    subject: Shape,
    prior: _Prior,
    settings: AffineSettings,
) -> NDArray[np.float64]:
    """Levenberg-Marquardt from ``parameters`` (3, 4): the matrix in `UNIT`, and where the atlas's centroid goes."""
    damping = 1e-3
    states = [_evaluate(parameters, level, subject) for level in levels]
    for _ in range(settings.iterations):
        votes = []
        for state in states:
            square = max(_mean_square(state), 1e-5)
            votes.append(settings.samples / square * min(1.0, settings.mismatch / square) ** 2)
        hessian, gradient = _normal_equations(parameters, levels, states, votes, prior)
        step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), -gradient).reshape(3, 4)
        trial = parameters + step
        after = [_evaluate(trial, level, subject) for level in levels]
        before = _cost(parameters, states, votes, prior)
        if np.linalg.det(trial[:, :3] / UNIT) > 0.05 and _cost(trial, after, votes, prior) < before:
            parameters, states, damping = trial, after, max(damping / 5, 1e-6)
            if float(np.abs(step).max()) < 1e-3:
                break
        else:
            damping *= 8
            if damping > 1e3:
                break
    return parameters


def _normal_equations(
    parameters: NDArray[np.float64], levels: list[_Level], states: list[_State], votes: list[float], prior: _Prior
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    matrix = parameters[:, :3] / UNIT
    back = np.linalg.inv(matrix)
    of_matrix, by_matrix = prior.normal_equations(matrix)
    entries = np.flatnonzero(np.arange(12) % 4 < 3)
    hessian, gradient = np.zeros((12, 12)), np.zeros(12)
    hessian[np.ix_(entries, entries)] = of_matrix / UNIT**2
    gradient[entries] = by_matrix / UNIT
    for level, (residual, slope, weight), vote in zip(levels, states, votes, strict=True):
        # The mean of both images' gradients makes Gauss-Newton converge as Newton does (Malis 2004).
        both = 0.5 * (slope + level.slope @ back)
        jacobian = (both[:, :, None] * level.design[:, None, :]).reshape(-1, 12)
        share = vote * weight / max(float(weight.sum()), 1e-9)
        hessian += (jacobian * share[:, None]).T @ jacobian
        gradient += jacobian.T @ (share * residual)
    return hessian, gradient


def _cost(parameters: NDArray[np.float64], states: list[_State], votes: list[float], prior: _Prior) -> float:
    fit = sum(vote * _mean_square(state) for state, vote in zip(states, votes, strict=True))
    return fit + prior.cost(parameters[:, :3] / UNIT)
