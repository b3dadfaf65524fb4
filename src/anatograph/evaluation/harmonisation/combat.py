"""ComBat: location and scale of each site, shrunk over features by empirical Bayes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError

Array = NDArray[np.float64]
_ROUNDS, _CLOSE = 200, 1e-6
LEAST = 3
"""A site with fewer training subjects is treated as one not seen: its variance would be a guess."""


@dataclass(frozen=True, eq=False)
class Combat:
    """Fitted site effects, to be removed from subjects of the same sites."""

    sites: tuple[str, ...]
    """Sites whose effects are known."""
    centre: Array
    """(F,) mean of the features over the training subjects, sites in proportion."""
    spread: Array
    """(F,) pooled standard deviation within sites; 1 where a feature is constant."""
    gamma: Array
    """(sites, F) shift γ* of each site, in units of ``spread``."""
    delta: Array
    """(sites, F) variance δ* of each site relative to ``spread`` squared."""

    def apply(self, features: Array, sites: NDArray[np.str_]) -> Array:
        """Features (n, F) of subjects of ``sites`` (n,), those of unknown sites unchanged.

        x' = m + (x - m - σ γ*) / √δ*.  It uses no covariate of the subject, so a kept column may be the target itself.
        """
        found = features.copy()
        for number, name in enumerate(self.sites):
            rows = sites == name
            shifted = features[rows] - self.centre - self.spread * self.gamma[number]
            found[rows] = self.centre + shifted / np.sqrt(self.delta[number])
        return found


def fit_combat(features: Array, sites: NDArray[np.str_], kept: Array | None = None) -> Combat:
    """Estimate the effects of sites on n subjects (Johnson, Li and Rabinovic 2007, parametric priors).

    ``features`` (n, F), ``sites`` (n,), ``kept`` (n, K) covariates whose effects are not the sites': they are
    estimated together with the sites' by least squares, so that a site with older patients is not made younger.
    Sites with fewer than `LEAST` subjects are left out.

    Raises:
        UserError: covariates that cannot be separated from the sites.
    """
    names, counts = np.unique(sites, return_counts=True)
    known = tuple(str(name) for name, count in zip(names, counts, strict=True) if count >= LEAST)
    rows = np.isin(sites, known)
    x, label = features[rows], sites[rows]
    covariates = np.zeros((len(x), 0)) if kept is None else kept[rows]
    indicator = (label[:, None] == np.array(known)[None, :]).astype(np.float64) if known else np.zeros((len(x), 0))
    if len(known) < 2:
        return Combat((), features.mean(axis=0), np.ones(features.shape[1]), np.zeros((0, 0)), np.zeros((0, 0)))
    covariates = covariates - covariates.mean(axis=0)
    design = np.concatenate([indicator, covariates], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise UserError(
            "--keep: the kept columns cannot be separated from the sites (a value that occurs at one site alone, or "
            "columns that determine each other); keep fewer columns, or leave such a site out."
        )
    effects = np.linalg.lstsq(design, x, rcond=None)[0]
    centre = indicator.mean(axis=0) @ effects[: len(known)]
    variance = ((x - design @ effects) ** 2).mean(axis=0)
    varied = variance > 1e-12 * np.maximum(centre**2, 1e-300)
    spread = np.sqrt(np.where(varied, variance, 1.0))
    z = (x - centre - covariates @ effects[len(known) :]) / spread
    gamma, delta = np.zeros((len(known), x.shape[1])), np.ones((len(known), x.shape[1]))
    for number in range(len(known)):
        own = z[indicator[:, number] > 0][:, varied]
        if own.shape[1]:
            gamma[number, varied], delta[number, varied] = _shrunk(own)
    return Combat(known, centre, spread, gamma, delta)


def _shrunk(z: Array) -> tuple[Array, Array]:
    """Posterior γ* and δ* (F,) of one site's standardised features (n, F), by iterated conditional means."""
    count = len(z)
    mean, variance = z.mean(axis=0), z.var(axis=0, ddof=1)
    if z.shape[1] < 2:  # no other feature to learn a prior from
        return mean, np.maximum(variance, 1e-12)
    prior_mean, prior_variance = mean.mean(), mean.var(ddof=1)
    middle, scatter = variance.mean(), max(float(variance.var(ddof=1)), 1e-12)
    shape = (2 * scatter + middle**2) / scatter
    rate = (middle * scatter + middle**3) / scatter
    gamma, delta = mean, variance
    for _ in range(_ROUNDS):
        gamma_next = (count * prior_variance * mean + delta * prior_mean) / (count * prior_variance + delta)
        squares = ((z - gamma_next) ** 2).sum(axis=0)
        delta_next = (0.5 * squares + rate) / (count / 2 + shape - 1)
        change = max(np.abs(gamma_next - gamma).max(), np.abs(delta_next / delta - 1).max())
        gamma, delta = gamma_next, delta_next
        if change < _CLOSE:
            break
    return np.asarray(gamma, dtype=np.float64), np.asarray(delta, dtype=np.float64)
