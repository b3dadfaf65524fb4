"""Pictures of subjects and of regions side by side, drawn from what a study stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.explanation.mosaic import slices_of_patches
from anatograph.imaging.views import AXIAL, CORONAL, View, draw_grey
from anatograph.study.store import Study

if TYPE_CHECKING:
    import pandas as pd

_INK = "#1a1a1a"


def draw_subjects(path: Path, study: Study, subject: str, nearest: pd.DataFrame) -> Path:
    """Coronal and axial slices through the middle of the lungs of a subject and of those nearest to it."""
    names = [subject, *nearest["subject_id"]]
    figure = _figure(2.0 * len(names), 4.6)
    grid = figure.add_gridspec(2, len(names), left=0.01, right=0.99, top=0.82, bottom=0.01, wspace=0.03, hspace=0.03)
    for column, name in enumerate(names):
        shown = _slices(study, name)
        for row, view in enumerate((CORONAL, AXIAL)):
            axes = figure.add_subplot(grid[row, column])
            _blank(axes)
            if view not in shown:
                axes.text(0.5, 0.5, "not in\nthe study", ha="center", va="center", transform=axes.transAxes, fontsize=8)
                continue
            axes.imshow(shown[view], cmap="gray", vmin=0, vmax=255, origin="upper" if view.downwards else "lower",
                        interpolation="antialiased")  # fmt: skip
        label = name if column == 0 else f"{name}\ndistance {nearest['distance'].iloc[column - 1]:.2f}"
        figure.text(0.01 + 0.98 * (column + 0.5) / len(names), 0.835, label, ha="center", va="bottom", fontsize=8,
                    color=_INK, weight="bold" if column == 0 else "normal")  # fmt: skip
    _title(figure, f"{subject} (left) and the most similar subjects", "slices through the middle of the lungs, "
           "lung window; the patient's right is on the left")  # fmt: skip
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
            _show(axes, np.asarray(patch[len(patch) // 2]), downwards=True)
            axes.set_title(name, fontsize=7, color=_INK, pad=2, weight="bold" if column == 0 else "normal")
    _title(figure, f"Regions of {subject} (left) and the most similar ones",
           f"axial slices through the middle of {study.atlas.patch_size} mm patches at the same landmark")  # fmt: skip
    figure.savefig(path, format="png", metadata={"Software": "anatograph"})
    return path


def _slices(study: Study, name: str) -> dict[View, NDArray[np.uint8]]:
    """Grey values of a subject's slices; none where the study lacks it."""
    try:
        subject = study.subject(name)
        return {one.view: one.grey for one in subject.slices() or slices_of_patches(subject, subject.lungs())}
    except (UserError, ValueError):
        return {}


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


def _show(axes: Any, hu: NDArray[Any], downwards: bool) -> None:
    draw_grey(axes, hu, origin="upper" if downwards else "lower", interpolation="antialiased")
