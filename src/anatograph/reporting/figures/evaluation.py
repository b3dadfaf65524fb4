"""Scores as points with intervals: this embedding, its rivals, and chance."""

from __future__ import annotations

from typing import Any

import pandas as pd

from anatograph.reporting.figures.figure import COLOURS, NEUTRAL, SYMBOLS, Figure, Json, axis, identifier, plain, short

METRICS = {
    "r2": ("R²", 0.0),
    "auc": ("AUC", 0.5),
    "kappa_quadratic": ("quadratic-weighted kappa", 0.0),
    "c_harrell": ("Harrell's C", 0.5),
}
"""Figures that probes are judged by: name and value by chance."""
_MOST_METHODS = 16
Span = tuple[float, float, float]
"""Value, lower and upper end."""
Series = list[tuple[str, dict[str, Span]]]
"""For each method, its value for each target."""


def overview(
    headlines: pd.DataFrame, shuffled: pd.DataFrame | None = None, others: pd.DataFrame | None = None
) -> list[Figure]:
    """A figure for each metric of the headlines, with shuffled targets and rivals where they are known."""
    found = []
    for metric, rows in headlines.groupby("metric", sort=False):
        name, chance = metric_of(str(metric), rows)
        targets = [str(target) for target in rows["target"]]
        series: Series = [("this embedding", spans(rows))]
        caption = (
            f"Held-out {name} of the linear probes, each subject predicted by a probe fitted without it: points with "
            f"95 % bootstrap intervals over subjects ({_counts(rows)}). The dashed line is the value of a prediction "
            "without features."
        )
        if shuffled is not None:
            series.append(("shuffled targets", _shuffled(shuffled, str(metric), targets)))
            if series[-1][1]:
                caption += " Shuffled targets: mean and standard deviation over permutations."
        if others is not None:
            rival, interval = _rivals(others, str(metric), targets)
            series += rival
            if rival:
                caption += f" Other methods, on the benchmark's folds: {interval}."
        series = [one for one in series if one[1]]
        found.append(points(identifier("scores", str(metric)), name, chance, targets, series, caption))
    return found


def rivals(results: pd.DataFrame) -> list[Figure]:
    """A figure for each of `METRICS` in a benchmark's results."""
    found = []
    for metric, (name, chance) in METRICS.items():
        rows = results[results["metric"] == metric]
        if rows["method"].nunique() < 2:
            continue
        targets = list(dict.fromkeys(rows["target"].astype(str)))
        series, interval = _rivals(results, metric, targets)
        caption = f"Held-out {name} of every method on the same folds: {interval}. The dashed line is chance."
        found.append(points(identifier("benchmark", metric), name, chance, targets, series, caption))
    return found


def metric_of(metric: str, rows: pd.DataFrame) -> tuple[str, float]:
    """What a metric is called, and its value by chance; of one that is not in `METRICS`, from the column ``chance``."""
    if metric in METRICS:
        return METRICS[metric]
    return metric, float(rows["chance"].iloc[0]) if "chance" in rows else 0.0


def spans(
    rows: pd.DataFrame, label: str = "target", value: str = "value", low: str = "low", high: str = "high"
) -> dict[str, Span]:
    """Value and ends of each row, from these columns."""
    return {str(r[label]): (float(r[value]), float(r[low]), float(r[high])) for r in rows.to_dict("records")}


def _counts(rows: pd.DataFrame) -> str:
    counts = sorted({int(n) for n in rows["n"]})
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def _shuffled(table: pd.DataFrame, metric: str, targets: list[str]) -> dict[str, Span]:
    rows = table[(table["metric"] == metric) & table["target"].astype(str).isin(targets)]
    found = {}
    for row in rows.to_dict("records"):
        mean, spread = float(row["chance_mean"]), float(row["chance_std"])
        found[str(row["target"])] = (mean, mean - spread, mean + spread)
    return found


def _rivals(results: pd.DataFrame, metric: str, targets: list[str]) -> tuple[Series, str]:
    """A series for each method, and what its bars are."""
    rows = results[(results["metric"] == metric) & results["target"].astype(str).isin(targets)]
    pooled = {"pooled", "low", "high"} <= set(rows.columns) and bool(rows["low"].notna().all()) and len(rows) > 0
    series: dict[str, dict[str, Span]] = {}
    for row in rows.to_dict("records"):
        if pooled:
            span = (float(row["pooled"]), float(row["low"]), float(row["high"]))
        else:
            mean, spread = float(row["mean"]), float(row.get("std", float("nan")))
            span = (mean, mean - spread, mean + spread)
        series.setdefault(str(row["method"]), {})[str(row["target"])] = span
    words = "95 % bootstrap intervals" if pooled else "mean and standard deviation over the folds"
    return list(series.items())[:_MOST_METHODS], words


def points(name: str, metric: str, chance: float, targets: list[str], series: Series, caption: str) -> Figure:
    """Targets down, one point with its bar a method, side by side within a target."""
    traces: list[Json] = []
    step = 0.8 / max(1, len(series))
    for number, (method, found) in enumerate(series):
        rows = [(k, found[target]) for k, target in enumerate(targets) if target in found]
        colour = NEUTRAL if method == "shuffled targets" else COLOURS[number % len(COLOURS)]
        offset = (number - (len(series) - 1) / 2) * step
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plain(method),
                "x": short([span[0] for _, span in rows]),
                "y": [round(k + offset, 3) for k, _ in rows],
                "text": [plain(targets[k]) for k, _ in rows],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": short([span[2] - span[0] for _, span in rows]),
                    "arrayminus": short([span[0] - span[1] for _, span in rows]),
                    "thickness": 1.5,
                },
                "marker": {"size": 10 if number == 0 else 8, "color": colour, "symbol": SYMBOLS[number % len(SYMBOLS)]},
                "hovertemplate": "%{text}: %{x:.3f}<extra>" + plain(method) + "</extra>",
            }
        )
    shown = [v for _, found in series for span in found.values() for v in span if v == v]
    # All metrics end at 1; the worst lie far below chance and would squeeze everything else.
    low, high = max(min([chance, *shown]), chance - 1.0), min(max([chance, *shown]), 1.0)
    wide = max(high - low, 0.1)
    ends: Any = [low - 0.05 * wide, high + 0.05 * wide]
    beyond = [
        {"xref": "paper", "x": 0, "y": y, "text": f"◂ {x:.2f}", "showarrow": False, "xanchor": "left",
         "yanchor": "bottom", "font": {"color": trace["marker"]["color"]}}
        for trace in traces
        for x, y in zip(trace["x"], trace["y"], strict=True)
        if x is not None and x < low
    ]  # fmt: skip
    if beyond:
        caption += " Arrows give values beyond the left end."
    layout = {
        "annotations": beyond,
        "xaxis": axis(metric, range=ends, zeroline=False),
        "yaxis": axis("", tickvals=list(range(len(targets))), ticktext=[plain(t) for t in targets],
                      range=[len(targets) - 0.45, -0.55], showgrid=False, zeroline=False),
        "shapes": [{"type": "line", "x0": chance, "x1": chance, "yref": "paper", "y0": 0, "y1": 1,
                    "line": {"color": NEUTRAL, "dash": "dash", "width": 1.5}}],
        "showlegend": len(series) > 1,
    }  # fmt: skip
    said = "; ".join(f"{m}: " + ", ".join(f"{t} {s[0]:.2f}" for t, s in found.items()) for m, found in series)
    height = 130 + len(targets) * max(44, 18 * len(series)) + 22 * ((len(series) + 2) // 3)
    return Figure(name, traces, layout, caption, f"{metric} by target. {said}", height)
