"""The analysis of each target: cross-validation, scores, and what options add to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.choices import Question
from anatograph.errors import UserError
from anatograph.evaluation.adjustment.added import Plan, added_value
from anatograph.evaluation.adjustment.covariates import Covariates, read_covariates
from anatograph.evaluation.alignment import Aligned, align, group_numbers
from anatograph.evaluation.cross_validation import cross_validate, probe_fold, seed_of_repeat, splits_of, usable
from anatograph.evaluation.harmonisation.site_effects import (
    Harmonisation,
    comparison_row,
    confounding_note,
    read_harmonisation,
    site_rows,
    unseen_note,
)
from anatograph.evaluation.headline import DRAWS, headline
from anatograph.evaluation.leave_out import LeaveOut, leave_out, leave_out_scores
from anatograph.evaluation.permutation import level_of_chance
from anatograph.evaluation.power import power_notes
from anatograph.evaluation.sample_size.learning_curve import learning_curve
from anatograph.evaluation.saved.probe import Recipe, SavedProbe, fit_saved, save_probes
from anatograph.evaluation.scores import BOOTSTRAPS, Predictions, score
from anatograph.evaluation.survival.outcome import is_survival, read_survival
from anatograph.evaluation.survival.tables import survival_tables
from anatograph.evaluation.tables import Tables, prediction_table, score_row
from anatograph.evaluation.targets import Target, read_target
from anatograph.evaluation.visits.slope import read_slope
from anatograph.evaluation.within_group import within_group_score

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found."""

    results: pd.DataFrame
    """target, metric, mean, std, folds, n."""
    predictions: pd.DataFrame
    """One row for each target and subject, predicted by a probe fitted without it."""
    notes: tuple[str, ...]
    """What was decided and left out, in plain sentences."""
    headlines: pd.DataFrame
    """target, metric, value, low, high, n, chance, better_than_chance: one figure per target, with a 95 % interval."""
    permutations: pd.DataFrame | None = None
    """target, metric, observed, chance_mean, chance_std, p: the same with shuffled targets."""
    left_out: pd.DataFrame | None = None
    """As ``predictions``, each predicted from the other values of the left-out column; ``fold`` numbers them."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables, by the name of their CSV file (`anatograph.evaluation.tables.FURTHER`)."""


@dataclass(frozen=True)
class Job:
    """The settings of `evaluate`."""

    tasks: Mapping[str, Question | None]
    folds: int
    group: str | None
    seed: int
    log: tuple[str, ...]
    permutations: int
    repeats: int
    bootstrap: int
    leave_out: str | None
    include_flagged: bool
    save_probe: str | Path | None
    adjust: tuple[str, ...]
    harmonise: str | None
    keep: tuple[str, ...]
    learning_curve: bool
    visit_time: str | None
    join: str | Path | None
    exclude: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """For the account of the run."""
        saved = None if self.save_probe is None else str(self.save_probe)
        joined = None if self.join is None else str(self.join)
        plain = {"targets": list(self.tasks), "tasks": dict(self.tasks), "save_probe": saved, "join": joined}
        return {**vars(self), **plain}


def analyse(embeddings: str | Path, cohort: str | Path, job: Job, progress: Callable[[str], None] | None) -> Evaluation:
    """Run a job.

    Raises:
        UserError: as `anatograph.evaluate`.
    """
    data = align(embeddings, cohort, job.include_flagged, job.join, job.exclude)
    groups = group_numbers(data.table, job.group) if job.group else None
    harmonisation = read_harmonisation(data.table, job.harmonise, job.keep) if job.harmonise else None
    work = _Work(
        data,
        groups,
        job,
        leave_out(data.table, job.leave_out, groups) if job.leave_out else None,
        read_covariates(data.table, job.adjust) if job.adjust else None,
        harmonisation,
    )
    chosen, faults = [], []
    for name, task in job.tasks.items():
        try:
            chosen.append(usable(_read(data, name, task, job), groups, job.folds))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError(" ".join(faults))
    found = _Found([*data.notes, *(work.covariates.notes if work.covariates else ())])
    for target in chosen:
        work.analyse(target, found)
        if progress:
            progress(target.name)
    if harmonisation is not None:
        found.notes += harmonisation.notes
        try:
            rows = site_rows(data.features, data.table, groups, harmonisation, job.seed, data.parts)
        except UserError as error:
            found.notes.append(f"how well the sites themselves are predicted is unknown: {error}")
        else:
            found.tables.add({"harmonisation": rows})
    if job.save_probe is not None:
        save_probes(job.save_probe, found.saved, data.about)
    return found.joined()


class _Found:
    """Collects the results, target by target."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.results: list[dict[str, str | float | int]] = []
        self.headlines: list[dict[str, Any]] = []
        self.chances: list[dict[str, str | float | int]] = []
        self.predictions: list[pd.DataFrame] = []
        self.left_out: list[pd.DataFrame] = []
        self.saved: list[SavedProbe] = []
        self.tables = Tables()

    def joined(self) -> Evaluation:
        return Evaluation(
            pd.DataFrame(self.results),
            pd.concat(self.predictions, ignore_index=True),
            tuple(dict.fromkeys(self.notes)),
            pd.DataFrame(self.headlines),
            pd.DataFrame(self.chances) if self.chances else None,
            pd.concat(self.left_out, ignore_index=True) if self.left_out else None,
            self.tables.joined(),
        )


@dataclass(frozen=True, eq=False)
class _Work:
    """What all targets share."""

    data: Aligned
    groups: NDArray[np.int64] | None
    job: Job
    left_out: LeaveOut | None
    covariates: Covariates | None
    harmonisation: Harmonisation | None

    def analyse(self, target: Target, found: _Found) -> None:
        """Everything about one target."""
        job, table = self.job, self.data.table
        x, g = self.data.features[target.rows], None if self.groups is None else self.groups[target.rows]
        rounds = self.rounds(x, target, g)
        scores = score(target, rounds, g, job.seed, job.bootstrap or BOOTSTRAPS, job.bootstrap > 0)
        shown = [*scores, *within_group_score(target, rounds, g)]
        head = headline(target, rounds, g, job.seed, job.bootstrap or DRAWS)
        found.headlines.append({"target": target.name, **head.to_dict()})
        found.notes += [*target.notes, *power_notes(target)]
        if job.save_probe is not None:
            recipe = Recipe(self.data.parts, job.seed, target.name in job.log)
            found.saved.append(fit_saved(x, target, g, rounds, head, recipe))
        if self.left_out is not None:
            try:
                done = self._left_out(x, target, g, self.left_out)
            except UserError as error:
                found.notes.append(str(error))
            else:
                shown += leave_out_scores(target, done, job.seed, job.bootstrap or BOOTSTRAPS, job.bootstrap > 0)
                found.left_out.append(prediction_table(table, target, done))
                if self.harmonisation is not None:
                    splits, where = self.left_out.splits_of(target), f" with --leave-out {self.left_out.column}"
                    found.notes += unseen_note(target, splits, self.harmonisation, where)
        found.results += [score_row(target, s, job.bootstrap > 0) for s in shown]
        for number, done in enumerate(rounds):
            predictions = prediction_table(table, target, done)
            if job.repeats > 1:
                predictions.insert(2, "repeat", number)
            found.predictions.append(predictions)
        if target.task == "survival":
            found.tables.add(survival_tables(target, rounds))
        if job.permutations:
            again = lambda shuffled: self.rounds(x, shuffled, g)  # noqa: E731
            found.chances += level_of_chance(target, g, scores, job.permutations, job.seed, again)
        if self.harmonisation is not None:
            before = headline(target, self.rounds(x, target, g, raw=True), g, job.seed, job.bootstrap or DRAWS)
            found.tables.add({"harmonisation": comparison_row(target, before, head, self.harmonisation)})
            found.notes += confounding_note(target, self.harmonisation)
            found.notes += unseen_note(target, splits_of(target, g, job.folds, job.seed), self.harmonisation)
        if self.covariates is not None:
            plan = Plan(
                job.folds,
                job.seed,
                job.repeats,
                job.permutations,
                job.bootstrap or DRAWS,
                self.data.parts,
                self.harmonisation,
            )
            found.tables.add({"adjusted": added_value(x, target, self.covariates, g, plan)})
        if job.learning_curve:
            curve = learning_curve(x, target, g, job.folds, job.seed, self.data.parts, self.harmonisation)
            found.tables.add({"learning_curve": curve})

    def rounds(
        self, features: Array, target: Target, groups: NDArray[np.int64] | None, raw: bool = False
    ) -> list[Predictions]:
        """The rounds of cross-validation, one a repeat; ``raw`` without harmonisation."""
        job, prepare = self.job, None if raw else self.harmonisation
        seeds = [seed_of_repeat(job.seed, repeat) for repeat in range(job.repeats)]
        return [cross_validate(features, target, groups, job.folds, seed, self.data.parts, prepare) for seed in seeds]

    def _left_out(
        self, features: Array, target: Target, groups: NDArray[np.int64] | None, left_out: LeaveOut
    ) -> Predictions:
        """Every subject predicted by a probe fitted on the other values of the left-out column."""
        splits, job = left_out.splits_of(target), self.job
        return left_out.collected(
            target,
            [
                probe_fold(features, target, groups, split, job.seed, self.data.parts, self.harmonisation)
                for split in splits
            ],
        )


def _read(data: Aligned, name: str, task: Question | None, job: Job) -> Target:
    """The target: a column, its slope over visits, or the columns of an event and its time.

    Raises:
        UserError: columns that cannot be predicted, or options that do not apply to survival.
    """
    table = data.table
    if is_survival(name, table.columns):
        for given, flag in ((task, "--task"), (name in job.log or None, "--log")):
            if given is not None:
                raise UserError(f"{flag} does not apply to the survival target {name}; leave it out for this target.")
        return read_survival(table, name)
    if task == "slope":
        visits = data.cohort if name in data.cohort.columns else table  # columns of --join are in the latter
        return read_slope(table, visits, name, job.group, job.visit_time, name in job.log)
    return read_target(table, name, task, name in job.log)
