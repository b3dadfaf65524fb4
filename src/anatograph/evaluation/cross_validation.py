"""Cross-validation over subjects: what can be divided into folds, and each subject predicted by a held-out probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from anatograph.choices import Question, Task
from anatograph.errors import UserError
from anatograph.evaluation.folds import Split, make_folds
from anatograph.evaluation.probes.cox import fit_cox_probe
from anatograph.evaluation.probes.kernel import kernel_ridge
from anatograph.evaluation.probes.linear import fit_probe
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.survival.outcome import horizon
from anatograph.evaluation.targets import Target
from anatograph.learning.model.pooling import ONE_PART, Parts

Preparation = Callable[[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""Features (n, F), the table's row of each (n,), and which of the n to learn from → features (n, F): what is done to
them inside each training fold before the probe is fitted."""


def check_request(
    targets: Sequence[str] | str,
    folds: int,
    repeats: int,
    bootstrap: int,
    log: Sequence[str],
    task: str | Mapping[str, Question] | Mapping[str, Task] | None,
) -> list[str]:
    """The targets, each once.

    Raises:
        UserError: numbers that make no sense, or a task or log scale for something that is not a target.
    """
    names = [targets] if isinstance(targets, str) else list(dict.fromkeys(targets))
    if not names:
        raise UserError("Name at least one target to predict.")
    if folds < 2:
        raise UserError(f"Cross-validation needs at least 2 folds, not {folds}.")
    if repeats < 1:
        raise UserError(f"Cross-validation is repeated at least once, not {repeats} times.")
    if bootstrap and bootstrap < 100:
        raise UserError(f"A bootstrap interval needs at least 100 samples, not {bootstrap}.")
    named = set(log) | (set(task) if isinstance(task, Mapping) else set())
    stray = [name for name in sorted(named) if name not in names]
    if stray:
        raise UserError(f"{', '.join(stray)} is given a task or a log scale but is not among the targets.")
    return names


def seed_of_repeat(seed: int, repeat: int) -> int:
    """Seed of the folds of a round of cross-validation; the first has ``seed`` itself."""
    return seed + 100_003 * repeat


def usable(target: Target, groups: NDArray[np.int64] | None, folds: int) -> Target:
    """The target without classes that cannot be both fitted and tested, if enough subjects are left for the folds.

    A class of one subject (or one group) cannot be predicted from the rest, so it is left out and noted.

    Raises:
        UserError: too few subjects, groups or classes.
    """
    who = np.arange(len(target.rows)) if groups is None else groups[target.rows]
    unit = "subjects" if groups is None else "groups"
    if target.classes:
        holders = [len(np.unique(who[target.values == k])) for k in range(len(target.classes))]
        alone = [k for k, count in enumerate(holders) if count < 2]
        if alone:
            names = ", ".join(target.classes[k] for k in alone)
            chosen = ~np.isin(target.values, alone)
            if len(target.classes) - len(alone) < 2:
                counts = ", ".join(f"{n}: {c}" for n, c in zip(target.classes, holders, strict=True))
                raise UserError(
                    f"'{target.name}' has too few {unit} in its classes to be cross-validated ({counts}); "
                    f"at least two classes need two {unit} each."
                )
            target = target.keep(chosen, f"{target.name}: classes with fewer than 2 {unit} are left out: {names}")
            who = who[chosen]
        few = [
            f"{name} ({count})"
            for name, count in zip(target.classes, np.bincount(target.values.astype(int)), strict=True)
            if count < folds
        ]
        if few:
            note = f"{target.name}: fewer members than folds, so not every fold tests {', '.join(few)}"
            target = target.keep(np.ones(len(who), dtype=bool), note)
    if target.task == "survival":
        holders_of_events = len(np.unique(who[target.values > 0]))
        if holders_of_events < folds:
            raise UserError(
                f"'{target.name}' has events in {holders_of_events} {unit} only, so not every one of {folds} folds can "
                f"test one; "
                + (f"give --folds {holders_of_events} or fewer" if holders_of_events > 1 else "follow more subjects")
                + ", and expect no reliable answer from so few."
            )
    units = len(np.unique(who))
    if units < folds:
        most = min(units, len(who) // 2) if target.task == "regression" else units  # R² needs two subjects a fold
        raise UserError(
            f"'{target.name}' is known for {units} {unit} and cannot be divided into {folds} folds; "
            + (f"give --folds {most} or fewer, or more {unit}." if most >= 2 else f"add {unit}.")
        )
    if target.task == "regression" and len(who) < 2 * folds:
        raise UserError(
            f"'{target.name}' is known for {len(who)} subjects; R² in {folds} folds needs at least {2 * folds}, "
            + (f"so give --folds {len(who) // 2}." if len(who) >= 4 else "so add subjects.")
        )
    return target


def cross_validate(
    features: NDArray[np.float64],
    target: Target,
    groups: NDArray[np.int64] | None,
    folds: int,
    seed: int,
    parts: Parts = ONE_PART,
    prepare: Preparation | None = None,
) -> Predictions:
    """Predict each subject by a probe fitted on the other folds.

    ``features`` (n, F) and ``groups`` (n,) belong to the n subjects of ``target.rows``; ``parts`` as in `fit_probe`.

    Raises:
        UserError: where the groups leave a training fold with a single class.
    """
    return predict_splits(features, target, groups, splits_of(target, groups, folds, seed), seed, parts, prepare)


def predict_splits(
    features: NDArray[np.float64],
    target: Target,
    groups: NDArray[np.int64] | None,
    splits: Sequence[Split],
    seed: int,
    parts: Parts = ONE_PART,
    prepare: Preparation | None = None,
) -> Predictions:
    """As `cross_validate`, with ``splits`` of the target's subjects that are given."""
    predicted = [probe_fold(features, target, groups, split, seed, parts, prepare) for split in splits]
    return collect(target, splits, predicted)


def cross_validated_kernel(
    features: NDArray[np.float64],
    target: Target,
    groups: NDArray[np.int64] | None,
    folds: int,
    seed: int,
    prepare: Preparation | None = None,
) -> Predictions:
    """As `cross_validate`, by `kernel_ridge`, which is not linear: of numbers, or of the indicators of classes."""
    wanted = target.values[:, None]
    if target.classes:
        wanted = (target.values[:, None] == np.arange(len(target.classes))).astype(np.float64)
    splits, predicted = splits_of(target, groups, folds, seed), []
    for train, test in splits:
        given = features if prepare is None else prepare(features, target.rows, train)
        held = None if groups is None else groups[train]
        found = kernel_ridge(given[train], wanted[train], given[test], held, seed)
        predicted.append(found if target.classes else found[:, 0])
    return collect(target, splits, predicted)


def splits_of(target: Target, groups: NDArray[np.int64] | None, folds: int, seed: int) -> list[Split]:
    """The folds of a target: classes and events in proportion, ``groups`` (n,) never split.

    Raises:
        UserError: fewer folds than wanted, or a training fold with a single class.
    """
    values, classes = target.values, len(target.classes)
    splits = make_folds(values, classes > 0 or target.task == "survival", groups, folds, seed)
    if len(splits) < folds:
        raise UserError(
            f"'{target.name}' can be divided into {len(splits)} folds only, its most frequent class having no more "
            f"members; give --folds {max(2, len(splits))}."
        )
    for k, (train, _) in enumerate(splits):
        if classes and len(np.unique(values[train])) < 2:
            raise UserError(
                f"'{target.name}' has a single class among the training subjects of fold {k + 1}; give fewer folds or "
                f"a target that varies within the groups."
            )
    return splits


def probe_fold(
    features: NDArray[np.float64],
    target: Target,
    groups: NDArray[np.int64] | None,
    split: Split,
    seed: int,
    parts: Parts = ONE_PART,
    prepare: Preparation | None = None,
) -> NDArray[np.float64]:
    """Predictions for the second rows of ``split`` by a probe fitted on the first.

    ``features`` (n, F) and ``groups`` (n,) belong to the n subjects of ``target``; (m,) values come back for a
    regression, (m, 2) log-hazards and risks by the horizon for survival, (m, classes) probabilities otherwise.
    """
    train, test = split
    if prepare is not None:
        features = prepare(features, target.rows, train)
    held = None if groups is None else groups[train]
    if target.times is not None:
        cox = fit_cox_probe(features[train], target.times[train], target.values[train], held, seed, parts)
        return np.column_stack([cox.log_hazard(features[test]), cox.risk(features[test], horizon(target))])
    ordered = target.task == "ordinal"
    classes = len(target.classes)
    probe = fit_probe(features[train], target.values[train], classes, held, seed, ordered=ordered, parts=parts)
    return probe.probabilities(features[test]) if target.classes else probe.predict(features[test])


def collect(target: Target, splits: Sequence[Split], predicted: Sequence[NDArray[np.float64]]) -> Predictions:
    """One round of cross-validation from the predictions of `probe_fold` for each split."""
    count, classes = len(target.values), len(target.classes)
    fold, value, majority = np.zeros(count, dtype=np.int64), np.zeros(count), np.zeros(count)
    chance = np.zeros((count, classes)) if classes else None
    risk = np.zeros(count) if target.times is not None else None
    for k, ((train, test), found) in enumerate(zip(splits, predicted, strict=True)):
        fold[test] = k
        if risk is not None:
            value[test], risk[test] = found.T
        elif chance is None:
            value[test] = found
            majority[test] = target.values[train].mean()
        else:
            chance[test], value[test] = found, found.argmax(axis=1)
            majority[test] = np.bincount(target.values[train].astype(np.int64)).argmax()
    return Predictions(fold, value, chance, majority, risk)
