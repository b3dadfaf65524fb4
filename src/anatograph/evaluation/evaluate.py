"""Does the embedding predict it? A probe for each target, cross-validated over subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from anatograph.choices import Question
from anatograph.errors import UserError
from anatograph.evaluation.analysis import Evaluation, Job, analyse
from anatograph.evaluation.cross_validation import check_request
from anatograph.evaluation.sample_size.picture import draw_learning_curves
from anatograph.evaluation.tables import FURTHER, write_tables
from anatograph.execution.account import RunAccount


def evaluate(
    embeddings: str | Path,
    cohort: str | Path,
    targets: Sequence[str] | str,
    folds: int = 5,
    group: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    task: Question | Mapping[str, Question] | None = None,
    log: Sequence[str] = (),
    permutations: int = 0,
    progress: Callable[[str], None] | None = None,
    repeats: int = 1,
    bootstrap: int = 0,
    leave_out: str | None = None,
    include_flagged: bool = False,
    save_probe: str | Path | None = None,
    adjust: Sequence[str] = (),
    harmonise: str | None = None,
    keep: Sequence[str] = (),
    learning_curve: bool = False,
    visit_time: str | None = None,
    join: str | Path | None = None,
    exclude: Sequence[str] = (),
) -> Evaluation:
    """Cross-validated linear (R²), logistic (accuracy, balanced accuracy, AUC) or Cox (C-index) probe for each target.

    Standardisation and regularisation are chosen inside each training fold by an inner cross-validation.  ``group``
    names a column of the cohort (the patient, where there are several scans of one): neither outer nor inner folds
    split its members.  The folds depend on the subjects, their labels and ``seed`` alone, so methods can be compared on
    them.  ``log`` names targets to take the logarithm of.  ``permutations`` is the number of repetitions with shuffled
    targets, which show the level of chance.  ``repeats`` is the number of divisions into folds, over all of which mean
    and deviation are taken; ``bootstrap`` adds a 95 % interval from this many samples of the subjects.  ``leave_out``
    names a column such as the scanner, each value of which is predicted from the others too (metrics ``leave_out_…``);
    with ``group`` a regression has ``r_within_group``, the correlation within groups.  Scans in ``exclude`` and those
    that the study's ``review.csv`` excludes are left out, and those at level ``reject`` unless ``include_flagged``.
    With ``out`` it writes ``headlines.csv``, ``results.csv``, ``predictions.parquet`` and, where requested,
    ``permutations.csv``.  ``save_probe`` is a folder for probes fitted on all subjects, for `predict`.

    ``adjust`` names covariates: ``adjusted.csv`` has their own figure, that of the embedding, that of both, and what
    the embedding adds (`added_value`).  ``harmonise`` names a column such as the site, whose effects on the features
    are removed inside each training fold by ComBat (`fit_combat`), those of the columns ``keep`` being left in; all
    figures are then with harmonisation, and ``harmonisation.csv`` compares.  ``learning_curve`` fits on fewer subjects
    too.  ``join`` is a further table by ``subject_id``, such as that of `densitometry`, whose columns can be named like
    those of the cohort.  With the task "slope" the rate of a column over ``visit_time`` is predicted from each
    patient's first scan.

    Raises:
        UserError: files that do not fit each other, targets that cannot be predicted, too few subjects for the folds.
    """
    names = check_request(targets, folds, repeats, bootstrap, log, task)
    if permutations < 0:
        raise UserError(f"The number of permutations cannot be negative ({permutations}).")
    if keep and harmonise is None:
        raise UserError("--keep belongs to --harmonise; name the column to harmonise, or leave --keep out.")
    if save_probe is not None and harmonise is not None:
        raise UserError(
            "--save-probe cannot be combined with --harmonise: a saved probe cannot remove the effect of a site "
            "that it has not seen. Save the probe in a run without --harmonise."
        )
    job = Job(
        {name: task if isinstance(task, str) or task is None else task.get(name) for name in names},
        folds,
        group,
        seed,
        tuple(log),
        permutations,
        repeats,
        bootstrap,
        leave_out,
        include_flagged,
        save_probe,
        tuple(adjust),
        harmonise,
        tuple(keep),
        learning_curve,
        visit_time,
        join,
        tuple(exclude),
    )
    if out is None:
        return analyse(embeddings, cohort, job, progress)
    settings = {"embeddings": str(embeddings), "cohort": str(cohort), **job.settings()}
    with RunAccount("evaluate", settings, out) as account:
        found = analyse(embeddings, cohort, job, progress)
        _write(found, Path(out), account)
    return found


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
    picture = folder / "learning_curve.png"
    if "learning_curve" in found.tables:
        account.output(draw_learning_curves(found.tables["learning_curve"], picture))
    else:
        picture.unlink(missing_ok=True)
    for note in found.notes:
        account.note(note)
    account.result(headlines=found.headlines.to_dict("records"), results=found.results.to_dict("records"))
