"""Runs one row of the benchmark fold by fold and stores its predictions, so that no fold is computed twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target

Array = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Row:
    """A finished row."""

    about: Mapping[str, Any]
    """slug, method (its title), learns, note, seconds, made_with."""
    rounds: Mapping[str, list[Predictions]]
    """For each target, every round of cross-validation."""

    @property
    def slug(self) -> str:
        """Its name on the command line."""
        return str(self.about["slug"])


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
        design, began = self.design, time.monotonic()
        earlier = (store.load("seconds") or {"seconds": np.zeros(())})["seconds"].item()
        features: Array | None = None
        total = sum(len(folds) for folds in design.rounds)
        folds = [(repeat, k, split) for repeat, splits in enumerate(design.rounds) for k, split in enumerate(splits)]
        for number, (repeat, k, split) in enumerate(folds, start=1):
            if _is_complete(store.load(f"fold-{repeat}-{k}"), design, split):
                continue
            if isinstance(method, CohortMethod) and features is None:
                features = embedded(method, self.scans, store)
            predicted = self.predict(method, split, features, seed_of_repeat(design.seed, repeat))
            store.save(f"fold-{repeat}-{k}", predicted)
            spent = earlier + time.monotonic() - began
            store.save("seconds", {"seconds": np.array(spent)})
            self.say(f"  {method.slug}: fold {number} of {total} done, {spent:.0f} s")
        seconds = round(earlier + time.monotonic() - began, 1)
        about = {**describe(method), "seconds": seconds, "made_with": dict(made_with)}
        store.finish(about if note is None else {**about, "note": note})

    def predict(self, method: Method, split: Split, features: Array | None, seed: int) -> dict[str, Array]:
        """A method's predictions for the test rows of a fold, for every target: ``t0``, ``t1``, …"""
        design, (train, test) = self.design, split
        if isinstance(method, SupervisedMethod):
            predicted = method.predict_many(self.scans, design.targets, train, test)
        else:
            if isinstance(method, FoldMethod):
                features = np.asarray(method.embed_fold(self.scans, train, test), dtype=np.float64)
                _check_features(features, method, len(self.scans.table), np.concatenate([train, test]))
            assert features is not None
            predicted = []
            for target in design.targets:
                own = design.split_of(target, split)
                predicted.append(probe_fold(features[target.rows], target, design.groups_of(target), own, seed))
        return {
            f"t{index}": _checked(np.asarray(one, dtype=np.float64), target, _shape(target, design, split), method)
            for index, (target, one) in enumerate(zip(design.targets, predicted, strict=True))
        }


def embedded(method: CohortMethod, scans: Scans, store: RowStore) -> Array:
    """(S, D) features of all subjects, computed once and stored as ``embeddings.parquet``.

    Raises:
        UserError: the method is unavailable, or its features are not finite.
    """
    file = store.folder / "embeddings.parquet"
    if not file.is_file():
        features = np.asarray(method.embed(scans), dtype=np.float64)
        _check_features(features, method, len(scans.table), np.arange(len(scans.table)))
        store.set_note(method.note)  # some methods know their note only once they have loaded their weights
        write_embeddings(file, scans.subject_ids, features.astype(np.float32))
    elif (note := store.note) is not None:
        method.note = note
    return read_embeddings(file).only(scans.subject_ids)


def read_row(store: RowStore, design: Design) -> Row | None:
    """The stored row; None if it is unfinished."""
    about = store.about
    if about is None:
        return None
    rounds: dict[str, list[Predictions]] = {}
    for index, target in enumerate(design.targets):
        rounds[target.name] = []
        for repeat, folds in enumerate(design.rounds):
            parts = [store.load(f"fold-{repeat}-{k}") for k in range(len(folds))]
            if not all(_is_complete(part, design, split) for part, split in zip(parts, folds, strict=True)):
                return None
            splits = [design.split_of(target, split) for split in folds]
            predicted = [part[f"t{index}"] for part in parts if part is not None]
            rounds[target.name].append(collect(target, splits, predicted))
    return Row(about, rounds)


def _shape(target: Target, design: Design, split: Split) -> tuple[int, ...]:
    count = len(design.split_of(target, split)[1])
    return (count, len(target.classes)) if target.classes else (count,)


def _is_complete(part: Mapping[str, Array] | None, design: Design, split: Split) -> bool:
    return part is not None and all(
        f"t{index}" in part and part[f"t{index}"].shape == _shape(target, design, split)
        for index, target in enumerate(design.targets)
    )


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
