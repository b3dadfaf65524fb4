"""Scores of all finished rows, their comparison, and the underlying predictions, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.baselines.design import Design
from anatograph.baselines.region_rows import RegionRow
from anatograph.baselines.row_runner import Row
from anatograph.evaluation.comparison import corrected_t_test, holm
from anatograph.evaluation.leave_out import PREFIX, leave_out_scores
from anatograph.evaluation.scores import BOOTSTRAPS, Predictions, Score, score
from anatograph.evaluation.tables import prediction_table, score_row
from anatograph.evaluation.targets import Target
from anatograph.evaluation.within_group import within_group_score

_REGION_BOOTSTRAPS = 200
DISEASED = 0.05
"""Fraction of a patch from which it counts as diseased."""


def row_scores(row: Row, design: Design, bootstrap: int) -> dict[str, list[Score]]:
    """All scores of a row for each target: over the random folds, within groups, and over left-out values."""
    found = {}
    for target in design.targets:
        rounds, groups = row.rounds[target.name], design.groups_of(target)
        scores = score(target, rounds, groups, design.seed, bootstrap or BOOTSTRAPS, bootstrap > 0)
        scores += within_group_score(target, rounds, groups)
        if target.name in row.left_out:
            left_out = row.left_out[target.name]
            scores += leave_out_scores(target, left_out, design.seed, bootstrap or BOOTSTRAPS, bootstrap > 0)
        found[target.name] = scores
    return found


def column_table(rows: Sequence[Row], design: Design) -> pd.DataFrame | None:
    """method, column, probe (``majority``, ``linear``, ``nonlinear``), accuracy, std, folds, n; None without one.

    How well each row reveals the left-out column, such as the scanner, in the folds of the first round.
    """
    if design.leave_out is None:
        return None
    labels, column = design.leave_out.labels, design.leave_out.column
    majority = [float((labels[test] == np.bincount(labels[train]).argmax()).mean()) for train, test in design.rounds[0]]
    entries = [("", "majority", majority)]
    entries += [(row.slug, probe, list(values)) for row in rows for probe, values in row.column.items()]
    return pd.DataFrame([
        {"method": slug, "column": column, "probe": probe, "accuracy": float(np.nanmean(values)),
         "std": float(np.nanstd(values, ddof=1)) if len(values) > 1 else float("nan"), "folds": len(values),
         "n": len(labels)}
        for slug, probe, values in entries
    ])  # fmt: skip


def results_table(scores: dict[str, dict[str, list[Score]]], design: Design, bootstrap: int) -> pd.DataFrame:
    """method, target, metric, mean, std, folds, n, and with a bootstrap pooled, low, high."""
    rows = [
        {"method": slug, **score_row(target, one, bootstrap > 0)}
        for slug, by_target in scores.items()
        for target in design.targets
        for one in by_target[target.name]
    ]
    return pd.DataFrame(rows)


def fold_table(scores: dict[str, dict[str, list[Score]]], design: Design) -> pd.DataFrame:
    """method, target, metric, repeat, fold, value: the values behind the means and comparisons."""
    folds = [(repeat, k) for repeat, parts in enumerate(design.rounds) for k in range(len(parts))]
    rows = [
        {"method": slug, "target": name, "metric": one.metric, "repeat": repeat, "fold": fold, "value": value}
        for slug, by_target in scores.items()
        for name, several in by_target.items()
        for one in several
        for (repeat, fold), value in zip(_folds_of(one, folds, design), one.values, strict=True)
    ]
    return pd.DataFrame(rows)


def _folds_of(one: Score, folds: Sequence[tuple[int, int]], design: Design) -> Sequence[tuple[int, int]]:
    """Repeat and fold of each value of a score; for left-out values repeat 0 and their number."""
    if one.metric.startswith(PREFIX):
        return [(0, k) for k in range(len(one.values))]
    return folds if one.values else []


def comparison_table(scores: dict[str, dict[str, list[Score]]], design: Design) -> pd.DataFrame:
    """Every row against every other on the same folds, see `anatograph.evaluation.comparison`.

    ``p_holm`` is adjusted for the comparisons of one method with all others, within a target and a metric.
    """
    share = 1.0 / (len(design.rounds[0]) - 1)
    rows: list[dict[str, Any]] = []
    for target in design.targets:
        by_metric = {
            slug: {one.metric: one.values for one in by_target[target.name] if one.values}
            for slug, by_target in scores.items()
        }
        for metric in next(iter(by_metric.values()), {}):
            if metric == "accuracy_majority" or metric.startswith(PREFIX):  # left-out values are not random folds
                continue
            for method in by_metric:
                others = [slug for slug in by_metric if slug != method]
                tests = [corrected_t_test(by_metric[method][metric], by_metric[o][metric], share) for o in others]
                adjusted = holm([test.p for test in tests])
                for other, test, p in zip(others, tests, adjusted, strict=True):
                    rows.append({
                        "method": method, "against": other, "target": target.name, "metric": metric,
                        "difference": test.difference, "std": test.std, "t": test.t, "degrees": test.degrees,
                        "p": test.p, "p_holm": float(p), "folds": test.folds,
                    })  # fmt: skip
    return pd.DataFrame(rows)


def predictions_table(rows: Sequence[Row], design: Design) -> pd.DataFrame:
    """method, target, subject_id, repeat, fold, true and predicted value."""
    tables = []
    for row in rows:
        for target in design.targets:
            for repeat, done in enumerate(row.rounds[target.name]):
                table = prediction_table(design.table, target, done)
                table.insert(0, "method", row.slug)
                table.insert(3, "repeat", repeat)
                tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _region_auc(target: Target, done: Predictions) -> list[Score]:
    """How well predictions separate patches with more than `DISEASED` of disease from others: by fold, and pooled."""
    diseased = target.values > DISEASED
    by_fold = [diseased[done.fold == k] for k in np.unique(done.fold)]
    if not any(0 < part.sum() < len(part) for part in by_fold):
        return []
    values = tuple(
        binary_auc(part, done.predicted[done.fold == k]) for k, part in zip(np.unique(done.fold), by_fold, strict=True)
    )
    defined = [value for value in values if np.isfinite(value)]
    std = float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan")
    pooled = binary_auc(diseased, done.predicted)
    return [
        Score("auc", float(np.mean(defined)), std, len(defined), values, pooled),
        Score("auc_pooled", pooled, float("nan"), 1, (), pooled),
    ]


def binary_auc(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Area under the ROC curve; NaN where one of both classes is missing."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, scores)) if 0 < truth.sum() < len(truth) else float("nan")


def region_table(rows: Sequence[RegionRow], design: Design, landmarks: int) -> pd.DataFrame:
    """method, target (the disease), metric, mean, std, folds, n (patches), subjects."""
    table = []
    for row in rows:
        for target, done in zip(row.targets, row.predictions, strict=True):
            subject = target.rows // landmarks
            units = subject if design.groups is None else design.groups[subject]
            for one in [*score(target, done, units, design.seed, _REGION_BOOTSTRAPS), *_region_auc(target, done)]:
                table.append({
                    "method": row.slug, **score_row(target, one, False), "subjects": len(np.unique(subject)),
                })  # fmt: skip
    return pd.DataFrame(table)
