"""The audit as one picture: what the embedding encodes, and which targets share a direction with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"linear": "#1f4e79", "kernel": "#c46210"}
_NAMES = {"linear": "linear probe", "kernel": "Gaussian kernel"}
_METRICS = {"r2": "R²", "auc": "AUC", "kappa_quadratic": "κ"}


def draw_audit(table: pd.DataFrame, shared: pd.DataFrame, path: Path) -> Path:
    """Left, each nuisance's figure from chance (0) to perfect (1) with its interval; right, shared directions."""
    from matplotlib.figure import Figure

    names = list(table["column"])
    targets = list(dict.fromkeys(shared["target"])) if len(shared) else []
    height = 1.4 + 0.42 * len(names)
    figure = Figure(figsize=(6.4 + (1.6 + 0.8 * len(targets) if targets else 0), height), layout="constrained")
    panels = figure.subplots(
        1, 2 if targets else 1, squeeze=False, width_ratios=[5, 1 + 0.8 * len(targets)] if targets else None
    )[0]
    axes = panels[0]
    places = np.arange(len(names))
    for shift, kind in ((-0.14, "linear"), (0.14, "kernel")):
        best = 1 - table["chance"].to_numpy()
        value, low, high = (
            (table[name].to_numpy(dtype=float) - table["chance"].to_numpy()) / best
            for name in (kind, f"{kind}_low", f"{kind}_high")
        )
        axes.hlines(places + shift, np.maximum(low, -0.3), high, color=_COLOURS[kind], linewidth=1.5)
        axes.plot(np.maximum(value, -0.3), places + shift, "o", color=_COLOURS[kind], markersize=5, label=_NAMES[kind])
    axes.axvline(0, color="#777777", linewidth=0.8, linestyle="--")
    axes.set_xlim(-0.32, 1.02)
    axes.set_yticks(
        places,
        labels=[
            f"{row['column']}  ({_METRICS[row['metric']]} {max(row['linear'], row['kernel']):.2f})"
            for _, row in table.iterrows()
        ],
    )
    axes.set_ylim(len(names) - 0.5, -0.5)  # rows level with those of the grid
    axes.set_xlabel("held-out figure: 0 chance, 1 perfect")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.set_title("What the embedding encodes", fontsize=10)
    if targets:
        grid = shared.pivot(index="column", columns="target", values="directions").reindex(index=names, columns=targets)
        _draw_grid(panels[1], grid)
    figure.savefig(path, dpi=150)
    return path


def _draw_grid(axes: Axes, grid: pd.DataFrame) -> None:
    values = grid.to_numpy(dtype=float)
    axes.imshow(values, vmin=0, vmax=1, cmap="YlOrBr", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}" if np.isfinite(value) else "–"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if value > 0.7 else "black")
    axes.set_xticks(range(len(grid.columns)), labels=list(grid.columns), rotation=30, ha="right", fontsize=8)
    axes.set_yticks([])
    axes.set_title("Shared direction", fontsize=10)
