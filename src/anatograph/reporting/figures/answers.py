"""Figures of further analyses: survival, covariates, harmonisation of sites, and learning curves."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from anatograph.reporting.figures.evaluation import Series, metric_of, points, spans
from anatograph.reporting.figures.figure import (
    COLOURS,
    NEUTRAL,
    SYMBOLS,
    Figure,
    Json,
    axis,
    band,
    diagonal,
    identifier,
    plain,
    short,
)
from anatograph.reporting.figures.figure import title as heading

_DASHES = ("solid", "dash", "dot")
_MODELS = ("covariates", "embedding", "covariates + embedding")


def kaplan_meier(curves: pd.DataFrame, summary: pd.DataFrame | None) -> list[Figure]:
    """For each survival target, the curves of the thirds of the out-of-fold risk with their 95 % bands."""
    found = []
    for target, rows in curves.groupby("target", sort=False):
        traces: list[Json] = []
        words = []
        for number, (third, curve) in enumerate(rows.groupby("third", sort=False)):
            colour, n = COLOURS[number % len(COLOURS)], int(curve["at_risk"].iloc[0])
            known = curve[curve["low"].notna() & curve["high"].notna()]
            x, name = short(known["time"]), f"{third}, 95 % band"
            traces += band(x, known["low"], known["high"], colour, name, shape="hv")
            traces.append(
                {"type": "scatter", "mode": "lines", "name": f"{third} risk (n = {n})", "x": short(curve["time"]),
                 "y": short(curve["survival"]), "line": {"shape": "hv", "color": colour, "width": 2.5,
                                                         "dash": _DASHES[number % len(_DASHES)]}}
            )  # fmt: skip
            words.append(f"{third} risk ends at {curve['survival'].iloc[-1]:.2f}")
        layout = {
            "title": heading(str(target)),
            "xaxis": axis("time since the scan, in the unit of the table", rangemode="tozero"),
            "yaxis": axis("share without the event", range=[0, 1.02]),
        }
        caption = (
            f"{target}: Kaplan–Meier estimates by thirds of the out-of-fold risk, with pointwise 95 % intervals "
            "(log-log scale)."
        )
        row = summary[summary["target"] == target] if summary is not None else None
        if row is not None and len(row):
            one = row.iloc[0]
            caption += (
                f" {int(one['events'])} events in {int(one['n'])} subjects; Harrell's C {one['c_harrell']:.2f}, "
                f"Uno's C {one['c_uno']:.2f}; log-rank test between thirds: {_p(float(one['log_rank_p']))}."
            )
        alt = f"{target}: survival curves of thirds of predicted risk; {'; '.join(words)}"
        found.append(Figure(identifier("survival", str(target)), traces, layout, caption, alt, 400))
    return found


def survival_calibration(table: pd.DataFrame) -> list[Figure]:
    """Observed against predicted share with the event by the horizon, in thirds of the risk."""
    found = []
    for target, rows in table.groupby("target", sort=False):
        traces: list[Json] = [
            diagonal([0, 1], "perfect calibration"),
            {"type": "scatter", "mode": "markers", "name": "thirds of the risk", "x": short(rows["predicted"]),
             "y": short(rows["observed"]), "text": [plain(third) for third in rows["third"]],
             "marker": {"size": 10, "color": COLOURS[0]},
             "error_y": {"type": "data", "symmetric": False, "array": short(rows["high"] - rows["observed"]),
                         "arrayminus": short(rows["observed"] - rows["low"])}},
        ]  # fmt: skip
        when = float(rows["horizon"].iloc[0])
        layout = {
            "title": heading(f"{target}: calibration"),
            "xaxis": axis("predicted share with the event", range=[-0.02, 1.02]),
            "yaxis": axis("observed share (Kaplan–Meier)", range=[-0.02, 1.02]),
            "showlegend": False,
        }
        caption = (
            f"{target}: predicted and observed share with the event by time {when:.3g}, in thirds of the out-of-fold "
            "risk, with 95 % intervals; the dashed line is perfect calibration."
        )
        alt = f"{target}: observed against predicted share with the event"
        found.append(Figure(identifier("survival-calibration", str(target)), traces, layout, caption, alt, 400))
    return found


def adjusted(table: pd.DataFrame) -> list[Figure]:
    """Covariates alone, the embedding alone, and both: a figure for each metric."""
    found = []
    for metric, rows in table[table["model"].isin(_MODELS)].groupby("metric", sort=False):
        name, chance = metric_of(str(metric), rows)
        targets = list(dict.fromkeys(rows["target"].astype(str)))
        series = [(model, spans(rows[rows["model"] == model])) for model in _MODELS]
        added = table[(table["model"] == "added") & (table["metric"] == metric)].to_dict("records")
        tested = any(float(r["p"]) == float(r["p"]) for r in added)
        said = "; ".join(
            f"{r['target']} {float(r['value']):+.3f} ({float(r['low']):+.3f} to {float(r['high']):+.3f}"
            + (f", {_p(float(r['p']))})" if tested else ")")
            for r in added
        )
        caption = (
            f"Held-out {name} of nested models on the same folds, with 95 % bootstrap intervals. Added by the "
            f"embedding beyond the covariates{', with a permutation test' if tested else ''}: {said}."
        )
        found.append(points(identifier("adjusted", str(metric)), name, chance, targets, series, caption))
    return found


def harmonised(table: pd.DataFrame) -> list[Figure]:
    """Before and after harmonisation on the same folds: a figure for each metric."""
    caption = (
        "Held-out {} before and after harmonisation, which was fitted in training folds alone, with 95 % "
        "bootstrap intervals."
    )
    own = " Rows with (linear) or (kernel) show how well the harmonised column is itself predicted, which should fall "
    own += "to chance (dashed)."
    figures = _compared(table, "harmonised", "target", {"before": "before", "after": "after"}, caption)
    itself = set(table.loc[table["target"].str.endswith((" (linear)", " (kernel)")), "metric"].astype(str))
    shown = {identifier("harmonised", metric) for metric in itself}
    return [replace(one, caption=one.caption + own) if one.name in shown else one for one in figures]


def audited(table: pd.DataFrame) -> list[Figure]:
    """How well patient and scanner are predicted, linearly and by a Gaussian kernel: a figure for each metric."""
    caption = (
        "Confounding audit: held-out {} with which the embedding predicts what describes patient, scanner or "
        "breath, with 95 % bootstrap intervals. An interval above chance (dashed) means that the embedding encodes "
        "the column."
    )
    return _compared(table, "audit", "column", {"linear": "linear probe", "kernel": "Gaussian kernel"}, caption)


def shared_directions(table: pd.DataFrame) -> list[Figure]:
    """For each target of an audit, its association with each nuisance, and its figure without that nuisance."""
    found = []
    for target, rows in table.groupby("target", sort=False):
        columns = list(dict.fromkeys(rows["column"].astype(str)))
        series: Series = []
        for kind, words in (("labels", "in the cohort"), ("directions", "between out-of-fold predictions")):
            known = rows[rows[kind].notna()]
            series.append((words, {str(r["column"]): (float(r[kind]),) * 3 for r in known.to_dict("records")}))
        caption = (
            f"{target}: association (canonical correlation, 0 to 1) with what describes patient, scanner or breath, in "
            "the cohort and between the out-of-fold predictions of the two linear probes. Predictions that are much "
            "more closely associated than the cohort suggest a short cut: the same features serve both. A column "
            "without a second point is not predicted better than chance."
        )
        figure = points(identifier("shared", str(target)), f"{target}: association", 0.0, columns, series, caption)
        layout = {
            "title": heading(f"{target}: association"),
            "xaxis": axis("canonical correlation", range=[-0.02, 1.02]),
        }
        found.append(replace(figure, layout={**figure.layout, **layout}))
        for metric, own in rows[rows["value"].notna()].groupby("metric", sort=False):
            name, chance = metric_of(str(metric), own)
            if float(own["value"].max()) <= chance:  # there is nothing to lose
                continue
            labels = list(dict.fromkeys(own["column"].astype(str)))
            series = [
                (words, {str(r["column"]): (float(r[kind]),) * 3 for r in own.to_dict("records")})
                for kind, words in (("value", "with the column's effect"), ("value_without", "without"))
            ]
            caption = (
                f"{target}: held-out {name} with and without the linear effect of each column on the features, removed "
                "inside the training folds. A large drop means that the prediction relied on features shared with the "
                "column. The dashed line is chance."
            )
            figure = points(identifier("without", str(target), str(metric)), name, chance, labels, series, caption)
            layout = {"title": heading(f"{target}: without each column's effect")}
            found.append(replace(figure, layout={**figure.layout, **layout}))
    return found


def learning_curves(table: pd.DataFrame) -> list[Figure]:
    """Held-out figure against the number of training subjects, with its band: a figure for each metric."""
    found = []
    for metric, rows in table.groupby("metric", sort=False):
        name, chance = metric_of(str(metric), rows)
        ticks = sorted({int(n) for n in rows["n_train"]})
        traces: list[Json] = []
        for number, (target, curve) in enumerate(rows.groupby("target", sort=False)):
            colour, ordered = COLOURS[number % len(COLOURS)], curve.sort_values("n_train")
            sizes = [int(n) for n in ordered["n_train"]]
            traces += band(sizes, ordered["low"], ordered["high"], colour, f"{target}, 95 % band")
            traces.append(
                {"type": "scatter", "mode": "lines+markers", "name": plain(target), "x": sizes,
                 "y": short(ordered["value"]), "line": {"color": colour},
                 "marker": {"size": 8, "symbol": SYMBOLS[number % len(SYMBOLS)]}}
            )  # fmt: skip
        layout = {
            "xaxis": axis("training subjects", type="log", tickvals=ticks, ticktext=[str(n) for n in ticks]),
            "yaxis": axis(f"held-out {name}"),
            "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": chance, "y1": chance,
                        "line": {"color": NEUTRAL, "dash": "dash", "width": 1.5}}],
        }  # fmt: skip
        caption = (
            f"Held-out {name} against the number of training subjects, with 95 % bands over random choices of training "
            "subjects and bootstrap samples of test subjects; the dashed line is chance."
        )
        alt = f"learning curves of {', '.join(map(str, dict.fromkeys(rows['target'])))}"
        found.append(Figure(identifier("learning", str(metric)), traces, layout, caption, alt, 380))
    return found


def _compared(table: pd.DataFrame, figure: str, rows_by: str, kinds: dict[str, str], caption: str) -> list[Figure]:
    """For each metric, a point for each of ``kinds`` (columns ``KIND``, ``KIND_low``, ``KIND_high``) in each row.

    Args:
        table: a row for each metric and each value of the column ``rows_by``.
        figure: what the figures' names begin with.
        rows_by: the column that names the rows.
        kinds: prefix of the columns, and what it is called in the legend.
        caption: ``{}`` stands for the metric.
    """
    found = []
    for metric, rows in table.groupby("metric", sort=False):
        name, chance = metric_of(str(metric), rows)
        labels = list(dict.fromkeys(rows[rows_by].astype(str)))
        series: Series = [
            (words, spans(rows, rows_by, kind, f"{kind}_low", f"{kind}_high")) for kind, words in kinds.items()
        ]
        found.append(points(identifier(figure, str(metric)), name, chance, labels, series, caption.format(name)))
    return found


def _p(value: float) -> str:
    return "p undefined" if value != value else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
