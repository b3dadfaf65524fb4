"""Runs one row of the benchmark fold by fold and stores its predictions, so that no fold is computed twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.design import Design
from anatograph.baselines.method import CohortMethod, FoldMethod, Method, Scans, SupervisedMethod, describe
from anatograph.baselines.row_store import RowStore
from anatograph.embedding.table import read_embeddings, write_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.cross_validation import collect, probe_fold, seed_of_repeat
from anatograph.evaluation.folds import Split
from anatograph.evaluation.probes.linear import fit_probe
from anatograph.evaluation.probes.nonlinear import fit_nonlinear
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target
from anatograph.learning.model.pooling import ONE_PART, Parts

Array = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Row:
    """A finished row."""

    about: Mapping[str, Any]
    """slug, method (its title), learns, note, updates, seconds, made_with."""
    rounds: Mapping[str, list[Predictions]]
    """For each target, every round of cross-validation."""
    left_out: Mapping[str, Predictions] = field(default_factory=dict)
    """For each target that can be evaluated so, predictions for each left-out value of the design's column."""
    column: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Accuracy of predicting that column in each fold of the first round, by ``linear`` and ``nonlinear`` probe."""

    @property
    def slug(self) -> str:
        """Its name on the command line."""
        return str(self.about["slug"])


@dataclass(frozen=True, eq=False)
class _Part:
    """One division into training and test subjects, and how its predictions are stored."""

    name: str
    split: Split
    seed: int
    targets: tuple[Target, ...]
    with_column: bool
    """Whether the left-out column itself is predicted here."""


@dataclass(frozen=True, eq=False)
class RowRunner:
    """Predicts every subject in every fold of a design, by any method."""

    design: Design
    """Targets and folds."""
    scans: Scans
    """The subjects' scans."""
    say: Say
    """Receives a line of progress."""

    def run(self, method: Method, store: RowStore, made_with: Mapping[str, Any], note: str | None = None) -> None:
        """Compute the folds that ``store`` lacks.

        ``note`` replaces the method's own note for readers of the table.

        Raises:
            UserError: the method is unavailable, or its output is unusable.
        """
        began = time.monotonic()
        earlier = (store.load("seconds") or {"seconds": np.zeros(())})["seconds"].item()
        features: Array | None = None
        feature_parts = ONE_PART
        parts = _parts(self.design, isinstance(method, SupervisedMethod))
        for number, part in enumerate(parts, start=1):
            if _is_complete(store.load(part.name), self.design, part):
                continue
            if isinstance(method, CohortMethod) and features is None:
                features, feature_parts = embedded(method, self.scans, store)
            predicted = self.predict(method, part.split, features, part.seed, part, feature_parts)
            store.save(part.name, predicted)
            spent = earlier + time.monotonic() - began
            store.save("seconds", {"seconds": np.array(spent)})
            self.say(f"  {method.slug}: fold {number} of {len(parts)} done, {spent:.0f} s")
        seconds = round(earlier + time.monotonic() - began, 1)
        about = {**describe(method), "seconds": seconds, "made_with": dict(made_with)}
        store.finish(about if note is None else {**about, "note": note})

    def predict(
        self,
        method: Method,
        split: Split,
        features: Array | None,
        seed: int,
        part: _Part | None = None,
        feature_parts: Parts = ONE_PART,
    ) -> dict[str, Array]:
        """A method's predictions for the test rows of a fold: ``t0``, ``t1``, … for the design's targets in order.

        A ``part`` may restrict the targets, and may add the left-out column's accuracies ``linear`` and ``nonlinear``.
        ``features`` (S, D) consist of ``feature_parts`` as in `anatograph.evaluation.probes.linear.fit_probe`.
        """
        design, (train, test) = self.design, split
        targets = design.targets if part is None else part.targets
        found: dict[str, Array] = {}
        if isinstance(method, SupervisedMethod):
            predicted = method.predict_many(self.scans, targets, train, test)
        else:
            if isinstance(method, FoldMethod):
                features = np.asarray(method.embed_fold(self.scans, train, test), dtype=np.float64)
                _check_features(features, method, len(self.scans.table), np.concatenate([train, test]))
            assert features is not None
            predicted = []
            for target in targets:
                own = design.split_of(target, split)
                groups = design.groups_of(target)
                predicted.append(probe_fold(features[target.rows], target, groups, own, seed, feature_parts))
            if part is not None and part.with_column:
                found = _column_accuracy(features, design, split, seed)
        return found | {
            f"t{design.targets.index(target)}": _checked(
                np.asarray(one, dtype=np.float64), target, _shape(target, design, split), method
            )
            for target, one in zip(targets, predicted, strict=True)
        }


def _parts(design: Design, supervised: bool) -> list[_Part]:
    """Every division of the design: random folds, then the values of the left-out column."""
    found = []
    for repeat, splits in enumerate(design.rounds):
        seed = seed_of_repeat(design.seed, repeat)
        with_column = design.leave_out is not None and repeat == 0 and not supervised
        for k, split in enumerate(splits):
            found.append(_Part(f"fold-{repeat}-{k}", split, seed, design.targets, with_column))
    if design.leave_out is not None:
        for k, split in enumerate(design.leave_out.splits):
            targets = tuple(
                target
                for target in design.targets
                if target.name in design.leave_out_targets and np.isin(target.rows, split[1]).any()
            )
            if targets:
                found.append(_Part(f"leave-out-{k}", split, design.seed, targets, False))
    return found


def _column_accuracy(features: Array, design: Design, split: Split, seed: int) -> dict[str, Array]:
    """How often the left-out column is predicted correctly in a fold, by a linear and by a non-linear probe."""
    assert design.leave_out is not None
    labels, (train, test) = design.leave_out.labels, split
    held = None if design.groups is None else design.groups[train]
    classes = len(design.leave_out.values)
    if len(np.unique(labels[train])) < 2:
        return {"linear": np.array(np.nan), "nonlinear": np.array(np.nan)}
    linear = fit_probe(features[train], labels[train].astype(np.float64), classes, held, seed)
    guesses = {
        "linear": linear.probabilities(features[test]).argmax(axis=1),
        "nonlinear": fit_nonlinear(features[train], labels[train]).predict(features[test]),
    }
    return {name: np.array((guess == labels[test]).mean()) for name, guess in guesses.items()}


def embedded(method: CohortMethod, scans: Scans, store: RowStore) -> tuple[Array, Parts]:
    """(S, D) features of all subjects and what they consist of, computed once and then stored.

    Raises:
        UserError: the method is unavailable, or its features are not finite.
    """
    file = store.folder / "embeddings.parquet"
    if not file.is_file():
        features = np.asarray(method.embed(scans), dtype=np.float64)
        _check_features(features, method, len(scans.table), np.arange(len(scans.table)))
        store.set_facts(method.note, method.updates)  # some are known only once the weights are loaded
        write_embeddings(file, scans.subject_ids, features.astype(np.float32), method.about)
    elif (facts := store.facts) is not None:
        method.note, method.updates = facts
    known = read_embeddings(file)
    return known.only(scans.subject_ids), known.parts


def read_row(store: RowStore, design: Design) -> Row | None:
    """The stored row; None if it is unfinished."""
    about = store.about
    if about is None:
        return None
    loaded = {}
    for part in _parts(design, str(about["learns"]) == "labels, in each fold"):
        arrays = store.load(part.name)
        if not _is_complete(arrays, design, part):
            return None
        assert arrays is not None
        loaded[part.name] = arrays
    rounds: dict[str, list[Predictions]] = {}
    left_out: dict[str, Predictions] = {}
    for index, target in enumerate(design.targets):
        rounds[target.name] = []
        for repeat, folds in enumerate(design.rounds):
            splits = [design.split_of(target, split) for split in folds]
            predicted = [loaded[f"fold-{repeat}-{k}"][f"t{index}"] for k in range(len(folds))]
            rounds[target.name].append(collect(target, splits, predicted))
        if design.leave_out is not None and target.name in design.leave_out_targets:
            predicted = [
                loaded[f"leave-out-{k}"][f"t{index}"]
                for k, (_, test) in enumerate(design.leave_out.splits)
                if np.isin(target.rows, test).any()
            ]
            left_out[target.name] = design.leave_out.collected(target, predicted)
    column = {
        name: tuple(float(arrays[name]) for part, arrays in loaded.items() if part.startswith("fold-0-"))
        for name in ("linear", "nonlinear")
        if all(name in arrays for part, arrays in loaded.items() if part.startswith("fold-0-"))
    }
    return Row(about, rounds, left_out, column)


def _shape(target: Target, design: Design, split: Split) -> tuple[int, ...]:
    count = len(design.split_of(target, split)[1])
    return (count, len(target.classes)) if target.classes else (count,)


def _is_complete(arrays: Mapping[str, Array] | None, design: Design, part: _Part) -> bool:
    if arrays is None or (part.with_column and "nonlinear" not in arrays):
        return False
    wanted = {f"t{design.targets.index(target)}": _shape(target, design, part.split) for target in part.targets}
    return all(name in arrays and arrays[name].shape == shape for name, shape in wanted.items())


def _checked(predicted: Array, target: Target, shape: tuple[int, ...], method: Method) -> Array:
    if predicted.shape != shape:
        raise ValueError(f"{method.slug} gave {predicted.shape} for {target.name}, not {shape}")
    if not np.isfinite(predicted).all():
        raise UserError(f"{method.title} predicted values of {target.name} that are not finite numbers.")
    return predicted


def _check_features(features: Array, method: Method, subjects: int, rows: NDArray[np.int64]) -> None:
    if features.ndim != 2 or len(features) != subjects:
        raise ValueError(f"{method.slug} gave features of shape {features.shape} for {subjects} subjects")
    if not np.isfinite(features[rows]).all():
        raise UserError(f"{method.title} gave features that are not finite numbers.")
