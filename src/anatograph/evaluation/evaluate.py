"""Does the embedding predict it? A linear probe for each target, cross-validated over subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.choices import Task
from anatograph.embedding.review import without_left_out
from anatograph.embedding.table import read_embeddings
from anatograph.errors import UserError
from anatograph.evaluation.cross_validation import (
    check_request,
    cross_validate,
    probe_fold,
    seed_of_repeat,
    usable,
)
from anatograph.evaluation.leave_out import LeaveOut, leave_out_scores
from anatograph.evaluation.leave_out import leave_out as split_by_column
from anatograph.evaluation.metrics import LOWER_IS_BETTER
from anatograph.evaluation.scores import BOOTSTRAPS, Predictions, Score, score
from anatograph.evaluation.tables import prediction_table, score_row
from anatograph.evaluation.targets import Target, read_target
from anatograph.evaluation.within_group import within_group_score
from anatograph.execution.account import RunAccount
from anatograph.learning.model.pooling import PoolingSettings
from anatograph.study.cohort import read_cohort


@dataclass(frozen=True, eq=False)
class Aligned:
    """The subjects both in the embeddings and in the cohort, by subject_id in ascending order."""

    table: pd.DataFrame
    """Their rows of the cohort table."""
    features: NDArray[np.float64]
    """(n, F) their features."""
    notes: tuple[str, ...]
    """Which subjects were left out."""
    parts: int = 1
    """Parts of the features, the first of which says nothing of place (`anatograph.learning.model.pooling`)."""
    pooling: PoolingSettings = field(default_factory=PoolingSettings)
    """How the features were pooled from regions."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found."""

    results: pd.DataFrame
    """target, metric, mean, std, folds, n."""
    predictions: pd.DataFrame
    """One row for each target and subject, predicted by a probe fitted without it."""
    notes: tuple[str, ...]
    """What was decided and left out, in plain sentences."""
    permutations: pd.DataFrame | None = None
    """target, metric, observed, chance_mean, chance_std, p: the same with shuffled targets."""
    left_out: pd.DataFrame | None = None
    """As ``predictions``, each predicted from the other values of the left-out column; ``fold`` numbers them."""


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
) -> Evaluation:
    """Cross-validated linear (R²) or logistic (accuracy, balanced accuracy, AUC) probe for each target.

    Standardisation and regularisation are chosen inside each training fold by an inner cross-validation.  ``group``
    names a column of the cohort (the patient, where there are several scans of one): neither outer nor inner folds
    split its members.  The folds depend on the subjects, their labels and ``seed`` alone, so methods
    can be compared on them.  ``log`` names targets to take the logarithm of.  ``permutations`` is the number
    of repetitions with shuffled targets, which show the level of chance.  ``repeats`` is the number of divisions into
    folds, over all of which mean and deviation are taken; ``bootstrap`` adds a 95 % interval from this many samples
    of the subjects.  ``leave_out`` names a column such as the scanner, each value of which is predicted from the others
    too (metrics ``leave_out_…``); with ``group`` a regression has ``r_within_group``, the correlation within groups.
    Scans that the study's ``review.csv`` excludes are left out, and those at level ``reject`` unless
    ``include_flagged``.  With ``out`` it writes ``results.csv``, ``predictions.parquet`` and, where requested,
    ``permutations.csv``.

    Raises:
        UserError: files that do not fit each other, targets that cannot be predicted, too few subjects for the folds.
    """
    names = check_request(targets, folds, repeats, bootstrap, log, task)
    tasks: dict[str, Task | None] = {
        name: task if isinstance(task, str) or task is None else task.get(name) for name in names
    }
    if permutations < 0:
        raise UserError(f"The number of permutations cannot be negative ({permutations}).")
    job = _Job(tasks, folds, group, seed, tuple(log), permutations, repeats, bootstrap, leave_out, include_flagged)
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
    }
    with RunAccount("evaluate", settings, out) as account:
        found = _evaluate(embeddings, cohort, job, progress)
        _write(found, Path(out), account)
    return found


def align(embeddings: str | Path, cohort: str | Path, include_flagged: bool = False) -> Aligned:
    """Match embeddings with the cohort table by ``subject_id``.

    Scans that the study's ``review.csv`` excludes by now are left out, and those at level ``reject`` unless
    ``include_flagged``.

    Raises:
        UserError: a file that cannot be read, or no subject in both.
    """
    known, left_out = without_left_out(read_embeddings(embeddings), include_flagged)
    table = read_cohort(cohort).table
    in_table = set(table["subject_id"])
    both = sorted(set(known.subject_ids) & in_table)
    if not both:
        example = f"{known.subject_ids[0]} there, {table['subject_id'].iloc[0]} here"
        raise UserError(
            f"No subject of {known.path} is in the cohort {cohort} ({example}); give the cohort they came from."
        )
    notes = [*left_out]
    missing = sorted(in_table - set(known.subject_ids))
    strange = sorted(set(known.subject_ids) - in_table)
    if missing:
        notes.append(f"{_count(missing)} of the cohort without an embedding, left out: {_some(missing)}")
    if strange:
        notes.append(f"{_count(strange)} with an embedding but not in the cohort, left out: {_some(strange)}")
    rows = table.set_index("subject_id", drop=False).loc[both].reset_index(drop=True)
    return Aligned(rows, known.only(both), tuple(notes), known.parts, known.pooling)


def group_numbers(table: pd.DataFrame, column: str) -> NDArray[np.int64]:
    """(n,) a number for each different value of the grouping column.

    Raises:
        UserError: no such column, or a subject without a value in it.
    """
    if column not in table.columns:
        raise UserError(
            f"The cohort has no column '{column}' to group by; it has: {', '.join(map(str, table.columns))}."
        )
    empty = table.loc[table[column].isna(), "subject_id"].tolist()
    if empty:
        raise UserError(
            f"'{column}' is empty for {_some(empty)}; fill it in, since subjects without a value cannot be grouped."
        )
    return np.unique(np.asarray(table[column].astype("str"), dtype=str), return_inverse=True)[1].astype(np.int64)


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
            chosen.append(usable(read_target(data.table, name, task, name in job.log), groups, job.folds))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError(" ".join(faults))
    results, predictions, chances, apart = [], [], [], []
    notes = list(data.notes)
    for target in chosen:
        x, g = data.features[target.rows], None if groups is None else groups[target.rows]
        rounds = job.rounds(x, target, g, data.parts)
        scores = score(target, rounds, g, job.seed, job.bootstrap or BOOTSTRAPS, job.bootstrap > 0)
        shown = [*scores, *within_group_score(target, rounds, g)]
        if left_out is not None:
            try:
                done = _left_out(x, target, g, left_out, job.seed)
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
        notes += target.notes
        if job.permutations:
            chances += _chance(x, target, g, job, scores, data.parts)
        if progress:
            progress(target.name)
    return Evaluation(
        pd.DataFrame(results),
        pd.concat(predictions, ignore_index=True),
        tuple(dict.fromkeys(notes)),
        pd.DataFrame(chances) if chances else None,
        pd.concat(apart, ignore_index=True) if apart else None,
    )


def _left_out(
    features: NDArray[np.float64], target: Target, groups: NDArray[np.int64] | None, left_out: LeaveOut, seed: int
) -> Predictions:
    """Every subject predicted by a probe fitted on the other values of the left-out column."""
    splits = left_out.splits_of(target)
    return left_out.collected(target, [probe_fold(features, target, groups, split, seed) for split in splits])


def _chance(
    features: NDArray[np.float64],
    target: Target,
    groups: NDArray[np.int64] | None,
    job: _Job,
    observed: list[Score],
    parts: int,
) -> list[dict[str, str | float | int]]:
    """The same with shuffled labels; labels that are one per group are shuffled between groups."""
    random = np.random.default_rng(job.seed)
    drawn: dict[str, list[float]] = {s.metric: [] for s in observed}
    for _ in range(job.permutations):
        shuffled = target.shuffled(random, groups)
        for s in score(shuffled, job.rounds(features, shuffled, groups, parts), groups, job.seed, bootstraps=0):
            drawn[s.metric].append(s.mean)
    rows: list[dict[str, str | float | int]] = []
    for s in observed:
        values = np.array([v for v in drawn[s.metric] if np.isfinite(v)])
        as_good = (values <= s.mean if s.metric in LOWER_IS_BETTER else values >= s.mean).sum()
        rows.append(
            {
                "target": target.name,
                "metric": s.metric,
                "observed": s.mean,
                "chance_mean": float(values.mean()) if len(values) else float("nan"),
                "chance_std": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                "p": float((1 + as_good) / (1 + len(values))),
                "permutations": len(values),
            }
        )
    return rows


def _write(found: Evaluation, folder: Path, account: RunAccount) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    found.results.to_csv(folder / "results.csv", index=False)
    found.predictions.to_parquet(folder / "predictions.parquet", index=False)
    written = ["results.csv", "predictions.parquet"]
    if found.permutations is not None:
        found.permutations.to_csv(folder / "permutations.csv", index=False)
        written.append("permutations.csv")
    else:
        (folder / "permutations.csv").unlink(missing_ok=True)  # of an earlier run
    if found.left_out is not None:
        found.left_out.to_parquet(folder / "leave_out.parquet", index=False)
        written.append("leave_out.parquet")
    else:
        (folder / "leave_out.parquet").unlink(missing_ok=True)
    for name in written:
        account.output(folder / name)
    for note in found.notes:
        account.note(note)
    account.result(results=found.results.to_dict("records"))


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} {'subject' if len(names) == 1 else 'subjects'}"


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
