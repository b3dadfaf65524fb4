"""Pictures of people and of regions side by side, drawn from stored patches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.views import draw_grey
from anatograph.study.store import Study
from anatograph.study.subject import StoredSubject

if TYPE_CHECKING:
    import pandas as pd

_INK = "#1a1a1a"


def draw_people(path: Path, study: Study, subject: str, people: pd.DataFrame) -> Path:
    """Coronal and axial slices through the middle of the lungs of a subject and of those nearest to it."""
    names = [subject, *people["subject_id"]]
    figure = _figure(2.0 * len(names), 4.6)
    grid = figure.add_gridspec(2, len(names), left=0.01, right=0.99, top=0.82, bottom=0.01, wspace=0.03, hspace=0.03)
    for column, name in enumerate(names):
        for row, through in enumerate((1, 2)):
            axes = figure.add_subplot(grid[row, column])
            _blank(axes)
            try:
                one = study.subject(name)
            except UserError:
                axes.text(0.5, 0.5, "not in\nthe study", ha="center", va="center", transform=axes.transAxes, fontsize=8)
                continue
            _show(axes, lung_slice(one, study.atlas.patch_size, through), flip=through == 1)
        label = name if column == 0 else f"{name}\ndistance {people['distance'].iloc[column - 1]:.2f}"
        figure.text(0.01 + 0.98 * (column + 0.5) / len(names), 0.835, label, ha="center", va="bottom", fontsize=8,
                    color=_INK, weight="bold" if column == 0 else "normal")  # fmt: skip
    _title(figure, f"{subject} (left) and the people most like it", "patches as the network sees them, lung window; "
           "the patient's right is on the left")  # fmt: skip
    figure.savefig(path, format="png", metadata={"Software": "anatograph"})
    return path


def draw_regions(path: Path, study: Study, subject: str, regions: pd.DataFrame) -> Path:
    """For each region of a subject: its patch and those most like it, a row a region, axial slices of 32 mm."""
    groups = [(j, regions[regions["landmark"] == j]) for j in regions["landmark"].unique().tolist()]
    columns = 1 + int(regions["rank"].max())
    figure = _figure(1.35 * columns + 1.7, 1.45 * len(groups) + 0.75)
    wide, tall = figure.get_size_inches()
    for row, (landmark, group) in enumerate(groups):
        y = 1 - (0.75 + 1.45 * (row + 1)) / tall + 0.1 / tall
        place = str(group["place"].iloc[0]).replace(", ", "\n")
        figure.text(0.1 / wide, y + 0.6 / tall, f"{place}\nlandmark {landmark}", fontsize=8, va="center", color=_INK)
        for column, name in enumerate([subject, *group["subject_id"]]):
            axes = figure.add_axes(((1.4 + 1.35 * column) / wide, y, 1.2 / wide, 1.2 / tall))
            _blank(axes)
            patch = study.subject(name).patches[int(landmark)]
            _show(axes, np.asarray(patch[len(patch) // 2]), flip=False)
            axes.set_title(name, fontsize=7, color=_INK, pad=2, weight="bold" if column == 0 else "normal")
    _title(figure, f"Regions of {subject} (left) and those most like them",
           f"axial slices through the middle of {study.atlas.patch_size} mm patches at the same landmark")  # fmt: skip
    figure.savefig(path, format="png", metadata={"Software": "anatograph"})
    return path


def lung_slice(subject: StoredSubject, size: int, through: int, step: float = 1.5) -> NDArray[np.float64]:
    """A slice in HU through the middle of the landmarks, put together from the stored patches; NaN between them.

    ``through`` is the axis looked along (0 L, 1 P, 2 S). Pixels of ``step`` mm; rows and columns grow along the other
    two axes, the later one in the rows. Each pixel is taken from the patch whose middle is nearest.
    """
    marks = subject.landmarks
    across, up = [axis for axis in range(3) if axis != through]
    low, high = marks.min(axis=0) - size / 2, marks.max(axis=0) + size / 2
    place = float((marks[:, through].min() + marks[:, through].max()) / 2)
    h, v = np.arange(low[across], high[across], step), np.arange(low[up], high[up], step)
    picture = np.full((len(v), len(h)), np.nan)
    nearest = np.full(picture.shape, np.inf)
    near = np.flatnonzero((np.abs(marks[:, through] - place) < size / 2) & subject.present)
    patches = subject.patches
    for j in near:
        offset_h, offset_v = h - marks[j, across], v - marks[j, up]
        columns, rows = np.abs(offset_h) < size / 2, np.abs(offset_v) < size / 2
        if not (columns.any() and rows.any()):
            continue
        index: list[Any] = [0, 0, 0]
        index[2 - through] = int(np.floor(place - marks[j, through] + size / 2))
        index[2 - up] = np.floor(offset_v[rows] + size / 2).astype(int)[:, None]
        index[2 - across] = np.floor(offset_h[columns] + size / 2).astype(int)[None, :]
        values = np.asarray(patches[j])[tuple(index)]
        far = np.maximum(np.abs(offset_v[rows])[:, None], np.abs(offset_h[columns])[None, :])
        far = np.maximum(far, abs(place - marks[j, through]))
        block = np.ix_(rows, columns)
        better = far < nearest[block]
        picture[block] = np.where(better, values, picture[block])
        nearest[block] = np.where(better, far, nearest[block])
    return picture


def _figure(wide: float, tall: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, tall), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _title(figure: Any, title: str, under: str) -> None:
    wide, tall = figure.get_size_inches()
    figure.text(0.1 / wide, 1 - 0.08 / tall, title, fontsize=10.5, weight="bold", va="top", color=_INK)
    figure.text(0.1 / wide, 1 - 0.3 / tall, under, fontsize=7.5, va="top", color="#555555")


def _blank(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#e8e8e8")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _show(axes: Any, picture: NDArray[Any], flip: bool) -> None:
    """``flip`` where rows grow upwards."""
    draw_grey(axes, picture, origin="lower" if flip else "upper", interpolation="antialiased")
