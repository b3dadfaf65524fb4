"""The section about a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anatograph.evaluation.metrics import LOWER_IS_BETTER
from anatograph.reporting.figures.evaluation import rivals
from anatograph.reporting.figures.figure import Figure
from anatograph.reporting.sections.tables import DECIMALS, Table, number, read_table


@dataclass(frozen=True)
class BenchmarkSection:
    """Methods on the same folds."""

    figures: list[Figure]
    """A figure for each metric that methods are judged by."""
    tables: list[Table]
    """A table for each target."""
    results: pd.DataFrame
    """method, target, metric, mean, std and, where it has them, pooled, low, high."""


def benchmark(folder: Path) -> BenchmarkSection:
    """Figures, and a table for each target of `benchmark`: methods down, metrics across, the best in bold.

    Raises:
        UserError: a folder that `benchmark` did not write.
    """
    results = read_table(folder / "results.csv", folder, "anatograph benchmark", ("method", "target", "metric", "mean"))
    return BenchmarkSection(rivals(results), _tables(results), results)


def _tables(results: pd.DataFrame) -> list[Table]:
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
            values = means[metric].dropna().round(DECIMALS)  # means that read the same are a tie
            if len(values) > 1:
                winner = values.min() if metric in LOWER_IS_BETTER else values.max()
                best |= {(methods.index(str(m)), column) for m in values.index[values == winner]}
        body = tuple((m, *(cells.get((m, metric), "–") for metric in metrics)) for m in methods)
        tables.append(Table(("method", *metrics), body, str(target), frozenset(best)))
    return tables
