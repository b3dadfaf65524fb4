"""The section about probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anatograph.reporting.figures.evaluation import overview
from anatograph.reporting.figures.figure import Figure
from anatograph.reporting.figures.predictions import calibration, first_repeat, scatter
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.sections.answers import Answer, answers
from anatograph.reporting.sections.tables import Table, number, read_json, read_table

_COMMAND = "anatograph evaluate"
_RESULTS = ("target", "metric", "mean", "std", "folds", "n")
_PERMUTATIONS = ("target", "metric", "observed", "chance_mean", "chance_std", "p")
_HEADLINES = ("target", "metric", "value", "low", "high", "n", "chance")
"""Columns that each table needs."""


@dataclass(frozen=True)
class EvaluationSection:
    """Probes."""

    overview: list[Figure]
    """Headlines with intervals, rivals and chance: a figure for each metric."""
    scatter: list[Figure]
    """For each continuous target."""
    calibration: list[Figure]
    """For each target with classes and enough subjects."""
    confusion: list[Table]
    """For each target with classes: rows true, columns predicted."""
    scores: Table
    """A row a target and metric."""
    chance: Table | None
    """With shuffled targets."""
    subjects: int
    """In the smallest evaluation."""
    notes: tuple[str, ...]
    """Of the run."""
    answers: list[Answer]
    """Survival, covariates, sites, audit and sample size, of those that were analysed."""
    predictions: pd.DataFrame | None
    """``predictions.parquet``."""


def evaluation(
    folder: Path, discretion: Discretion, rivals: pd.DataFrame | None = None, others: Sequence[Path] = ()
) -> EvaluationSection:
    """Scores, predictions and notes of `evaluate`.

    ``rivals`` are the results of a benchmark; ``others`` are further folders in which to look for the tables of further
    analyses, such as that of `audit`.

    Raises:
        UserError: a folder that `evaluate` did not write.
    """
    results = read_table(folder / "results.csv", folder, _COMMAND, _RESULTS)
    rows = [
        (str(r.target), str(r.metric), number(r.mean), number(r.std), str(r.folds), str(r.n))
        for r in results.itertuples()
    ]
    scores = Table(("target", "metric", "mean", "standard deviation", "folds", "subjects"), tuple(rows))
    chance, shuffled = None, None
    if (folder / "permutations.csv").is_file():
        shuffled = read_table(folder / "permutations.csv", folder, _COMMAND, _PERMUTATIONS)
        chance = Table(
            ("target", "metric", "observed", "by chance", "p"),
            tuple(
                (str(r.target), str(r.metric), number(r.observed), number(r.chance_mean), number(r.p))
                for r in shuffled.itertuples()
            ),
        )
    heads: list[Figure] = []
    if (folder / "headlines.csv").is_file():
        heads = overview(read_table(folder / "headlines.csv", folder, _COMMAND, _HEADLINES), shuffled, rivals)
    drawn: list[Figure] = []
    calibrated: list[Figure] = []
    confusion: list[Table] = []
    predictions = None
    if (folder / "predictions.parquet").is_file():
        predictions = pd.read_parquet(folder / "predictions.parquet")
        for target, held in predictions.groupby("target", sort=False):
            if "prediction" in held and held["prediction"].notna().any():
                drawn += _some(scatter(str(target), held, discretion))
            elif "truth_class" in held and held["truth_class"].notna().any():
                confusion.append(_confusion(str(target), first_repeat(held)))
                calibrated += _some(calibration(str(target), held))
    notes = (read_json(folder / "evaluate.run.json") or {}).get("notes", [])
    words = tuple(discretion.sentence(str(note)).rstrip(".") for note in notes)
    least = int(results["n"].min()) if len(results) else 0
    further = answers(folder, *others)
    return EvaluationSection(heads, drawn, calibrated, confusion, scores, chance, least, words, further, predictions)


def _some(figure: Figure | None) -> list[Figure]:
    return [] if figure is None else [figure]


def _confusion(target: str, held: pd.DataFrame) -> Table:
    """Counts, and the share of each true class."""
    truth, predicted = held["truth_class"].astype(str), held["predicted_class"].astype(str)
    probabilities = [name.removeprefix("probability_") for name in held.columns if name.startswith("probability_")]
    known = set(truth) | set(predicted)
    classes = [name for name in probabilities if name in known] or sorted(known)
    table = pd.crosstab(truth, predicted).reindex(index=classes, columns=classes, fill_value=0)
    counts = table.to_numpy(dtype=int)
    shares = counts / np.clip(counts.sum(axis=1, keepdims=True), 1, None)
    rows = tuple(
        (f"true {name}", *(f"{n} ({100 * share:.0f} %)" for n, share in zip(counts[r], shares[r], strict=True)))
        for r, name in enumerate(classes)
    )
    shades = {(r, c + 1): round(40 * float(share)) for (r, c), share in np.ndenumerate(shares)}
    diagonal = frozenset((k, k + 1) for k in range(len(classes)))
    caption = f"{target}: counts of held-out subjects, and the share of each true class"
    return Table((target, *(f"predicted {name}" for name in classes)), rows, caption, diagonal, shades)
