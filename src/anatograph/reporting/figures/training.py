"""Curves of a pretraining."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anatograph.reporting.figures.figure import COLOURS, Figure, Json, axis, identifier, short, title

MOST_POINTS = 800
"""Points of a curve in the page; longer ones are averaged."""
CURVES = (
    ("loss", "Contrastive loss", "InfoNCE loss, nats", "Contrastive loss (InfoNCE)", ""),
    ("accuracy", "Contrastive accuracy", "share of queries", "Share of queries whose own key scores highest", ""),
    (
        "effective_rank",
        "Effective rank",
        "dimensions",
        "Effective rank of the features (exponential of the entropy of their normalised singular values)",
        " A collapse would show as a drop towards 1.",
    ),
)
"""Column of ``metrics.csv``, title, axis, caption, and what follows it."""
_LEVELS = ("patch", "graph")


def curves(metrics: pd.DataFrame) -> list[Figure]:
    """A figure for each of `CURVES` that was recorded, a series for each level."""
    found = []
    for name, heading, unit, said, more in CURVES:
        if name not in metrics.columns:
            continue
        traces, words = [], []
        for number, level in enumerate(_LEVELS):
            rows = metrics[(metrics["level"] == level) & metrics[name].notna()]
            if not len(rows):
                continue
            points = phases(metrics, rows, name)
            known = [value for value in points["y"] if value is not None]
            traces.append(
                {
                    "type": "scatter",
                    "name": f"{level} level",
                    "mode": "lines" if len(known) > 60 and not _isolated(points["y"]) else "lines+markers",
                    "connectgaps": False,
                    "line": {"color": COLOURS[number], "dash": "dash" if number else "solid"},
                    "marker": {"size": 5},
                    **points,
                }
            )
            words.append(f"{level} level from {known[0]:.3g} to {known[-1]:.3g}")
        if not traces:
            continue
        block = -(-len(metrics) // MOST_POINTS)
        averaged = f" Points are means of {block} rows." if block > 1 else ""
        caption = f"{said}, at the patch and the graph level, during pretraining.{more}{averaged}"
        layout = {"title": title(heading), "xaxis": axis("update"), "yaxis": axis(unit, rangemode="tozero")}
        alt = f"{heading}: {'; '.join(words)}"
        found.append(Figure(identifier("curve", name), traces, layout, caption, alt))
    return found


def phases(metrics: pd.DataFrame, rows: pd.DataFrame, name: str) -> Json:
    """x and y of one level, with a gap where the other level was trained in between for more than a moment."""
    ordered = metrics.sort_values("step", kind="stable")
    ordered = ordered[ordered["level"].isin(_LEVELS)]
    turn = (ordered["level"] != ordered["level"].shift()).cumsum()
    number = turn.reindex(rows.index)
    own = turn[ordered["level"].isin(rows["level"])]  # with the rows in which this curve was not recorded
    if own.nunique() * 3 > len(own):  # the levels take turns row by row
        number = pd.Series(0, index=rows.index)
    x: list[float | None] = []
    y: list[float | None] = []
    block = -(-len(metrics) // MOST_POINTS)
    for _, phase in rows.sort_values("step", kind="stable").groupby(number, sort=True):
        if x:
            x.append(None)
            y.append(None)
        starts = np.arange(0, len(phase), block)
        counts = np.diff(np.r_[starts, len(phase)])
        for line, values, digits in ((x, phase["step"], 7), (y, phase[name], 5)):
            line += short(np.add.reduceat(values.to_numpy(dtype=float), starts) / counts, digits)
    return {"x": x, "y": y}


def _isolated(values: list[float | None]) -> bool:
    """Whether a value stands between gaps, where a line would not show it."""
    fenced = [None, *values, None]
    return any(
        value is not None and before is None and after is None
        for before, value, after in zip(fenced, fenced[1:], fenced[2:], strict=False)
    )
