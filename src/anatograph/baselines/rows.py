"""Running one row of the benchmark, fold by fold, and keeping what it said so that nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.method import CohortMethod, FoldMethod, Method, Scans, SupervisedMethod, account
from anatograph.baselines.plan import Plan
from anatograph.embedding.table import read_embeddings, write_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.cross_validation import collect, probe_fold, seed_of_repeat
from anatograph.evaluation.folds import Split
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.targets import Target
from anatograph.execution.files import write_text

Array = NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Row:
    """A row that is done."""

    about: Mapping[str, Any]
    """slug, method (its title), learns, note, seconds, made_with."""
    rounds: Mapping[str, list[Predictions]]
    """For each target, every round of cross-validation."""

    @property
    def slug(self) -> str:
        """Its name on the command line."""
        return str(self.about["slug"])


class RowStore:
    """The folder of one row: an embedding, what was said in each fold, and ``row.json`` once all is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def about(self) -> dict[str, Any] | None:
        """What ``row.json`` holds; None while the row is not done."""
        return _read_json(self.folder / "row.json")

    @property
    def failure(self) -> str | None:
        """Why the row could not be had the last time it was tried; None if it was not tried or is done."""
        found = _read_json(self.folder / "failed.json")
        return str(found["reason"]) if found else None

    def check(self, made_with: Mapping[str, Any]) -> None:
        """Refuse to mix.

        Raises:
            UserError: a finished row that was made with something else.
        """
        done = self.about
        if done and done["made_with"] != dict(made_with):
            raise UserError(
                f"{self.folder} holds results made with {_words(done['made_with'])}, not {_words(made_with)}; give "
                "what they were made with, another --out, or remove this folder."
            )

    def begin(self, made_with: Mapping[str, Any]) -> None:
        """Make the folder; parts of an unfinished row that were made with something else are removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = _read_json(self.folder / "made_with.json")
        if self.about is None and begun is not None and begun != dict(made_with):
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        write_text(self.folder / "made_with.json", json.dumps(dict(made_with), indent=2) + "\n")

    def failed(self, reason: str, trace: str = "") -> None:
        """Keep why the row could not be had."""
        write_text(self.folder / "failed.json", json.dumps({"reason": reason, "trace": trace}, indent=2) + "\n")

    def finish(self, about: Mapping[str, Any]) -> None:
        """Mark the row as done."""
        write_text(self.folder / "row.json", json.dumps(dict(about), indent=2) + "\n")
        (self.folder / "failed.json").unlink(missing_ok=True)

    @property
    def region_state(self) -> str:
        """``done`` or ``none`` once the row was asked for features of regions; empty before."""
        found = _read_json(self.folder / "regions.json")
        return str(found["regions"]) if found else ""

    def set_region_state(self, state: str) -> None:
        """Keep whether the row has features of regions."""
        write_text(self.folder / "regions.json", json.dumps({"regions": state}) + "\n")

    def part(self, name: str) -> dict[str, Array] | None:
        """Arrays kept under a name; None where there are none."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as found:
                return {key: np.asarray(found[key], dtype=np.float64) for key in found.files}
        except (FileNotFoundError, ValueError, OSError, EOFError):
            return None

    def keep(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Keep arrays under a name, whole or not at all."""
        part = self.folder / f".{name}.{os.getpid()}.npz"
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(self.folder / f"{name}.npz")


def run_row(
    method: Method,
    plan: Plan,
    scans: Scans,
    store: RowStore,
    made_with: Mapping[str, Any],
    say: Say,
    note: str | None = None,
) -> None:
    """Predict everybody in every fold of the plan, doing only what ``store`` lacks.

    ``note`` takes the place of what the method itself has to say to a reader of the table.

    Raises:
        UserError: the method cannot be had, or what it gave is unusable.
    """
    began = time.monotonic()
    earlier = (store.part("seconds") or {"seconds": np.zeros(())})["seconds"].item()
    features: Array | None = None
    total = sum(len(folds) for folds in plan.rounds)
    number = 0
    for repeat, folds in enumerate(plan.rounds):
        for k, split in enumerate(folds):
            number += 1
            if _complete(store.part(f"fold-{repeat}-{k}"), plan, split):
                continue
            if isinstance(method, CohortMethod) and features is None:
                features = embedded(method, scans, store)
            found = _predict(method, plan, scans, split, features, seed_of_repeat(plan.seed, repeat))
            store.keep(f"fold-{repeat}-{k}", found)
            spent = earlier + time.monotonic() - began
            store.keep("seconds", {"seconds": np.array(spent)})
            say(f"  {method.slug}: fold {number} of {total} done, {spent:.0f} s")
    seconds = round(earlier + time.monotonic() - began, 1)
    told = method.note if note is None else note
    store.finish({**account(method), "note": told, "seconds": seconds, "made_with": dict(made_with)})


def embedded(method: CohortMethod, scans: Scans, store: RowStore) -> Array:
    """(S, D) features of everybody, made once and kept as ``embeddings.parquet``.

    Raises:
        UserError: the method cannot be had, or its features are no finite numbers.
    """
    file = store.folder / "embeddings.parquet"
    if not file.is_file():
        features = np.asarray(method.embed(scans), dtype=np.float64)
        _check_features(features, method, len(scans.table), np.arange(len(scans.table)))
        # A method may know what to tell of itself only once it has loaded its weights.
        write_text(store.folder / "note.json", json.dumps({"note": method.note}) + "\n")
        write_embeddings(file, scans.subject_ids, features.astype(np.float32))
    elif (kept := _read_json(store.folder / "note.json")) is not None:
        method.note = str(kept["note"])
    return read_embeddings(file).only(scans.subject_ids)


def read_row(store: RowStore, plan: Plan) -> Row | None:
    """The row as it was kept; None if it is not done."""
    about = store.about
    if about is None:
        return None
    rounds: dict[str, list[Predictions]] = {}
    for index, target in enumerate(plan.targets):
        rounds[target.name] = []
        for repeat, folds in enumerate(plan.rounds):
            parts = [store.part(f"fold-{repeat}-{k}") for k in range(len(folds))]
            if not all(_complete(part, plan, split) for part, split in zip(parts, folds, strict=True)):
                return None
            splits = [plan.split_of(target, split) for split in folds]
            said = [part[f"t{index}"] for part in parts if part is not None]
            rounds[target.name].append(collect(target, splits, said))
    return Row(about, rounds)


def _predict(
    method: Method, plan: Plan, scans: Scans, split: Split, features: Array | None, seed: int
) -> dict[str, Array]:
    """What a method says of the second rows of a fold, for every target."""
    train, test = split
    if isinstance(method, SupervisedMethod):
        said = method.predict_many(scans, plan.targets, train, test)
    else:
        if isinstance(method, FoldMethod):
            features = np.asarray(method.embed_fold(scans, train, test), dtype=np.float64)
            _check_features(features, method, len(scans.table), np.concatenate([train, test]))
        assert features is not None
        said = []
        for target in plan.targets:
            own = plan.split_of(target, split)
            said.append(probe_fold(features[target.rows], target, plan.groups_of(target), own, seed))
    return {
        f"t{index}": _checked(np.asarray(one, dtype=np.float64), target, plan, split, method)
        for index, (target, one) in enumerate(zip(plan.targets, said, strict=True))
    }


def _shape(target: Target, plan: Plan, split: Split) -> tuple[int, ...]:
    count = len(plan.split_of(target, split)[1])
    return (count, len(target.classes)) if target.classes else (count,)


def _complete(part: Mapping[str, Array] | None, plan: Plan, split: Split) -> bool:
    return part is not None and all(
        f"t{index}" in part and part[f"t{index}"].shape == _shape(target, plan, split)
        for index, target in enumerate(plan.targets)
    )


def _checked(said: Array, target: Target, plan: Plan, split: Split, method: Method) -> Array:
    if said.shape != _shape(target, plan, split):
        raise ValueError(f"{method.slug} gave {said.shape} for {target.name}, not {_shape(target, plan, split)}")
    if not np.isfinite(said).all():
        raise UserError(f"{method.title} predicted values of {target.name} that are no finite numbers.")
    return said


def _check_features(features: Array, method: Method, people: int, rows: NDArray[np.int64]) -> None:
    if features.ndim != 2 or len(features) != people:
        raise ValueError(f"{method.slug} gave features of shape {features.shape} for {people} people")
    if not np.isfinite(features[rows]).all():
        raise UserError(f"{method.title} gave features that are no finite numbers.")


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _words(made_with: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in made_with.items()) or "nothing given"
