"""The design of a benchmark: its subjects, targets, and folds, the same for every row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.choices import Task
from anatograph.errors import UserError
from anatograph.evaluation.alignment import group_numbers
from anatograph.evaluation.cross_validation import seed_of_repeat, usable
from anatograph.evaluation.folds import Split, make_shared_folds
from anatograph.evaluation.leave_out import LeaveOut, leave_out
from anatograph.evaluation.targets import Target, read_target
from anatograph.study.cohort import Cohort
from anatograph.study.store import Study

_BINS = 4
"""Regression targets are stratified by quartiles."""


@dataclass(frozen=True)
class CrossValidation:
    """How subjects are divided."""

    folds: int = 5
    """Parts of a round."""
    repeats: int = 1
    """Rounds, each a new random division."""
    group: str | None = None
    """Column whose equal values stay in one part."""
    seed: int = 0
    """Seed of the folds, probes and methods."""
    leave_out: str | None = None
    """Column whose values are left out in turn, besides the random folds."""


@dataclass(frozen=True, eq=False)
class Design:
    """S subjects, their targets, and rounds of folds common to all targets and rows."""

    study: Study
    """Their patches."""
    table: pd.DataFrame
    """S rows of the cohort table, by ``subject_id`` in ascending order."""
    folder: Path
    """Folder of the table; files it names are relative to it."""
    targets: tuple[Target, ...]
    """``rows`` index ``table``."""
    rounds: tuple[tuple[Split, ...], ...]
    """Folds of each round of cross-validation; rows of ``table``, with or without a value of a target."""
    groups: NDArray[np.int64] | None
    """(S,) group numbers."""
    seed: int
    """Seed of the folds, probes and methods."""
    excluded: Mapping[str, str]
    """Targets that cannot be cross-validated, and why."""
    notes: tuple[str, ...]
    """Choices made and subjects excluded, as sentences."""
    leave_out: LeaveOut | None = None
    """Splits by the values of a column."""
    leave_out_targets: tuple[str, ...] = ()
    """Targets that can be evaluated on these splits."""

    def groups_of(self, target: Target) -> NDArray[np.int64] | None:
        """(n,) groups of the subjects of a target."""
        return None if self.groups is None else self.groups[target.rows]

    def split_of(self, target: Target, split: Split) -> Split:
        """A fold of all subjects as rows of the target's own n subjects."""
        train, test = (np.flatnonzero(np.isin(target.rows, part)).astype(np.int64) for part in split)
        return train, test

    def study_digest(self) -> str:
        """Changes with the atlas, the preprocessing settings, and the scans of these subjects."""
        return self.study.digest([str(name) for name in self.table["subject_id"]])

    def labels_digest(self, columns: Sequence[str]) -> str:
        """Changes with the set of subjects and with their cells in these columns."""
        return _digest(self.table[["subject_id", *columns]].to_csv(index=False))


def make_design(
    study: Study, cohort: Cohort, tasks: Mapping[str, Task | None], log: Sequence[str], scheme: CrossValidation
) -> Design:
    """Choose subjects and targets, and divide the subjects.

    A target with too few subjects or classes for the folds is excluded and reported.

    Raises:
        UserError: no subject in both study and cohort, a missing or unreadable target, or no divisible target.
    """
    table, notes = _common_subjects(study, cohort)
    groups = group_numbers(table, scheme.group) if scheme.group else None
    targets, excluded = _read_targets(table, tasks, log, groups, scheme.folds)
    if not targets:
        raise UserError(" ".join(excluded.values()))
    seeds = [seed_of_repeat(scheme.seed, repeat) for repeat in range(scheme.repeats)]
    labels = [_strata(target, len(table)) for target in targets]
    rounds = tuple(tuple(make_shared_folds(labels, groups, scheme.folds, seed)) for seed in seeds)
    design = Design(study, table, cohort.path.parent, tuple(targets), rounds, groups, scheme.seed, {}, ())
    if scheme.leave_out:
        design = replace(design, leave_out=leave_out(table, scheme.leave_out, groups))
    for target in targets:
        if reason := _why_undividable(design, target):
            excluded[target.name] = reason
    usable_targets = tuple(target for target in targets if target.name not in excluded)
    if not usable_targets:
        raise UserError(" ".join(excluded.values()))
    notes += [note for target in usable_targets for note in target.notes]
    possible = []
    for target in usable_targets if design.leave_out else ():
        try:
            assert design.leave_out is not None
            design.leave_out.splits_of(target)
            possible.append(target.name)
        except UserError as error:
            notes.append(str(error))
    return replace(
        design,
        targets=usable_targets,
        excluded=excluded,
        notes=tuple(dict.fromkeys(notes)),
        leave_out_targets=tuple(possible),
    )


def _read_targets(
    table: pd.DataFrame,
    tasks: Mapping[str, Task | None],
    log: Sequence[str],
    groups: NDArray[np.int64] | None,
    folds: int,
) -> tuple[list[Target], dict[str, str]]:
    """The targets that can be divided, and why others cannot."""
    targets, faults, excluded = [], [], {}
    for name, task in tasks.items():
        try:
            target = read_target(table, name, task, name in log)
        except UserError as error:
            faults.append(str(error))
            continue
        try:
            targets.append(usable(target, groups, folds))
        except UserError as error:
            excluded[name] = str(error)
    if faults:
        raise UserError(" ".join(faults))
    return targets, excluded


def _common_subjects(study: Study, cohort: Cohort) -> tuple[pd.DataFrame, list[str]]:
    in_study, in_table = set(study.subject_ids), set(cohort.subject_ids)
    both = sorted(in_study & in_table)
    if not both:
        raise UserError(
            f"No subject of the cohort {cohort.path} is in the study {study.path}; run `anatograph preprocess` first, "
            "or give the cohort that the study was made from."
        )
    notes = []
    if missing := len(in_table - in_study):
        notes.append(f"{missing} of {len(in_table)} subjects of the cohort are not in the study and are excluded")
    if extra := len(in_study - in_table):
        notes.append(f"{extra} subjects of the study are not in the cohort and are excluded")
    table = cohort.table.set_index("subject_id", drop=False).loc[both].reset_index(drop=True)
    return table, notes


def _strata(target: Target, subjects: int) -> NDArray[np.int64]:
    """(S,) class, or quartile of the values, of every subject; -1 where unknown."""
    labels = np.full(subjects, -1, dtype=np.int64)
    if target.classes:
        labels[target.rows] = target.values.astype(np.int64)
    else:
        edges = np.quantile(target.values, np.linspace(0, 1, _BINS + 1)[1:-1])
        labels[target.rows] = np.searchsorted(edges, target.values, side="right")
    return labels


def _why_undividable(design: Design, target: Target) -> str:
    """Why a target cannot be evaluated on these folds; empty if it can."""
    for folds in design.rounds:
        for number, split in enumerate(folds, start=1):
            train, test = design.split_of(target, split)
            if not len(test) or not len(train):
                return f"'{target.name}' is unknown for every subject of fold {number}; give fewer folds."
            if target.classes and len(np.unique(target.values[train])) < 2:
                return f"'{target.name}' has a single class among the training subjects of fold {number}."
    return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
