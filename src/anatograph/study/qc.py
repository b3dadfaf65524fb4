"""The picture by which a person sees at a glance whether a subject came out right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.study.subject import PreparedSubject

LUNG_WINDOW = (-1350.0, 150.0)
"""HU shown black and white."""
_MARGIN = 25.0
"""mm shown around the lungs."""
_LUNGS, _ATLAS, _LANDMARKS = "#ffd400", "#00d5ff", "#ff5fa2"
# Name, axis looked along, horizontal and vertical axis (LPS), whether the vertical axis grows downwards.
_VIEWS = (("coronal", 1, 0, 2, False), ("axial", 2, 0, 1, True), ("sagittal, right lung", 0, 1, 2, False))


def draw_qc(subject: PreparedSubject, atlas: Atlas, path: Path) -> None:
    """Write a PNG: three slices with the lung mask, the mapped atlas and the landmarks, and the quality figures.

    The patient's right is on the left. A flagged subject has a red frame and its flags in words.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), dpi=80, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, 4, width_ratios=(1, 1, 1, 0.8), left=0.01, right=0.99, top=0.86, bottom=0.07, wspace=0.03
    )
    centre, low, high = _extent(subject)
    for column, view in enumerate(_VIEWS):
        axes = figure.add_subplot(grid[0, column])
        _draw_view(axes, subject, atlas, view, centre, low, high)
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
        figure.text(0.8, 0.93, "LOOK AT THIS ONE", color="#c00000", fontsize=12, weight="bold")
        figure.patch.set_edgecolor("#c00000")
        figure.patch.set_linewidth(8)
    figure.savefig(path, format="png", edgecolor=figure.get_edgecolor())


def _extent(subject: PreparedSubject) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Point that the slices go through and the box shown, LPS mm; the sagittal slice goes through the right lung."""
    mask = subject.lungs
    boxes = [np.flatnonzero(mask.lungs.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    low = mask.frame.to_lps([box[0] for box in boxes])
    high = mask.frame.to_lps([box[-1] for box in boxes])
    centre = (low + high) / 2
    centre[0] = low[0] + 0.25 * (high[0] - low[0])
    return centre, low - _MARGIN, high + _MARGIN


def _draw_view(
    axes: Any,
    subject: PreparedSubject,
    atlas: Atlas,
    view: tuple[str, int, int, int, bool],
    centre: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> None:
    name, through, across, up, down = view
    frame = subject.volume.frame
    index = np.rint(frame.to_index(centre)).astype(int)
    place = frame.origin[through] + index[through] * frame.spacing[through]
    image = np.take(subject.volume.array, index[through], axis=2 - through)
    lungs = np.take(subject.lungs.array, index[through], axis=2 - through) > 0
    h = frame.origin[across] + np.arange(frame.shape[2 - across]) * frame.spacing[across]
    v = frame.origin[up] + np.arange(frame.shape[2 - up]) * frame.spacing[up]
    half = (frame.spacing[across] / 2, frame.spacing[up] / 2)
    extent = (h[0] - half[0], h[-1] + half[0], v[0] - half[1], v[-1] + half[1])
    axes.set_facecolor("black")
    axes.imshow(
        image, cmap="gray", vmin=LUNG_WINDOW[0], vmax=LUNG_WINDOW[1], extent=extent, origin="lower", aspect="equal"
    )
    if lungs.any() and not lungs.all():
        axes.contour(h, v, lungs, levels=[0.5], colors=_LUNGS, linewidths=0.9)
    _draw_atlas(axes, subject, atlas, through, across, up, place, low, high)
    near = np.abs(subject.landmarks[:, through] - place) <= atlas.step / 2
    axes.plot(subject.landmarks[near, across], subject.landmarks[near, up], ".", color=_LANDMARKS, markersize=3.5)
    axes.set_xlim(low[across], high[across])
    axes.set_ylim((high[up], low[up]) if down else (low[up], high[up]))
    axes.set_xticks([])
    axes.set_yticks([])
    side = "anterior left" if across == 1 else "patient's right on the left"
    axes.set_xlabel(f"{name} ({side})", fontsize=8.5)


def _draw_atlas(
    axes: Any,
    subject: PreparedSubject,
    atlas: Atlas,
    through: int,
    across: int,
    up: int,
    place: float,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> None:
    """Outline of the atlas's lungs where the map puts them, on a grid of 2 mm."""
    h, v = np.arange(low[across], high[across], 2.0), np.arange(low[up], high[up], 2.0)
    points = np.empty((len(v), len(h), 3))
    points[..., through], points[..., across], points[..., up] = place, h[None, :], v[:, None]
    mask = atlas.lungs
    index = np.rint(mask.frame.to_index(subject.map.to_atlas(points.reshape(-1, 3)))).astype(np.intp)
    size = np.asarray(mask.frame.shape[::-1])
    within = ((index >= 0) & (index < size)).all(axis=1)
    x, y, z = np.clip(index, 0, size - 1).T
    inside = (within & (mask.array[z, y, x] > 0)).reshape(len(v), len(h))
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
        import textwrap

        words = "\n".join(textwrap.fill(f"• {flag}", 40, subsequent_indent="  ") for flag in subject.flags)
        axes.text(0.02, 0.0, words, va="bottom", fontsize=9, color="#c00000", transform=axes.transAxes)
