"""Is one method better than another? Paired tests over the folds that both were judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same folds."""

    difference: float
    """Mean over the folds of the first's figure minus the second's."""
    std: float
    """Standard deviation of the difference over the folds."""
    t: float
    """The corrected statistic; infinite where every fold has the same difference, 0 where it is none."""
    degrees: int
    """Degrees of freedom: folds - 1."""
    p: float
    """Two-sided. NaN with fewer than two folds."""
    folds: int
    """Folds in which both figures are defined."""


def corrected_t_test(first: ArrayLike, second: ArrayLike, test_share: float) -> Comparison:
    """Corrected resampled t-test of Nadeau and Bengio (Machine Learning 52, 2003, section 4).

    ``first`` and ``second`` (J,) are the figures of two methods in the same J folds, of one or of several rounds of
    cross-validation (Bouckaert and Frank 2004); folds in which either is NaN are left out.  Folds share most of
    their training subjects, so their differences vary less than independent ones would, and the plain t-test finds far
    too much: the variance of the mean is taken as (1/J + n_test/n_train) s², where ``test_share`` is
    n_test / n_train, 1/4 for five folds.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    apart = a[both] - b[both]
    folds = len(apart)
    if folds < 2:
        mean = float(apart.mean()) if folds else float("nan")
        return Comparison(mean, float("nan"), float("nan"), max(folds - 1, 0), float("nan"), folds)
    from scipy.stats import t as student

    mean, std = float(apart.mean()), float(apart.std(ddof=1))
    error = std * float(np.sqrt(1 / folds + test_share))
    if error <= 1e-12 * max(abs(mean), 1e-300):
        statistic = 0.0 if mean == 0 else float(np.copysign(np.inf, mean))
    else:
        statistic = mean / error
    return Comparison(mean, std, statistic, folds - 1, float(2 * student.sf(abs(statistic), folds - 1)), folds)


def holm(p: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) p values adjusted for being n together (Holm 1979); NaN stays NaN and does not count."""
    given = np.asarray(p, dtype=np.float64)
    adjusted = np.full(len(given), np.nan)
    order = [int(i) for i in np.argsort(given, kind="stable") if np.isfinite(given[i])]
    least = 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * float(given[i])))
        adjusted[i] = least
    return adjusted
