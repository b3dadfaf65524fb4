"""Does the embedding predict it? A linear probe for each target, cross-validated over subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.choices import Task
from anatograph.errors import UserError
from anatograph.evaluation.alignment import align, group_numbers
from anatograph.evaluation.cross_validation import (
    check_request,
    cross_validate,
    probe_fold,
    seed_of_repeat,
    usable,
)
from anatograph.evaluation.headline import DRAWS, headline
from anatograph.evaluation.leave_out import LeaveOut, leave_out_scores
from anatograph.evaluation.leave_out import leave_out as split_by_column
from anatograph.evaluation.permutation import level_of_chance
from anatograph.evaluation.power import power_notes
from anatograph.evaluation.saved.probe import Recipe, fit_saved, save_probes
from anatograph.evaluation.scores import BOOTSTRAPS, Predictions, score
from anatograph.evaluation.survival.outcome import is_survival, read_survival
from anatograph.evaluation.survival.tables import survival_tables
from anatograph.evaluation.tables import FURTHER, Tables, prediction_table, score_row, write_tables
from anatograph.evaluation.targets import Target, read_target
from anatograph.evaluation.within_group import within_group_score
from anatograph.execution.account import RunAccount


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
    """target, metric, value, low, high, n, chance, better_than_chance: one figure a target, with a 95 % interval."""
    permutations: pd.DataFrame | None = None
    """target, metric, observed, chance_mean, chance_std, p: the same with shuffled targets."""
    left_out: pd.DataFrame | None = None
    """As ``predictions``, each predicted from the other values of the left-out column; ``fold`` numbers them."""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables, by the name of their CSV file: ``survival``, ``kaplan_meier`` and ``calibration``."""


def evaluate(
    embeddings: str | Path,
    cohort: str | Path,
    targets: Sequence[str] | str,
    folds: int = 5,
    group: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    task: Task | Mapping[str, Task] | None = None,
    log: Sequence[str] = (),
    permutations: int = 0,
    progress: Callable[[str], None] | None = None,
    repeats: int = 1,
    bootstrap: int = 0,
    leave_out: str | None = None,
    include_flagged: bool = False,
    save_probe: str | Path | None = None,
) -> Evaluation:
    """Cross-validated linear (R²), logistic (accuracy, balanced accuracy, AUC) or Cox (C-index) probe for each target.

    Standardisation and regularisation are chosen inside each training fold by an inner cross-validation.  ``group``
    names a column of the cohort (the patient, where there are several scans of one): neither outer nor inner folds
    split its members.  The folds depend on the subjects, their labels and ``seed`` alone, so methods
    can be compared on them.  ``log`` names targets to take the logarithm of.  ``permutations`` is the number
    of repetitions with shuffled targets, which show the level of chance.  ``repeats`` is the number of divisions into
    folds, over all of which mean and deviation are taken; ``bootstrap`` adds a 95 % interval from this many samples
    of the subjects.  ``leave_out`` names a column such as the scanner, each value of which is predicted from the others
    too (metrics ``leave_out_…``); with ``group`` a regression has ``r_within_group``, the correlation within groups.
    Scans that the study's ``review.csv`` excludes are left out, and those at level ``reject`` unless
    ``include_flagged``.  With ``out`` it writes ``headlines.csv``, ``results.csv``, ``predictions.parquet`` and, where
    requested, ``permutations.csv``.  ``save_probe`` is a folder for probes fitted on all subjects, for `predict`.

    Raises:
        UserError: files that do not fit each other, targets that cannot be predicted, too few subjects for the folds.
    """
    names = check_request(targets, folds, repeats, bootstrap, log, task)
    tasks: dict[str, Task | None] = {
        name: task if isinstance(task, str) or task is None else task.get(name) for name in names
    }
    if permutations < 0:
        raise UserError(f"The number of permutations cannot be negative ({permutations}).")
    job = _Job(
        tasks, folds, group, seed, tuple(log), permutations, repeats, bootstrap, leave_out, include_flagged, save_probe
    )
    if out is None:
        return _evaluate(embeddings, cohort, job, progress)
    settings = {
        "embeddings": str(embeddings),
        "cohort": str(cohort),
        "targets": names,
        "tasks": tasks,
        "folds": folds,
        "group": group,
        "seed": seed,
        "log": list(log),
        "permutations": permutations,
        "repeats": repeats,
        "bootstrap": bootstrap,
        "include_flagged": include_flagged,
        "leave_out": leave_out,
        "save_probe": None if save_probe is None else str(save_probe),
    }
    with RunAccount("evaluate", settings, out) as account:
        found = _evaluate(embeddings, cohort, job, progress)
        _write(found, Path(out), account)
    return found


@dataclass(frozen=True)
class _Job:
    """The settings of `evaluate`."""

    tasks: Mapping[str, Task | None]
    folds: int
    group: str | None
    seed: int
    log: tuple[str, ...]
    permutations: int
    repeats: int
    bootstrap: int
    leave_out: str | None
    include_flagged: bool = False
    save_probe: str | Path | None = None

    def rounds(
        self, features: NDArray[np.float64], target: Target, groups: NDArray[np.int64] | None, parts: int
    ) -> list[Predictions]:
        """The rounds of cross-validation, one a repeat."""
        seeds = [seed_of_repeat(self.seed, repeat) for repeat in range(self.repeats)]
        return [cross_validate(features, target, groups, self.folds, seed, parts) for seed in seeds]


def _evaluate(
    embeddings: str | Path, cohort: str | Path, job: _Job, progress: Callable[[str], None] | None
) -> Evaluation:
    data = align(embeddings, cohort, job.include_flagged)
    groups = group_numbers(data.table, job.group) if job.group else None
    left_out = split_by_column(data.table, job.leave_out, groups) if job.leave_out else None
    chosen, faults = [], []
    for name, task in job.tasks.items():
        try:
            chosen.append(usable(_read(data.table, name, task, job), groups, job.folds))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError(" ".join(faults))
    results, predictions, chances, apart = [], [], [], []
    headlines, saved, tables = [], [], Tables()
    notes = list(data.notes)
    for target in chosen:
        x, g = data.features[target.rows], None if groups is None else groups[target.rows]
        rounds = job.rounds(x, target, g, data.parts)
        scores = score(target, rounds, g, job.seed, job.bootstrap or BOOTSTRAPS, job.bootstrap > 0)
        shown = [*scores, *within_group_score(target, rounds, g)]
        head = headline(target, rounds, g, job.seed, job.bootstrap or DRAWS)
        headlines.append({"target": target.name, **head.to_dict()})
        if job.save_probe is not None:
            log = target.name in job.log
            saved.append(fit_saved(x, target, g, rounds, head, Recipe(data.parts, job.seed, log)))
        if left_out is not None:
            try:
                done = _left_out(x, target, g, left_out, job.seed, data.parts)
            except UserError as error:
                notes.append(str(error))
            else:
                bootstraps = job.bootstrap or BOOTSTRAPS
                shown += leave_out_scores(target, done, job.seed, bootstraps, job.bootstrap > 0)
                apart.append(prediction_table(data.table, target, done))
        results += [score_row(target, s, job.bootstrap > 0) for s in shown]
        for number, done in enumerate(rounds):
            table = prediction_table(data.table, target, done)
            if job.repeats > 1:
                table.insert(2, "repeat", number)
            predictions.append(table)
        notes += [*target.notes, *power_notes(target)]
        if target.task == "survival":
            tables.add(survival_tables(target, rounds))
        if job.permutations:

            def again(
                shuffled: Target, x: NDArray[np.float64] = x, g: NDArray[np.int64] | None = g
            ) -> list[Predictions]:
                return job.rounds(x, shuffled, g, data.parts)

            chances += level_of_chance(target, g, scores, job.permutations, job.seed, again)
        if progress:
            progress(target.name)
    if job.save_probe is not None:
        save_probes(job.save_probe, saved, data.about)
    return Evaluation(
        pd.DataFrame(results),
        pd.concat(predictions, ignore_index=True),
        tuple(dict.fromkeys(notes)),
        pd.DataFrame(headlines),
        pd.DataFrame(chances) if chances else None,
        pd.concat(apart, ignore_index=True) if apart else None,
        tables.joined(),
    )


def _read(table: pd.DataFrame, name: str, task: Task | None, job: _Job) -> Target:
    """The target, from one column or from those of an event and its time.

    Raises:
        UserError: columns that cannot be predicted, or options that do not apply to survival.
    """
    if not is_survival(name, table.columns):
        return read_target(table, name, task, name in job.log)
    for given, flag in ((task, "--task"), (name in job.log or None, "--log"), (job.save_probe, "--save-probe")):
        if given is not None:
            raise UserError(f"{flag} does not apply to the survival target {name}; leave it out for this target.")
    return read_survival(table, name)


def _left_out(
    features: NDArray[np.float64],
    target: Target,
    groups: NDArray[np.int64] | None,
    left_out: LeaveOut,
    seed: int,
    parts: int,
) -> Predictions:
    """Every subject predicted by a probe fitted on the other values of the left-out column."""
    splits = left_out.splits_of(target)
    return left_out.collected(target, [probe_fold(features, target, groups, split, seed, parts) for split in splits])


def _write(found: Evaluation, folder: Path, account: RunAccount) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pd.DataFrame | None] = {
        "headlines.csv": found.headlines,
        "results.csv": found.results,
        "predictions.parquet": found.predictions,
        "permutations.csv": found.permutations,
        "leave_out.parquet": found.left_out,
    }
    tables |= {f"{name}.csv": found.tables.get(name) for name in FURTHER}
    for path in write_tables(folder, tables):
        account.output(path)
    for note in found.notes:
        account.note(note)
    account.result(headlines=found.headlines.to_dict("records"), results=found.results.to_dict("records"))
