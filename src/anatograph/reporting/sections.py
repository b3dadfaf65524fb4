"""What training, evaluation and benchmark left on disk, as tables and curves for the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anatograph.errors import UserError
from anatograph.evaluation.metrics import LOWER_IS_BETTER
from anatograph.reporting.redaction import Discretion

MOST_POINTS = 800
"""Points of a curve in the page; longer ones are averaged."""
_CURVES = (
    ("loss", "contrast loss"),
    ("accuracy", "own key is the nearest"),
    ("effective_rank", "effective rank of the features"),
)
Json = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Cells as text; ``best`` are (row, column) to set in bold."""

    header: tuple[str, ...]
    """Titles of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Cells."""
    caption: str = ""
    """What the table says."""
    best: frozenset[tuple[int, int]] = field(default=frozenset())
    """Cells that win."""


@dataclass(frozen=True)
class TrainingSection:
    """Pretraining."""

    curves: list[Json]
    """Plots: title, and series of name, x, y."""
    summary: str
    """One line in words."""
    collapsed: bool
    """Whether the run says so."""


@dataclass(frozen=True)
class EvaluationSection:
    """Probes."""

    scores: Table
    """A row a target and metric."""
    chance: Table | None
    """With shuffled targets."""
    scatter: list[Json]
    """For each continuous target: title, subjects, truth, prediction."""
    confusion: list[Table]
    """For each target with classes: rows true, columns predicted."""
    subjects: int
    """In the smallest evaluation."""
    notes: tuple[str, ...]
    """Of the run."""


def training(run: Path) -> TrainingSection:
    """Curves of ``metrics.csv``, and what the account says.

    Raises:
        UserError: a folder that is not a run.
    """
    metrics = _csv(run / "metrics.csv", run, "anatograph pretrain", ("step", "level"))
    plots = []
    for name, title in _CURVES:
        if name not in metrics.columns:
            continue
        series = [
            {"name": f"{level} level", **_thinned(rows["step"], rows[name])}
            for level, rows in metrics.groupby("level", sort=True)
            if rows[name].notna().any()
        ]
        if series:
            plots.append({"title": title, "series": series})
    account = read_json(run / "pretrain.run.json") or {}
    done = account.get("results", {})
    facts = [f"{done[key]} {key}" for key in ("updates", "subjects") if isinstance(done.get(key), int)]
    if isinstance(account.get("seconds"), int | float):
        facts.append(f"{account['seconds'] / 60:.1f} minutes")
    return TrainingSection(plots, ", ".join(facts), bool(done.get("collapsed")))


def evaluation(folder: Path, discretion: Discretion) -> EvaluationSection:
    """Scores, predictions and notes of `evaluate`.

    Raises:
        UserError: a folder that `evaluate` did not write.
    """
    needed = ("target", "metric", "mean", "std", "folds", "n")
    results = _csv(folder / "results.csv", folder, "anatograph evaluate", needed)
    rows = [
        (str(r.target), str(r.metric), number(r.mean), number(r.std), str(r.folds), str(r.n))
        for r in results.itertuples()
    ]
    scores = Table(("target", "metric", "mean", "standard deviation", "folds", "subjects"), tuple(rows))
    chance = None
    if (folder / "permutations.csv").is_file():
        shuffled = _csv(folder / "permutations.csv", folder, "anatograph evaluate", ("target", "metric", "p"))
        chance = Table(
            ("target", "metric", "observed", "by chance", "p"),
            tuple(
                (str(r.target), str(r.metric), number(r.observed), number(r.chance_mean), number(r.p))
                for r in shuffled.itertuples()
            ),
        )
    scatter: list[Json] = []
    confusion: list[Table] = []
    if (folder / "predictions.parquet").is_file():
        predictions = pd.read_parquet(folder / "predictions.parquet")
        for target, held in predictions.groupby("target", sort=False):
            if "prediction" in held and held["prediction"].notna().any():
                scatter.append(_scatter(str(target), held, discretion))
            elif "truth_class" in held and held["truth_class"].notna().any():
                confusion.append(_confusion(str(target), held))
    notes = (read_json(folder / "evaluate.run.json") or {}).get("notes", [])
    words = tuple(discretion.sentence(str(note)) for note in notes)
    return EvaluationSection(scores, chance, scatter, confusion, int(results["n"].min()) if len(results) else 0, words)


def benchmark(folder: Path) -> list[Table]:
    """A table for each target of `benchmark`: methods down, metrics across, the best in bold.

    Raises:
        UserError: a folder that `benchmark` did not write.
    """
    results = _csv(folder / "results.csv", folder, "anatograph benchmark", ("method", "target", "metric", "mean"))
    tables = []
    for target, rows in results.groupby("target", sort=False):
        methods = list(dict.fromkeys(rows["method"].astype(str)))
        metrics = list(dict.fromkeys(rows["metric"].astype(str)))
        means = pd.DataFrame(np.nan, index=methods, columns=metrics)
        cells = {}
        for row in rows.to_dict("records"):
            method, metric = str(row["method"]), str(row["metric"])
            means.loc[method, metric] = float(row["mean"])
            spread = row.get("std")
            cells[method, metric] = number(row["mean"]) + (
                f" ± {float(spread):.3f}" if spread is not None and spread == spread else ""
            )
        best = set()
        for column, metric in enumerate(metrics, start=1):
            values = means[metric].dropna()
            if len(values) > 1:
                winner = values.min() if metric in LOWER_IS_BETTER else values.max()
                best |= {(methods.index(str(m)), column) for m in values.index[values == winner]}
        body = tuple((m, *(cells.get((m, metric), "–") for metric in metrics)) for m in methods)
        tables.append(Table(("method", *metrics), body, str(target), frozenset(best)))
    return tables


def read_json(path: Path) -> Json | None:
    """An object from a JSON file, None where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def number(value: Any) -> str:
    """Three decimals; a dash for nothing."""
    known = float(value)
    return f"{known:.3f}" if np.isfinite(known) else "–"


def _csv(path: Path, folder: Path, command: str, needed: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{folder} holds no {path.name}, so `{command}` did not write it; name its output folder.")
    try:
        table = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as a table ({error}); run `{command}` again.") from error
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; run `{command}` again.")
    return table


def _thinned(steps: pd.Series, values: pd.Series) -> Json:
    known = values.notna()
    x, y = steps[known].to_numpy(dtype=float), values[known].to_numpy(dtype=float)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    block = -(-len(x) // MOST_POINTS)
    if block > 1:
        starts = np.arange(0, len(x), block)
        counts = np.diff(np.r_[starts, len(x)])
        x, y = np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts
    return {"x": [round(float(v), 2) for v in x], "y": [float(f"{v:.5g}") for v in y], "averaged": int(block)}


def _scatter(target: str, held: pd.DataFrame, discretion: Discretion) -> Json:
    known = held[held["prediction"].notna() & held["truth"].notna()]
    return {
        "title": target,
        "subjects": [discretion.subject(str(name)) for name in known["subject_id"]],
        "truth": [float(f"{v:.5g}") for v in known["truth"]],
        "prediction": [float(f"{v:.5g}") for v in known["prediction"]],
    }


def _confusion(target: str, held: pd.DataFrame) -> Table:
    truth, predicted = held["truth_class"].astype(str), held["predicted_class"].astype(str)
    probabilities = [name.removeprefix("probability_") for name in held.columns if name.startswith("probability_")]
    known = set(truth) | set(predicted)
    classes = [name for name in probabilities if name in known] or sorted(known)
    counts = pd.crosstab(truth, predicted).reindex(index=classes, columns=classes, fill_value=0)
    rows = tuple((f"true {name}", *(str(counts.at[name, other]) for other in classes)) for name in classes)
    diagonal = frozenset((k, k + 1) for k in range(len(classes)))
    return Table((target, *(f"predicted {name}" for name in classes)), rows, target, diagonal)
