"""How the held-out figure grows with the number of subjects that a probe is fitted on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.evaluation.cross_validation import Preparation, predict_splits, splits_of
from anatograph.evaluation.headline import headline
from anatograph.evaluation.scores import Predictions, figures_of, interval_of, resamples
from anatograph.evaluation.targets import Target
from anatograph.learning.model.pooling import ONE_PART, Parts

Array = NDArray[np.float64]
SIZES, DRAWS, BOOTSTRAPS = 6, 5, 40
"""Points of the curve, random choices of training subjects at each, and samples of the test subjects for each."""
_LEAST, _TRIES = 15, 100


def learning_curve(
    features: Array,
    target: Target,
    groups: NDArray[np.int64] | None,
    folds: int,
    seed: int,
    parts: Parts = ONE_PART,
    prepare: Preparation | None = None,
) -> pd.DataFrame:
    """target, metric, n_train, value, low, high, draws, n, chance: one row a number of training subjects (or groups).

    ``features`` (n, F) and ``groups`` (n,) belong to the target's subjects.  The folds are those of `cross_validate`.
    At each size, spaced evenly on a log scale up to whole training folds, `DRAWS` random choices of that many training
    subjects (groups) are fitted in every fold; the figure is that of all held-out subjects at once, mean over the
    draws.  The band is its 95 % range over the draws and bootstrap samples of the held-out subjects together.
    """
    splits = splits_of(target, groups, folds, seed)
    unit = np.arange(len(target.rows)) if groups is None else groups
    most = min(len(np.unique(unit[train])) for train, _ in splits)
    first = headline(target, predict_splits(features, target, groups, splits, seed, parts, prepare), groups, seed, 2)
    sizes = sorted({int(size) for size in np.geomspace(min(_LEAST, most), most, SIZES).round()})
    rows = []
    for size in sizes:
        random = np.random.default_rng([seed, size])
        values: list[float] = []
        spread: list[float] = []
        for draw in range(1 if size == most else DRAWS):
            chosen = [(_some(target, train, unit, size, random), test) for train, test in splits]
            done = predict_splits(features, target, groups, chosen, seed, parts, prepare)
            one, drawn = _figure(target, done, groups, first.metric, seed + draw, size == most)
            values.append(one)
            spread += drawn
        low, high = interval_of(spread)
        rows.append(
            {
                "target": target.name,
                "metric": first.metric,
                "n_train": size,
                "value": float(np.mean(values)),
                "low": low,
                "high": high,
                "draws": len(values),
                "n": len(target.rows),
                "chance": first.chance,
            }
        )
    return pd.DataFrame(rows)


def _some(
    target: Target, train: NDArray[np.int64], unit: NDArray[np.int64], size: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of ``size`` random units of ``train`` with two classes, or subjects with and without the event."""
    names = np.unique(unit[train])
    if size >= len(names):
        return train
    wanted = 2 if target.classes or target.times is not None else 1
    for _ in range(_TRIES):
        rows = train[np.isin(unit[train], random.choice(names, size, replace=False))]
        if len(np.unique(target.values[rows])) >= wanted:
            return rows
    return train


def _figure(
    target: Target, done: Predictions, groups: NDArray[np.int64] | None, metric: str, seed: int, whole: bool
) -> tuple[float, list[float]]:
    """The pooled figure, and that of bootstrap samples of the subjects or groups."""
    samples = resamples(len(target.rows), groups, seed, BOOTSTRAPS * (DRAWS if whole else 1))
    drawn = [figures_of(target, done, picked)[metric] for picked in samples]
    return figures_of(target, done, np.arange(len(target.rows)))[metric], drawn
