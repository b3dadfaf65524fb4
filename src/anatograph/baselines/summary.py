"""Scores of all finished rows, their comparison, and the underlying predictions, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from anatograph.baselines.design import Design
from anatograph.baselines.region_rows import RegionRow
from anatograph.baselines.row_runner import Row
from anatograph.evaluation.comparison import corrected_t_test, holm
from anatograph.evaluation.evaluate import prediction_table, score_row
from anatograph.evaluation.scores import BOOTSTRAPS, Score, score

_REGION_BOOTSTRAPS = 200


def row_scores(row: Row, design: Design, bootstrap: int) -> dict[str, list[Score]]:
    """All scores of a row for each target."""
    return {
        target.name: score(
            target,
            row.rounds[target.name],
            design.groups_of(target),
            design.seed,
            bootstrap or BOOTSTRAPS,
            bootstrap > 0,
        )
        for target in design.targets
    }


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
        for (repeat, fold), value in zip(folds if one.values else [], one.values, strict=True)
    ]
    return pd.DataFrame(rows)


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
            if metric == "accuracy_majority":
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


def region_table(rows: Sequence[RegionRow], design: Design, landmarks: int) -> pd.DataFrame:
    """method, target (the disease), metric, mean, std, folds, n (patches), people."""
    table = []
    for row in rows:
        for target, done in zip(row.targets, row.predictions, strict=True):
            subject = target.rows // landmarks
            units = subject if design.groups is None else design.groups[subject]
            for one in score(target, done, units, design.seed, _REGION_BOOTSTRAPS):
                table.append({
                    "method": row.slug, **score_row(target, one, False), "people": len(np.unique(subject)),
                })  # fmt: skip
    return pd.DataFrame(table)
