"""The learning curves as a picture."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from anatograph.evaluation.headline import METRIC_NAMES

_COLUMNS = 3


def draw_learning_curves(table: pd.DataFrame, path: Path) -> Path:
    """One panel a target of the table of `learning_curve`: figure, 95 % band, and the level of chance."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(table["target"]))
    across = min(_COLUMNS, len(names))
    down = math.ceil(len(names) / across)
    figure = Figure(figsize=(4.2 * across, 3.2 * down), layout="constrained")
    for axes, name in zip(figure.subplots(down, across, squeeze=False).flat, names, strict=False):
        rows = table[table["target"] == name].sort_values("n_train")
        axes.fill_between(rows["n_train"], rows["low"], rows["high"], color="#9bb8d3", alpha=0.5, linewidth=0)
        axes.plot(rows["n_train"], rows["value"], color="#1f4e79", marker="o", markersize=4)
        axes.axhline(rows["chance"].iloc[0], color="#777777", linewidth=0.8, linestyle="--")
        axes.set_xscale("log")
        axes.set_xticks(rows["n_train"], labels=[str(n) for n in rows["n_train"]])
        axes.minorticks_off()
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("training subjects")
        axes.set_ylabel(f"held-out {METRIC_NAMES[str(rows['metric'].iloc[0])]}")
    for axes in list(figure.axes)[len(names) :]:
        axes.set_visible(False)
    figure.savefig(path, dpi=150)
    return path
