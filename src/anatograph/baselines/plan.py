"""What a benchmark divides: the people, the targets, and the folds that are the same for every row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.choices import Task
from anatograph.errors import UserError
from anatograph.evaluation.cross_validation import seed_of_repeat, usable
from anatograph.evaluation.evaluate import group_numbers
from anatograph.evaluation.folds import Split, make_shared_folds
from anatograph.evaluation.targets import Target, read_target
from anatograph.study.cohort import Cohort
from anatograph.study.store import Study

_BINS = 4
"""Numbers are dealt out to the folds by quarters of their values."""


@dataclass(frozen=True, eq=False)
class Plan:
    """S people, the targets known of them, and rounds of folds common to all targets and rows."""

    study: Study
    """Their patches."""
    table: pd.DataFrame
    """S rows of the cohort table, by ``subject_id`` in ascending order."""
    folder: Path
    """Where the table lies; files that it names are relative to it."""
    targets: tuple[Target, ...]
    """``rows`` index ``table``."""
    rounds: tuple[tuple[Split, ...], ...]
    """Folds of each round of cross-validation; rows of ``table``, with or without a value of a target."""
    groups: NDArray[np.int64] | None
    """(S,) who belongs together."""
    seed: int
    """Of folds, probes and methods."""
    left_out: Mapping[str, str]
    """Targets that cannot be cross-validated, and why."""
    notes: tuple[str, ...]
    """What was decided and who was left out, in plain sentences."""

    def groups_of(self, target: Target) -> NDArray[np.int64] | None:
        """(n,) groups of the people of a target."""
        return None if self.groups is None else self.groups[target.rows]

    def split_of(self, target: Target, split: Split) -> Split:
        """A fold of everybody as rows of a target's own n people."""
        train, test = (np.flatnonzero(np.isin(target.rows, part)).astype(np.int64) for part in split)
        return train, test

    def study_digest(self) -> str:
        """Changes with the atlas, the way of preprocessing, and the scans of these people."""
        return self.study.digest([str(name) for name in self.table["subject_id"]])

    def labels_digest(self, columns: Sequence[str]) -> str:
        """Changes with who takes part and with their cells in these columns."""
        return _digest(self.table[["subject_id", *columns]].to_csv(index=False))


def make_plan(
    study: Study,
    cohort: Cohort,
    tasks: Mapping[str, Task | None],
    log: Sequence[str],
    folds: int,
    repeats: int,
    group: str | None,
    seed: int,
) -> Plan:
    """Choose people and targets and divide them.

    A target with too few people or classes for the folds is left out and said.

    Raises:
        UserError: nobody in both, a target that is not there or cannot be read, or no target that can be divided.
    """
    table, notes = _people(study, cohort)
    groups = group_numbers(table, group) if group else None
    targets, faults, left_out = [], [], {}
    for name, task in tasks.items():
        try:
            target = read_target(table, name, task, name in log)
        except UserError as error:
            faults.append(str(error))
            continue
        try:
            targets.append(usable(target, groups, folds))
        except UserError as error:
            left_out[name] = str(error)
    if faults:
        raise UserError(" ".join(faults))
    if not targets:
        raise UserError(" ".join(left_out.values()))
    seeds = [seed_of_repeat(seed, repeat) for repeat in range(repeats)]
    labels = [_labels(target, len(table)) for target in targets]
    rounds = tuple(tuple(make_shared_folds(labels, groups, folds, one)) for one in seeds)
    plan = Plan(study, table, cohort.path.parent, tuple(targets), rounds, groups, seed, {}, ())
    for target in targets:
        if reason := _undivided(plan, target):
            left_out[target.name] = reason
    kept = tuple(target for target in targets if target.name not in left_out)
    if not kept:
        raise UserError(" ".join(left_out.values()))
    notes += [note for target in kept for note in target.notes]
    return Plan(study, table, cohort.path.parent, kept, rounds, groups, seed, left_out, tuple(dict.fromkeys(notes)))


def _people(study: Study, cohort: Cohort) -> tuple[pd.DataFrame, list[str]]:
    in_study, in_table = set(study.subject_ids), set(cohort.subject_ids)
    both = sorted(in_study & in_table)
    if not both:
        raise UserError(
            f"No subject of the cohort {cohort.path} is in the study {study.path}; run `anatograph preprocess` first, "
            "or give the cohort that the study was made from."
        )
    notes = []
    if missing := len(in_table - in_study):
        notes.append(f"{missing} of {len(in_table)} people of the cohort are not in the study and are left out")
    if strange := len(in_study - in_table):
        notes.append(f"{strange} people of the study are not in the cohort and are left out")
    table = cohort.table.set_index("subject_id", drop=False).loc[both].reset_index(drop=True)
    return table, notes


def _labels(target: Target, people: int) -> NDArray[np.int64]:
    """(S,) class, or quarter of the values, of everybody; -1 where not known."""
    labels = np.full(people, -1, dtype=np.int64)
    if target.classes:
        labels[target.rows] = target.values.astype(np.int64)
    else:
        edges = np.quantile(target.values, np.linspace(0, 1, _BINS + 1)[1:-1])
        labels[target.rows] = np.searchsorted(edges, target.values, side="right")
    return labels


def _undivided(plan: Plan, target: Target) -> str:
    """Why a target cannot be judged on these folds; empty if it can."""
    for folds in plan.rounds:
        for number, split in enumerate(folds, start=1):
            train, test = plan.split_of(target, split)
            if not len(test) or not len(train):
                return f"'{target.name}' is known for nobody in fold {number}; give fewer folds."
            if target.classes and len(np.unique(target.values[train])) < 2:
                return f"'{target.name}' has a single class among the people to fit on in fold {number}."
    return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
