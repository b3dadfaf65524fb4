"""What the embedding adds to covariates: nested models on the same folds, with intervals and a permutation test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.evaluation.adjustment.covariates import Covariates
from anatograph.evaluation.adjustment.joint import Outcome, predict_joint
from anatograph.evaluation.cross_validation import Preparation, seed_of_repeat, splits_of
from anatograph.evaluation.headline import DRAWS
from anatograph.evaluation.metrics import area_under_curve, r_squared
from anatograph.evaluation.scores import interval_of, resamples
from anatograph.evaluation.survival.concordance import harrell
from anatograph.evaluation.targets import Target
from anatograph.learning.model.pooling import ONE_PART, Parts

Array = NDArray[np.float64]
MODELS = ("covariates", "embedding", "covariates + embedding")
"""Rows of ``adjusted.csv``; after them ``added`` and, for numbers, ``partial_r2``."""


@dataclass(frozen=True)
class Plan:
    """How the models are compared."""

    folds: int
    seed: int
    repeats: int = 1
    permutations: int = 0
    draws: int = DRAWS
    """Bootstrap samples behind the intervals."""
    parts: Parts = ONE_PART
    """Of the features."""
    prepare: Preparation | None = None
    """What is done to the features in each training fold."""


def added_value(
    features: Array,
    target: Target,
    covariates: Covariates,
    groups: NDArray[np.int64] | None,
    plan: Plan,
) -> pd.DataFrame:
    """target, model, metric, value, low, high, p, n: each model, and the difference that the embedding makes.

    ``features`` (n, F) and ``groups`` (n,) belong to the target's subjects.  In each training fold three models are
    fitted: covariates without a penalty, features with one, and both; every subject is predicted out of fold.  The
    figure is R², AUC or Harrell's C over all subjects at once (mean over the repeats); ``added`` is that of both minus
    that of the covariates, ``partial_r2`` 1 - SSE(both) / SSE(covariates).  Intervals are from bootstrap samples of the
    subjects or groups with the predictions fixed.  The permutation test shuffles what the covariates do not explain of
    the features between subjects (groups), which keeps their association with the covariates, and refits: p is the
    share of differences as large as the observed one.  Grades are regressed as numbers.

    Raises:
        UserError: a covariate that is the target.
    """
    own = set(target.name.split(":")) & set(covariates.names)
    if own:
        raise UserError(f"--adjust: '{own.pop()}' is the target itself; leave it out of --adjust for {target.name}.")
    outcome = Outcome(target.values, len(target.classes) if target.task == "classification" else 0, target.times)
    work = _Work(features, target, covariates, groups, plan, outcome)
    base, both = work.rounds(None), work.rounds(features)
    alone = work.rounds(features, with_covariates=False)
    found = dict(zip(MODELS, (base, alone, both), strict=True))
    every = np.arange(len(target.rows))
    values = {name: _mean(outcome, rounds, every) for name, rounds in found.items()}
    values["added"] = values[MODELS[2]] - values[MODELS[0]]
    drawn: dict[str, list[float]] = {name: [] for name in values}
    partial = [_partial(outcome, base, both, every)]
    for rows in resamples(len(target.rows), groups, plan.seed, plan.draws):
        for name, rounds in found.items():
            drawn[name].append(_mean(outcome, rounds, rows))
        drawn["added"].append(drawn[MODELS[2]][-1] - drawn[MODELS[0]][-1])
        partial.append(_partial(outcome, base, both, rows))
    p = _permutation_p(work, values["added"], values[MODELS[0]]) if plan.permutations else float("nan")
    metric = _metric(outcome)
    rows_of_table = [
        _row(target, name, metric, value, drawn[name], p if name == "added" else float("nan"))
        for name, value in values.items()
    ]
    if metric == "r2":
        rows_of_table.append(_row(target, "added", "partial_r2", partial[0], partial[1:], p))
    return pd.DataFrame(rows_of_table)


@dataclass(frozen=True, eq=False)
class _Work:
    features: Array
    target: Target
    covariates: Covariates
    groups: NDArray[np.int64] | None
    plan: Plan
    outcome: Outcome

    def rounds(self, features: Array | None, with_covariates: bool = True) -> list[Array]:
        """Out-of-fold predictions of one model in every round; ``features`` None is the covariates alone."""
        seeds = [seed_of_repeat(self.plan.seed, k) for k in range(self.plan.repeats)]
        return [self._round(features, with_covariates, seed) for seed in seeds]

    def _round(self, features: Array | None, with_covariates: bool, seed: int) -> Array:
        rows, plan = self.target.rows, self.plan
        shape = (len(rows), self.outcome.classes) if self.outcome.classes else (len(rows),)
        collected = np.zeros(shape)
        for train, test in splits_of(self.target, self.groups, plan.folds, seed):
            design = self.covariates.design(rows[train])[rows]
            x = self.features[:, :0] if features is None else features
            if features is not None and plan.prepare is not None:
                x = plan.prepare(x, rows, train)
            given = design if with_covariates else design[:, :0]
            parts = plan.parts if features is not None else ONE_PART
            collected[test] = predict_joint(x, given, self.outcome, train, self.groups, seed, parts)[test]
        return collected


def _permutation_p(work: _Work, observed: float, base: float) -> float:
    """Share of shuffles of the features' remainder after the covariates that add as much as ``observed``."""
    random = np.random.default_rng(work.plan.seed)
    rows = work.target.rows
    whole = np.column_stack([np.ones(len(rows)), work.covariates.design(rows)[rows]])
    explained = whole @ np.linalg.lstsq(whole, work.features, rcond=None)[0]
    left = work.features - explained
    every = np.arange(len(rows))
    as_good = 0
    for _ in range(work.plan.permutations):
        order = _shuffled_rows(len(rows), work.groups, random)
        rounds = work.rounds(explained + left[order])
        as_good += _mean(work.outcome, rounds, every) - base >= observed
    return (1 + as_good) / (1 + work.plan.permutations)


def _shuffled_rows(count: int, groups: NDArray[np.int64] | None, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows in another order: groups of one size change places as wholes, so that scans of a patient stay together."""
    if groups is None:
        return random.permutation(count)
    order = np.arange(count)
    names, sizes = np.unique(groups, return_counts=True)
    for size in np.unique(sizes):
        members = np.stack([np.flatnonzero(groups == name) for name in names[sizes == size]])
        order[members] = members[random.permutation(len(members))]
    return order


def _metric(outcome: Outcome) -> str:
    return "c_harrell" if outcome.times is not None else "auc" if outcome.classes else "r2"


def _mean(outcome: Outcome, rounds: Sequence[Array], rows: NDArray[np.int64]) -> float:
    return float(np.mean([_figure(outcome, one, rows) for one in rounds]))


def _figure(outcome: Outcome, predicted: Array, rows: NDArray[np.int64]) -> float:
    truth = outcome.values[rows]
    if outcome.times is not None:
        return harrell(outcome.times[rows], truth, predicted[rows])
    return area_under_curve(truth, predicted[rows]) if outcome.classes else r_squared(truth, predicted[rows])


def _partial(outcome: Outcome, base: Sequence[Array], both: Sequence[Array], rows: NDArray[np.int64]) -> float:
    if _metric(outcome) != "r2":
        return float("nan")
    y = outcome.values[rows]
    shares = [1 - ((y - b[rows]) ** 2).sum() / ((y - a[rows]) ** 2).sum() for a, b in zip(base, both, strict=True)]
    return float(np.mean(shares))


def _row(target: Target, model: str, metric: str, value: float, drawn: list[float], p: float) -> dict[str, object]:
    low, high = interval_of(drawn)
    return {
        "target": target.name,
        "model": model,
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "p": p,
        "n": len(target.rows),
    }
