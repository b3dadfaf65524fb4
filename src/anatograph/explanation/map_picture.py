"""A map over the scan, as a picture that explains its own colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.explanation.legend import MapLegend
from anatograph.imaging.views import AXIAL, CORONAL, SAGITTAL, View, draw_outline, draw_scan, edges, position
from anatograph.imaging.volume import Mask, Volume

DIVERGING, SEQUENTIAL = "RdBu_r", "inferno"
"""Both can be read with any colour vision, and in grey: blue and red by side, the other by lightness."""
_OPAQUE = 0.72
_GREY = (0.55, 0.55, 0.55, 0.6)
"""RGBA of the lungs where a map is withheld."""
_MARGIN = 12.0
_INK, _MARKS = "#1a1a1a", "#ffd400"
_VIEWS = (AXIAL, CORONAL, SAGITTAL)


def draw_map(
    path: Path,
    heat: NDArray[np.float32],
    lungs: Mask,
    scan: Volume | None,
    legend: MapLegend,
    at: NDArray[np.float64] | None,
    place: str = "",
) -> None:
    """Write a PNG: axial, coronal and sagittal slices through ``at`` (LPS mm), with a colour bar in legend.

    ``heat`` (z, y, x), 0 for no value, lies on the frame of ``lungs``. The patient's right is on the left. The colour
    is more transparent the less evidence a value is, so that the lung stays visible where there is nothing. Thin ticks
    at the edges show where the other two slices cut.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    box = lungs.box_lps()
    if box is None:
        raise ValueError("a map needs lungs to lie in")
    low, high = box
    middle = (low + high) / 2 if at is None else np.clip(at, low, high)
    index, _ = lungs.frame.nearest(middle)
    low, high = low - _MARGIN, high + _MARGIN
    size = high - low
    # All three at one scale, so that heights can be compared; the colour bar takes the rest.
    inch = 4.3 / max(size[1], size[2])
    widths = [size[view.across] * inch for view in _VIEWS]
    left, gap, top, bottom, bar = 0.12, 0.1, 0.62, 0.42, 2.1
    wide = left + sum(widths) + 2 * gap + bar
    tall = bottom + 4.3 + top
    figure = Figure(figsize=(wide, tall), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    x = left
    for view, width in zip(_VIEWS, widths, strict=True):
        height = size[view.up] * inch
        axes = figure.add_axes((x / wide, (bottom + (4.3 - height) / 2) / tall, width / wide, height / tall))
        x += width + gap
        show_slice(axes, heat, lungs, scan, legend, view, int(index[view.through]))
        view.limits(axes, low, high)
        _mark_other_slices(axes, middle, view.across, view.up)
        for place_xy, side, across, up in (
            ((0.02, 0.5), view.sides[0], "left", "center"),
            ((0.98, 0.5), view.sides[1], "right", "center"),
            ((0.5, 0.98), view.ends[0], "center", "top"),
            ((0.5, 0.02), view.ends[1], "center", "bottom"),
        ):
            text = axes.text(*place_xy, side, transform=axes.transAxes, color=_MARKS, fontsize=11, weight="bold",
                             ha=across, va=up)  # fmt: skip
            _outlined(text)
        where = position(view.through, middle[view.through])
        axes.set_xlabel(f"{view.name}, {where} mm", fontsize=8, color=_INK, labelpad=3)
        if view is AXIAL:
            _scale_bar(axes, low[view.across], (high if view.downwards else low)[view.up], size[view.across])
    figure.text(left / wide, 1 - 0.27 / tall, legend.title, fontsize=11, weight="bold", color=_INK, va="center")
    under = "lung window (level −600, width 1500 HU)" if scan is not None else "outline of the lungs"
    where = f"slices through the strongest region: {place}" if place else "slices through the middle of the lungs"
    figure.text(left / wide, 1 - 0.5 / tall, f"{where} · {under}", fontsize=8, color="#555555", va="center")
    if legend.evidence:
        figure.text(left / wide, 0.12 / tall, legend.evidence, fontsize=8, color=_INK, va="center")
    if legend.withheld:
        _say_withheld(figure, legend.withheld)
    _colour_bar(figure, legend, (x + 0.12) / wide, bottom / tall + 0.04, 0.16 / wide, 4.3 / tall - 0.08)
    figure.savefig(path, format="png", metadata={"Software": "anatograph"})


def show_slice(
    axes: Any,
    heat: NDArray[np.float32] | None,
    lungs: Mask,
    scan: Volume | None,
    legend: MapLegend | None,
    view: View,
    index: int,
) -> None:
    """One slice in mm: the scan in lung window, the map over it, the outline of the lungs."""
    axes.set_facecolor("black" if scan is not None else "#e8e8e8")
    if scan is not None:
        draw_scan(axes, scan, view, index, interpolation="antialiased")
    if heat is not None and legend is not None:
        values = colours(view.slab(heat, index), legend)
        if legend.withheld:
            values = np.where(view.slab(heat, index)[..., None] == 0, 0, np.array(_GREY, dtype=np.float32))
        axes.imshow(values, extent=edges(lungs.frame, view), origin="lower", interpolation="nearest")
    draw_outline(axes, lungs, view, index, colors=_MARKS if scan is not None else "#555555", linewidths=0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(False)


def colours(values: NDArray[np.float32], legend: MapLegend) -> NDArray[np.float32]:
    """Values (...,) as RGBA (..., 4) in [0, 1]; nothing at 0, and faint about the neutral value."""
    from matplotlib import colormaps

    low, high = legend.range
    share = np.clip((values - low) / (high - low), 0, 1)
    if legend.diverging:
        strength = np.abs(values - legend.neutral) / max(high - legend.neutral, legend.neutral - low)
        rgba = colormaps[DIVERGING](share)
    else:
        strength = share
        rgba = colormaps[SEQUENTIAL](0.25 + 0.7 * share)  # black and white belong to the scan
    rgba[..., 3] = np.where(values == 0, 0, _OPAQUE * np.clip(1.6 * strength, 0, 1))
    return np.asarray(rgba, dtype=np.float32)


def _say_withheld(figure: Any, reason: str) -> None:
    """Across the slices, why there are no colours."""
    figure.text(0.42, 0.5, _wrapped(f"No map: {reason}.", 44), fontsize=13, weight="bold", color=_INK, ha="center",
                va="center", bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "none"})  # fmt: skip


def _wrapped(text: str, width: int = 26) -> str:
    """Lines of at most ``width`` letters; names of columns are cut at underscores."""
    import textwrap

    lines = [line for part in text.split("\n") for line in textwrap.wrap(part.replace("_", "_ "), width) or [""]]
    return "\n".join(line.replace("_ ", "_") for line in lines)


def _mark_other_slices(axes: Any, middle: NDArray[np.float64], across: int, up: int) -> None:
    """Short marks at the edges where the other two slices cut this one."""
    style = {"color": _MARKS, "linewidth": 1.0, "solid_capstyle": "butt"}
    for span in ((0.0, 0.035), (0.965, 1.0)):
        _outlined(axes.plot([middle[across]] * 2, span, transform=axes.get_xaxis_transform(), **style)[0])
        _outlined(axes.plot(span, [middle[up]] * 2, transform=axes.get_yaxis_transform(), **style)[0])


def _outlined(drawn: Any) -> None:
    """A dark line around what is drawn, so that it stands out on light tissue too."""
    from matplotlib import patheffects

    drawn.set_path_effects([patheffects.withStroke(linewidth=_width(drawn) + 1.6, foreground=_INK)])


def _width(drawn: Any) -> float:
    """Line width of a line; 0 of a text."""
    return float(drawn.get_linewidth()) if hasattr(drawn, "get_linewidth") else 0.0


def _scale_bar(axes: Any, left: float, bottom: float, width: float) -> None:
    """50 mm in the lower left corner."""
    x = left + 0.04 * width
    up = bottom - 0.04 * width  # P grows downwards in an axial slice
    (line,) = axes.plot([x, x + 50], [up, up], color=_MARKS, linewidth=2, solid_capstyle="butt")
    _outlined(line)
    text = axes.text(x + 25, up - 0.02 * width, "5 cm", color=_MARKS, fontsize=7.5, ha="center", va="bottom")
    _outlined(text)


def _colour_bar(figure: Any, legend: MapLegend, x: float, y: float, width: float, height: float) -> None:
    """The colours as they lie on the scan (over grey), with words at their ends."""
    axes = figure.add_axes((x, y, width, height))
    low, high = legend.range
    values = np.linspace(low, high, 256, dtype=np.float32)
    rgba = colours(np.where(values == 0, 1e-6, values).astype(np.float32)[:, None], legend)
    alpha = rgba[..., 3:]
    axes.imshow(rgba[..., :3] * alpha + 0.25 * (1 - alpha), aspect="auto", origin="lower", extent=(0, 1, low, high))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    ticks = dict(sorted(legend.ticks.items()))
    axes.set_yticks(list(ticks), [_wrapped(ticks[t]) for t in ticks], fontsize=7.5)
    axes.tick_params(length=2.5, pad=3)
    axes.set_ylim(low, high)
