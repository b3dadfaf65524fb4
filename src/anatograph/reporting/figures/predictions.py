"""Predictions of subjects: against the truth, and the calibration of probabilities."""

from __future__ import annotations

import numpy as np
import pandas as pd

from anatograph.reporting.figures.figure import COLOURS, SYMBOLS, Figure, Json, axis, diagonal, identifier, plain, short
from anatograph.reporting.figures.figure import title as heading
from anatograph.reporting.redaction import Discretion

_FEWEST = 20
"""Subjects below which a calibration curve would show noise alone."""


def scatter(target: str, held: pd.DataFrame, discretion: Discretion) -> Figure | None:
    """Predicted against true values; means over the repeats of the cross-validation."""
    known = held[held["prediction"].notna() & held["truth"].notna()]
    known = known.groupby("subject_id", sort=False)[["truth", "prediction"]].mean()
    if not len(known):
        return None
    truth, predicted = known["truth"].to_numpy(dtype=float), known["prediction"].to_numpy(dtype=float)
    names = [discretion.subject(str(name)) for name in known.index]
    ends = [float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))]
    traces: list[Json] = [
        diagonal(ends, "identity"),
        {"type": "scatter", "mode": "markers", "name": "subjects", "x": short(truth, 5), "y": short(predicted, 5),
         "text": [plain(name) for name in names], "marker": {"size": 7, "color": COLOURS[0], "opacity": 0.75},
         "hovertemplate": "%{text}<br>true %{x:.4g}, predicted %{y:.4g}<extra></extra>"},
    ]  # fmt: skip
    layout = {
        "title": heading(target),
        "xaxis": axis(f"{target}, true"),
        "yaxis": axis(f"{target}, predicted"),
        "showlegend": False,
        "hovermode": "closest",
    }
    caption = (
        f"{target}: out-of-fold prediction against the true value of {len(truth)} subjects; "
        "the dashed line is identity."
    )
    if len(truth) > 2 and predicted.std() > 0 and truth.std() > 0:
        slope, intercept = np.polyfit(predicted, truth, 1)
        caption += (
            f" Calibration: slope {slope:.2f}, intercept {intercept:.3g} (regression of truth on prediction; 1 and 0 "
            "are ideal)."
        )
    alt = f"{target}: predicted, held out, against true values of {len(truth)} subjects"
    return Figure(identifier("scatter", target), traces, layout, caption, alt, 360, tuple(names))


def calibration(target: str, held: pd.DataFrame) -> Figure | None:
    """Observed frequency against mean predicted probability in bins of equal size, with Wilson's 95 % intervals."""
    from statsmodels.stats.proportion import proportion_confint

    held = first_repeat(held)
    columns = [name for name in held.columns if name.startswith("probability_") and held[name].notna().any()]
    known = held[held[columns].notna().all(axis=1)] if columns else held.iloc[:0]
    if len(known) < _FEWEST:
        return None
    shown = columns[1:] if len(columns) == 2 else columns
    traces: list[Json] = [diagonal([0, 1], "perfect calibration")]
    bins = int(np.clip(len(known) // 10, 2, 10))
    truth = known["truth_class"].astype(str).to_numpy()
    for number, column in enumerate(shown[: len(COLOURS)]):
        label = column.removeprefix("probability_")
        order = np.argsort(known[column].to_numpy(dtype=float), kind="stable")
        parts = np.array_split(order, bins)
        predicted = [float(known[column].to_numpy(dtype=float)[part].mean()) for part in parts]
        observed = [float((truth[part] == label).mean()) for part in parts]
        counts = [int((truth[part] == label).sum()) for part in parts]
        spans = [proportion_confint(n, len(part), method="wilson") for n, part in zip(counts, parts, strict=True)]
        traces.append(
            {"type": "scatter", "mode": "lines+markers", "name": plain(label), "x": short(predicted),
             "y": short(observed), "line": {"color": COLOURS[number]},
             "marker": {"size": 8, "symbol": SYMBOLS[number]},
             "error_y": {"type": "data", "symmetric": False,
                         "array": short([high - o for (_, high), o in zip(spans, observed, strict=True)]),
                         "arrayminus": short([o - low for (low, _), o in zip(spans, observed, strict=True)])}}
        )  # fmt: skip
    layout = {
        "title": heading(f"{target}: calibration"),
        "xaxis": axis("mean predicted probability", range=[-0.02, 1.02]),
        "yaxis": axis("observed frequency", range=[-0.02, 1.02]),
    }
    caption = (
        f"{target}: calibration of the out-of-fold probabilities of {len(known)} subjects in {bins} bins of equal "
        "size, with Wilson 95 % intervals; the dashed line is perfect calibration."
    )
    alt = f"{target}: observed frequency against predicted probability for {', '.join(shown)}"
    return Figure(identifier("calibration", target), traces, layout, caption, alt.replace("probability_", ""), 360)


def first_repeat(held: pd.DataFrame) -> pd.DataFrame:
    """The predictions of the first division into folds, where there are several."""
    return held[held["repeat"] == held["repeat"].min()] if "repeat" in held.columns else held
