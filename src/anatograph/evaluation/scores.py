"""Summary of cross-validated predictions: figures over the folds, over all subjects, and their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.metrics import figures
from anatograph.evaluation.targets import Target

BOOTSTRAPS = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap that are the ends of an interval."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Every subject predicted once, by a probe fitted without it."""

    fold: NDArray[np.int64]
    """(n,) the fold in which each was held out."""
    predicted: NDArray[np.float64]
    """(n,) predicted value or class index; for survival the log-hazard relative to the training subjects' mean."""
    probabilities: NDArray[np.float64] | None
    """(n, classes), None for a regression."""
    majority: NDArray[np.float64]
    """(n,) the prediction without features: the most frequent class, or the mean, of the training subjects."""
    risk: NDArray[np.float64] | None = None
    """(n,) for survival, the predicted probability of the event by the target's horizon."""


@dataclass(frozen=True)
class Score:
    """One figure of merit over the folds."""

    metric: str
    """Its name."""
    mean: float
    """Mean over the folds (of all repeats)."""
    std: float
    """Standard deviation over the folds (n - 1); for ``r2_pooled`` over bootstrap samples of the subjects."""
    folds: int
    """Folds in which it is defined."""
    values: tuple[float, ...] = ()
    """The figure in each fold, repeat after repeat, NaN where it is not defined; empty for ``r2_pooled``."""
    pooled: float = float("nan")
    """The figure over all subjects at once, each predicted out of fold (mean over the repeats)."""
    low: float = float("nan")
    """Lower end of the bootstrap interval of ``pooled``."""
    high: float = float("nan")
    """Upper end of the same."""


def score(
    target: Target,
    predictions: Predictions | Sequence[Predictions],
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    bootstraps: int = BOOTSTRAPS,
    intervals: bool = False,
) -> list[Score]:
    """All figures for a target, from one round of cross-validation or from several.

    Mean and standard deviation are over the folds of all rounds.  A regression also has ``r2_pooled``, over all
    subjects at once, each predicted out of fold: with few subjects in a fold it is the one to trust.  ``intervals``
    gives every figure a 95 % interval: the subjects (or ``groups`` (n,)) are drawn ``bootstraps`` times with
    replacement while their predictions stay fixed, so it reflects the choice of subjects, not of the fit.
    """
    rounds = [predictions] if isinstance(predictions, Predictions) else list(predictions)
    every_row = np.arange(len(target.values))
    names = list(figures_of(target, rounds[0], every_row))
    by_fold: dict[str, list[float]] = {name: [] for name in names}
    for one in rounds:
        for k in sorted(set(one.fold.tolist())):
            for name, value in figures_of(target, one, np.flatnonzero(one.fold == k)).items():
                by_fold[name].append(value)
    pooled = _mean_of_rounds(target, rounds, every_row)
    needed = names if intervals else ["r2"] if target.task == "regression" else []
    drawn = _bootstrap(target, rounds, groups, seed, bootstraps) if needed else {}
    found = []
    for name in names:
        low, high = interval_of(drawn[name]) if intervals else (float("nan"), float("nan"))
        found.append(_over_folds(name, by_fold[name], pooled[name], low, high))
    if target.task == "regression":
        spread = [v for v in drawn["r2"] if np.isfinite(v)]
        std = float(np.std(spread, ddof=1)) if len(spread) > 1 else float("nan")
        low, high = interval_of(drawn["r2"]) if intervals else (float("nan"), float("nan"))
        found.append(Score("r2_pooled", pooled["r2"], std, len(rounds), (), pooled["r2"], low, high))
    return found


def figures_of(target: Target, one: Predictions, rows: NDArray[np.int64]) -> dict[str, float]:
    """All figures of some ``rows`` of a target's n subjects at once."""
    chance = None if one.probabilities is None else one.probabilities[rows]
    times = None if target.times is None else target.times[rows]
    return figures(target, target.values[rows], one.predicted[rows], chance, one.majority[rows], times)


def _mean_of_rounds(target: Target, rounds: list[Predictions], rows: NDArray[np.int64]) -> dict[str, float]:
    several = [figures_of(target, one, rows) for one in rounds]
    return {name: float(np.mean([found[name] for found in several])) for name in several[0]}


def _bootstrap(
    target: Target, rounds: list[Predictions], groups: NDArray[np.int64] | None, seed: int, bootstraps: int
) -> dict[str, list[float]]:
    """Every pooled figure in each bootstrap sample of the subjects, or of the groups."""
    drawn: dict[str, list[float]] = {name: [] for name in figures_of(target, rounds[0], np.arange(len(target.values)))}
    for picked in resamples(len(target.values), groups, seed, bootstraps):
        for name, value in _mean_of_rounds(target, rounds, picked).items():
            drawn[name].append(value)
    return drawn


def resamples(count: int, groups: NDArray[np.int64] | None, seed: int, draws: int) -> Iterator[NDArray[np.int64]]:
    """Rows of ``draws`` bootstrap samples of ``count`` subjects, or of their ``groups`` (count,) as wholes."""
    unit = np.arange(count) if groups is None else groups
    rows = [np.flatnonzero(unit == name) for name in np.unique(unit)]
    random = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.concatenate([rows[i] for i in random.integers(0, len(rows), len(rows))])


def interval_of(drawn: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a figure from its value in each bootstrap sample, NaN where it is defined in none."""
    defined = [v for v in drawn if np.isfinite(v)]
    if not defined:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, INTERVAL)
    return float(low), float(high)


def _over_folds(name: str, values: list[float], pooled: float, low: float, high: float) -> Score:
    defined = np.array([v for v in values if np.isfinite(v)])
    mean = float(defined.mean()) if len(defined) else float("nan")
    std = float(defined.std(ddof=1)) if len(defined) > 1 else float("nan")
    return Score(name, mean, std, len(defined), tuple(values), pooled, low, high)
