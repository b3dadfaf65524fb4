"""`anatograph.atlas`: an atlas of one pair of lungs or of a whole group, built and written to a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anatograph.anatomy.atlas import Atlas, build_atlas, build_atlas_from_path, default_atlas, save_atlas
from anatograph.anatomy.groupwise import MeanShape, distance
from anatograph.anatomy.registration import DeformableMap, load_map, register
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.execution.progress import Progress
from anatograph.imaging.lungs import segment_lungs
from anatograph.imaging.reading import read_mask, read_volume, write_mask
from anatograph.imaging.resample import axis_aligned
from anatograph.imaging.volume import Mask
from anatograph.study.cohort.table import CohortRow, read_cohort

FEWEST = 2
"""Subjects that a groupwise atlas needs."""
_WORK = "groupwise"
"""Folder inside OUT for what a later run continues from; removed when the atlas is finished."""
_COARSE, _FINE = 2.0, 1.0
"""Voxels in mm of the template between iterations, and of the finished atlas."""


def atlas(
    image_or_mask: str | Path,
    out: str | Path,
    lungs: str | Path | None = None,
    patch_size: int = 32,
    step: int = 26,
    min_coverage: float = 0.1,
    groupwise: bool = False,
    iterations: int = 4,
) -> Atlas:
    """Build an atlas from a lung mask, from a CT (with a given mask or a segmented one), or from a group of subjects.

    ``patch_size`` and ``step`` are in mm; a grid point is a landmark if more than ``min_coverage`` of its patch is
    lung. With ``groupwise``, ``image_or_mask`` is a cohort table, and the atlas is the mean shape of its lungs after
    ``iterations`` rounds, see `anatograph.anatomy.groupwise`; a run that was interrupted continues.

    Raises:
        UserError: an image that cannot be read or holds no lungs, sizes that leave no landmark, or a cohort with
            fewer than two usable subjects.
    """
    settings = {
        "image_or_mask": str(image_or_mask),
        "lungs": None if lungs is None else str(lungs),
        "patch_size": patch_size,
        "step": step,
        "min_coverage": min_coverage,
    }
    if groupwise:
        settings |= {"groupwise": True, "iterations": iterations}
        if lungs is not None:
            raise UserError("--lungs names the mask of one CT; with --groupwise the cohort table's column lungs does")
        if iterations < 1:
            raise UserError(f"a groupwise atlas takes at least 1 iteration, not {iterations}")
    with RunAccount("atlas", settings, out) as account:
        if groupwise:
            group = _Group(Path(image_or_mask), Path(out))
            mean = group.mean_lungs(iterations)
            built = build_atlas(mean, patch_size, step, min_coverage)
            notes: tuple[str, ...] = tuple(group.notes)
            account.result(subjects=group.used, distances_mm=[round(value, 3) for value in group.distances])
        else:
            built, notes = build_atlas_from_path(image_or_mask, lungs, patch_size, step, min_coverage)
        for note in notes:
            account.note(note)
        account.result(landmarks=len(built), hash=built.hash)
        account.output(save_atlas(built, out))
        if groupwise:
            account.output(_draw(built, Path(out) / "atlas.png", group))
            group.clear()
    return built


@dataclass
class _Group:
    """The subjects of a groupwise atlas, and what has been computed for them so far."""

    cohort: Path
    out: Path

    def __post_init__(self) -> None:
        self.rows = read_cohort(self.cohort).rows
        self.work = self.out / _WORK
        self.notes: list[str] = []
        self.said = 0
        self.distances: list[float] = []
        self.used = 0
        self.work.mkdir(parents=True, exist_ok=True)
        members = [[row.subject_id, str(row.image), str(row.lungs or "")] for row in self.rows]
        state = self.work / "cohort.json"
        if state.exists() and json.loads(state.read_text(encoding="utf-8")) != members:
            raise UserError(
                f"{self.work} belongs to a groupwise atlas of other subjects that was interrupted; "
                "remove the folder, or choose another output folder"
            )
        write_text(state, json.dumps(members))

    def mean_lungs(self, iterations: int) -> Mask:
        """The mean lungs of the group at 1 mm."""
        with Progress("groupwise atlas", len(self.rows) * (iterations + 1), "scan") as progress:
            members = [row for row in self.rows if self._has_lungs(row, progress)]
            self._tell(progress)
            template = default_atlas().lungs
            for number in range(iterations):
                mean, apart, reference = MeanShape(template), [], build_atlas(template)
                folder = self.work / f"iteration_{number + 1}"
                folder.mkdir(exist_ok=True)
                for row in members:
                    found = self._map(reference, row, folder)
                    if found is not None:
                        mean.add(read_mask(self._mask(row)), found)
                        apart.append(distance(template, found))
                    progress.step()
                    self._tell(progress)
                if len(apart) < FEWEST:
                    raise UserError(
                        f"{self.cohort}: only {len(apart)} of {len(self.rows)} subjects have two lungs that the "
                        f"template fits, and a groupwise atlas needs {FEWEST}; " + "; ".join(self.notes[:3])
                    )
                self.used = len(apart)
                self.distances.append(float(np.mean(apart)))
                place = f"the template of iteration {number}" if number else "the built-in atlas"
                progress.say(f"mean distance of {self.used} subjects from {place}: {self.distances[-1]:.2f} mm")
                template = mean.template(_FINE if number == iterations - 1 else _COARSE)
        return template

    def _tell(self, progress: Progress) -> None:
        """Print the notes that were not printed yet."""
        for note in self.notes[self.said :]:
            progress.say(f"note: {note}")
        self.said = len(self.notes)

    def clear(self) -> None:
        """Remove what a later run would have continued from."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _mask(self, row: CohortRow) -> Path:
        return self.work / f"{row.subject_id}_lungs.nii.gz"

    def _has_lungs(self, row: CohortRow, progress: Progress) -> bool:
        """Whether a subject has two lungs; its mask is then in the working folder."""
        progress.step()
        if self._mask(row).exists():
            return True
        try:
            if row.lungs is None:
                mask = segment_lungs(axis_aligned(read_volume(row.image))).mask
            else:
                mask = read_mask(row.lungs)
        except UserError as error:
            self.notes.append(f"{row.subject_id} left out: {error}")
            return False
        if not {Mask.RIGHT, Mask.LEFT} <= set(np.unique(mask.array).tolist()):
            self.notes.append(f"{row.subject_id} left out: its mask does not show two lungs apart")
            return False
        part = self._mask(row).with_name(f"{row.subject_id}_part.nii.gz")
        write_mask(part, mask)
        part.replace(self._mask(row))
        return True

    def _map(self, template: Atlas, row: CohortRow, folder: Path) -> DeformableMap | None:
        """The map from the template to a subject, from the working folder if an earlier run found it."""
        path = folder / f"{row.subject_id}.h5"
        if path.exists():
            known = load_map(path)
            return known if isinstance(known, DeformableMap) else None
        try:
            result = register(template, read_mask(self._mask(row)))
        except UserError as error:
            self._leave_out(row, str(error))
            return None
        if result.quality["poor"] or not isinstance(result.map, DeformableMap):
            self._leave_out(row, str(result.quality["reasons"]))
            return None
        result.map.save(folder / f"{row.subject_id}_part.h5")
        (folder / f"{row.subject_id}_part_inverse.h5").rename(folder / f"{row.subject_id}_inverse.h5")
        (folder / f"{row.subject_id}_part.h5").rename(path)
        return result.map

    def _leave_out(self, row: CohortRow, why: str) -> None:
        note = f"{row.subject_id} left out: {why}"
        if note not in self.notes:
            self.notes.append(note)


def _draw(built: Atlas, path: Path, group: _Group) -> Path:
    """A picture of the atlas: slices of its lungs with the landmarks near them, and the distances by iteration."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from anatograph.imaging.views import AXIAL, CORONAL, SAGITTAL

    figure = Figure(figsize=(13, 4.4), dpi=80, facecolor="white")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, 4)
    lungs = built.lungs
    index = np.argwhere(lungs.lungs)
    low, high = lungs.frame.to_lps(index.min(axis=0)[::-1]), lungs.frame.to_lps(index.max(axis=0)[::-1])
    centre = (low + high) / 2
    centre[0] = low[0] + 0.25 * (high[0] - low[0])
    for one, view in zip(axes, (CORONAL, AXIAL, SAGITTAL), strict=False):
        across, up = (np.arange(low[axis] - 10, high[axis] + 10) for axis in (view.across, view.up))
        inside = lungs.contains(view.points(float(centre[view.through]), across, up).reshape(-1, 3))
        shown = inside.reshape(len(up), len(across)).astype(float)
        one.contourf(across, up, shown, levels=[0.5, 1.5], colors=["#bcd8ea"])
        near = np.abs(built.landmarks[:, view.through] - centre[view.through]) <= built.step / 2
        one.plot(built.landmarks[near, view.across], built.landmarks[near, view.up], ".", color="#c2185b", markersize=4)
        view.limits(one, low - 12, high + 12)
        one.set_aspect("equal")
        one.set_title(f"{view.name} ({view.sides[0]} – {view.sides[1]})", fontsize=10)
        one.set_xticks([])
        one.set_yticks([])
    axes[3].plot(np.arange(len(group.distances)), group.distances, "o-", color="#1f5f8b")
    axes[3].set_xticks(np.arange(len(group.distances)))
    axes[3].set_xlabel("iterations", fontsize=9)
    axes[3].set_title("mean distance to the subjects, mm", fontsize=10)
    figure.suptitle(f"Groupwise atlas of {group.used} subjects, {len(built)} landmarks", fontsize=12)
    figure.tight_layout()
    figure.savefig(path, format="png")
    return path
