"""A heatmap over the scan, as a picture that explains its own colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Mask, Volume

_WINDOW = (-1350.0, 150.0)
_COLOURS = "RdBu_r"  # told apart with any colour vision; red is more, blue less
_MARGIN = 20.0
# Name, axis looked along, horizontal and vertical axis (0 L, 1 P, 2 S), vertical downwards, what is at the left edge.
_VIEWS = (
    ("axial", 2, 0, 1, True, ("R", "L")),
    ("coronal", 1, 0, 2, False, ("R", "L")),
    ("sagittal", 0, 1, 2, False, ("A", "P")),
)


def draw_heatmap(
    path: Path,
    heat: NDArray[np.float32],
    lungs: Mask,
    scan: Volume | None,
    title: str,
    meaning: str,
) -> None:
    """Write a PNG: three slices through the region that speaks most for it, with a colour bar in words.

    ``heat`` (z, y, x) in (0, 1), 0 for no value, on the frame of ``lungs``; the patient's right is on the left.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frame = lungs.frame
    known = heat > 0
    reach = _reach(heat[known])
    peak = _peak(heat, frame.spacing)
    inside = [np.flatnonzero(lungs.lungs.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    low = frame.to_lps([line[0] for line in inside]) - _MARGIN
    high = frame.to_lps([line[-1] for line in inside]) + _MARGIN
    figure = Figure(figsize=(13, 5.2), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    wide = [high[across] - low[across] for _, _, across, _, _, _ in _VIEWS]
    grid = figure.add_gridspec(1, 3, width_ratios=wide, left=0.01, right=0.87, top=0.88, bottom=0.06, wspace=0.03)
    shown = None
    for column, (name, through, across, up, down, sides) in enumerate(_VIEWS):
        axes = figure.add_subplot(grid[0, column])
        axes.set_facecolor("black" if scan is not None else "white")
        index = int(peak[through])
        h = frame.origin[across] + np.arange(frame.shape[2 - across]) * frame.spacing[across]
        v = frame.origin[up] + np.arange(frame.shape[2 - up]) * frame.spacing[up]
        dh, dv = frame.spacing[across] / 2, frame.spacing[up] / 2
        extent = (h[0] - dh, h[-1] + dh, v[0] - dv, v[-1] + dv)
        if scan is not None:
            slab = np.take(scan.array, index, axis=2 - through)
            axes.imshow(slab, cmap="gray", vmin=_WINDOW[0], vmax=_WINDOW[1], extent=extent, origin="lower")
        values = np.take(heat, index, axis=2 - through)
        masked = np.where(values > 0, values, np.nan)  # nothing is drawn where there is no value
        shown = axes.imshow(
            masked, cmap=_COLOURS, vmin=0.5 - reach, vmax=0.5 + reach, alpha=0.55, extent=extent, origin="lower",
            interpolation="nearest",
        )  # fmt: skip
        outline = np.take(lungs.array, index, axis=2 - through) > 0
        if outline.any() and not outline.all():
            axes.contour(h, v, outline, levels=[0.5], colors="#ffd400", linewidths=0.7)
        axes.set_xlim(low[across], high[across])
        axes.set_ylim((high[up], low[up]) if down else (low[up], high[up]))
        axes.set_xticks([])
        axes.set_yticks([])
        place = frame.origin[through] + index * frame.spacing[through]
        axes.set_xlabel(f"{name}, {'LPS'[through]} = {place:.0f} mm", fontsize=9)
        for x, side, align in ((0.02, sides[0], "left"), (0.98, sides[1], "right")):
            axes.text(x, 0.5, side, transform=axes.transAxes, color="#ffd400", fontsize=12, weight="bold", ha=align)
    figure.text(0.01, 0.94, title, fontsize=12, weight="bold")
    if shown is not None:
        bar = figure.colorbar(shown, cax=figure.add_axes((0.885, 0.12, 0.014, 0.7)))
        if bar.solids is not None:
            bar.solids.set_alpha(1.0)
        bar.set_label(f"red: speaks for {meaning}\nblue: speaks against it", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    figure.savefig(path, format="png")


def _reach(values: NDArray[np.float32]) -> float:
    """How far from 0.5 the colours run: to the 99th percentile, so that one odd region does not bleach the rest."""
    if not len(values):
        return 0.5
    return float(np.clip(np.quantile(np.abs(values - 0.5), 0.99), 0.02, 0.5))


def _peak(heat: NDArray[np.float32], spacing: tuple[float, float, float]) -> NDArray[np.int64]:
    """(x, y, z) voxel within the highest region: the middle of what lies at the top of the map."""
    if not (heat > 0).any():
        return np.array(heat.shape[::-1], dtype=np.int64) // 2
    top = np.argwhere(heat >= heat.max() - 1e-4)
    middle = top[np.abs((top - np.median(top, axis=0)) * np.asarray(spacing[::-1])).sum(axis=1).argmin()]
    return np.asarray(middle[::-1], dtype=np.int64)
