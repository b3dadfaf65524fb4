"""The picture that shows at a glance whether a subject was preprocessed correctly."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.imaging.views import SAGITTAL, View, draw_outline, draw_scan
from anatograph.study.quality.slices import VIEWS, extent
from anatograph.study.subject import PreparedSubject

_LUNGS, _ATLAS, _LANDMARKS = "#ffd400", "#00d5ff", "#ff5fa2"
_COLUMNS = (1.0, 1.0, 1.0, 0.8)
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.01, 0.99, 0.86, 0.07, 0.03
"""Margins of the grid as shares of the picture, and the gap between columns as a share of their mean width."""


def slices_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom pixel of the three slices in a picture of this size, without title and figures."""
    column = (_RIGHT - _LEFT) / (len(_COLUMNS) + _GAP * (len(_COLUMNS) - 1))
    widths = len(_COLUMNS) * column * sum(_COLUMNS[:3]) / sum(_COLUMNS)
    right = _LEFT + widths + 2 * _GAP * column
    return 0, int((1 - _TOP) * height), round(right * width), round((1 - _BOTTOM) * height)


def draw_qc(subject: PreparedSubject, atlas: Atlas, path: Path) -> None:
    """Write a PNG: three slices with the lung mask, the mapped atlas and the landmarks, and the quality figures.

    The patient's right is on the left. A flagged subject has a red frame and its flags in words.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), dpi=80, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, len(_COLUMNS), width_ratios=_COLUMNS, left=_LEFT, right=_RIGHT, top=_TOP, bottom=_BOTTOM, wspace=_GAP
    )
    box = extent(subject.lungs)
    for column, view in enumerate(VIEWS):
        name = "sagittal, right lung" if view is SAGITTAL else view.name
        _draw_view(figure.add_subplot(grid[0, column]), subject, atlas, view, name, box)
    _write_figures(figure.add_subplot(grid[0, 3]), subject)
    flagged = bool(subject.flags)
    title = f"{subject.subject_id or 'scan'}   lungs: {subject.lung_method}"
    figure.text(0.01, 0.93, title, fontsize=13, weight="bold")
    for x, colour, name in (
        (0.44, _LUNGS, "lung mask"),
        (0.54, _ATLAS, "atlas, mapped"),
        (0.67, _LANDMARKS, "landmarks"),
    ):
        figure.text(x, 0.93, f"■ {name}", color=colour, fontsize=11, weight="bold")
    if flagged:
        figure.text(0.8, 0.93, "FLAGGED", color="#c00000", fontsize=12, weight="bold")
        figure.patch.set_edgecolor("#c00000")
        figure.patch.set_linewidth(8)
    figure.savefig(path, format="png", edgecolor=figure.get_edgecolor())


def _draw_view(
    axes: Any,
    subject: PreparedSubject,
    atlas: Atlas,
    view: View,
    name: str,
    box: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
) -> None:
    centre, low, high = box
    frame = subject.volume.frame
    index = int(frame.nearest(centre)[0][view.through])
    place = frame.origin[view.through] + index * frame.spacing[view.through]
    axes.set_facecolor("black")
    draw_scan(axes, subject.volume, view, index, aspect="equal")
    draw_outline(axes, subject.lungs, view, index, colors=_LUNGS, linewidths=0.9)
    _draw_atlas(axes, subject, atlas, view, place, (low, high))
    near = np.abs(subject.landmarks[:, view.through] - place) <= atlas.step / 2
    marks = subject.landmarks[near]
    axes.plot(marks[:, view.across], marks[:, view.up], ".", color=_LANDMARKS, markersize=3.5)
    view.limits(axes, low, high)
    axes.set_xticks([])
    axes.set_yticks([])
    side = "anterior left" if view.across == 1 else "patient's right on the left"
    axes.set_xlabel(f"{name} ({side})", fontsize=8.5)


def _draw_atlas(
    axes: Any,
    subject: PreparedSubject,
    atlas: Atlas,
    view: View,
    place: float,
    box: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    """Outline of the atlas's lungs where the map puts them, on a grid of 2 mm."""
    low, high = box
    h, v = np.arange(low[view.across], high[view.across], 2.0), np.arange(low[view.up], high[view.up], 2.0)
    points = view.points(place, h, v).reshape(-1, 3)
    inside = atlas.lungs.contains(subject.map.to_atlas(points)).reshape(len(v), len(h))
    if inside.any():
        axes.contour(h, v, inside, levels=[0.5], colors=_ATLAS, linewidths=0.9, linestyles="dashed")


def _write_figures(axes: Any, subject: PreparedSubject) -> None:
    axes.axis("off")
    quality = subject.quality
    lines = []
    for label, name, form in (
        ("lungs", "lungs_volume_ml", "{:.0f} ml"),
        ("left / right", "lungs_left_right_ratio", "{:.2f}"),
        ("Dice of the mapped atlas", "registration_dice", "{:.3f}"),
        ("landmarks", "landmarks", "{}"),
        ("  centre outside the lungs", "landmarks_outside_lungs", "{}"),
        ("  patch outside the scan", "landmarks_outside_scan", "{}"),
        ("edges", "edges", "{}"),
        ("isolated landmarks", "isolated_nodes", "{}"),
    ):
        if name in quality:
            lines.append(f"{label}: {form.format(quality[name])}")
    spacing = " × ".join(f"{value:.2f}" for value in subject.volume.spacing)
    lines.append(f"voxels: {spacing} mm")
    axes.text(0.02, 1.0, "\n".join(lines), va="top", fontsize=9.5, linespacing=1.5, transform=axes.transAxes)
    if subject.flags:
        words = "\n".join(textwrap.fill(f"• {flag}", 40, subsequent_indent="  ") for flag in subject.flags)
        axes.text(0.02, 0.0, words, va="bottom", fontsize=9, color="#c00000", transform=axes.transAxes)
