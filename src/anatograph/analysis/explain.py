"""Where in the lungs a prediction comes from (eq. 10 of the paper), on the scan's own voxels."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.analysis.embedding_file import beside, parquet_path
from anatograph.analysis.heatmap import paint
from anatograph.analysis.linear import Probe, fit_probe
from anatograph.analysis.probe import Aligned, align, group_numbers
from anatograph.analysis.region_store import Regions
from anatograph.analysis.targets import Target, Task, read_target
from anatograph.errors import UserError
from anatograph.imaging.volume import Volume
from anatograph.runlog import RunAccount
from anatograph.study.cohort import read_cohort
from anatograph.study.store import Study

if TYPE_CHECKING:
    from anatograph.study.subject import StoredSubject


@dataclass(frozen=True, eq=False)
class Activation:
    """What each region of one subject says of a target."""

    subject_id: str
    """Who."""
    raw: NDArray[np.float64]
    """(N,) W h'_j + β; NaN where the scan does not reach.  Its mean over the regions is what the probe says of the
    subject: the log-odds of the class, or the standardised value."""
    meaning: str
    """What a high value means, in words."""
    probe: Probe
    """Fitted without this subject (and its group)."""

    @property
    def values(self) -> NDArray[np.float64]:
        """(N,) the sigmoid of ``raw``: above 0.5 the region speaks for it, below against."""
        from scipy.special import expit

        return np.asarray(expit(self.raw), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Explained:
    """What `explain` wrote."""

    maps: list[Path]
    """The NIfTI files."""
    activations: list[Activation]
    """In the same order."""
    account: RunAccount
    """Settings, failures and figures."""


def explain(
    study: str | Path,
    embeddings: str | Path,
    cohort: str | Path,
    target: str,
    subjects: Sequence[str] | str,
    out: str | Path,
    group: str | None = None,
    task: Task | None = None,
    class_name: str | None = None,
    log: bool = False,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Explained:
    """Heatmaps of what speaks for a target in the scans of some subjects.

    For each subject a probe is fitted on all others (without the subject's ``group``), and its weights are applied
    to each region: M_j = W h'_j + β, through a sigmoid.  For a continuous target the value is standardised first, so
    0.5 is the average person.  With more than two classes M_j sets the class against the mean of the others.  Writes
    ``ID_TARGET.nii.gz`` (float32 on the grid of the scan's file, 0 outside the lungs), ``ID_TARGET.png`` and
    ``ID_TARGET.csv`` (a row a landmark).

    Raises:
        UserError: files that do not belong together, a target that cannot be fitted, or no subject that worked.
    """
    wanted = [subjects] if isinstance(subjects, str) else list(dict.fromkeys(subjects))
    settings = {"study": str(study), "embeddings": str(embeddings), "cohort": str(cohort), "target": target,
                "subjects": wanted, "group": group, "class": class_name, "log": log, "seed": seed}  # fmt: skip
    folder = Path(out)
    with RunAccount("explain", settings, folder) as account:
        opened = Study.open(study)
        regions = Regions(beside(parquet_path(embeddings), "regions"))
        if regions.attributes.get("atlas_hash") != opened.atlas.hash:
            raise UserError(f"{embeddings} was made on another atlas than the study {study}; embed this study.")
        data = align(embeddings, cohort)
        chosen = read_target(data.table, target, task, log)
        groups = group_numbers(data.table, group) if group else None
        images = {row.subject_id: row.image for row in read_cohort(cohort).rows}
        maps, done = [], []
        for number, name in enumerate(wanted, start=1):
            try:
                found = activation(data, chosen, name, regions.of(name), groups, class_name, seed)
                maps.append(_draw(opened.subject(name), found, opened, folder, target, images.get(name), account))
            except UserError as error:
                if len(wanted) == 1:
                    raise
                account.fail(name, "explain", str(error))
                continue
            done.append(found)
            if progress:
                progress(name, number, len(wanted))
        if not maps:
            raise UserError(f"None of the subjects could be explained; the first: {account.failures[0].reason}")
        account.result(
            probes={a.subject_id: {"mean_activation": float(np.nanmean(a.raw)), "meaning": a.meaning} for a in done}
        )
    return Explained(maps, done, account)


def activation(
    data: Aligned,
    target: Target,
    subject_id: str,
    nodes: NDArray[np.float32],
    groups: NDArray[np.int64] | None = None,
    class_name: str | None = None,
    seed: int = 0,
) -> Activation:
    """M_j of one subject for a probe fitted on the others; ``nodes`` (N, F) are h', NaN where absent.

    Raises:
        UserError: an unknown class, or others that do not suffice to fit a probe.
    """
    names = data.table["subject_id"].tolist()
    held_out = np.array([name == subject_id for name in names])
    if groups is not None and held_out.any():
        held_out = groups == groups[names.index(subject_id)]
    note = f"{subject_id} is held out"
    others = target.keep(~held_out[target.rows], note)
    if len(others.rows) < 4 or len(np.unique(others.values)) < 2:
        raise UserError(
            f"{len(others.rows)} others with a value of '{target.name}' do not suffice to explain {subject_id}."
        )
    fitted_on = None if groups is None else groups[others.rows]
    probe = fit_probe(data.features[others.rows], others.values, len(others.classes), fitted_on, seed)
    h = nodes.astype(np.float64)
    there = np.asarray(np.isfinite(h).all(axis=1), dtype=np.bool_)
    scores = np.full((len(h), len(probe.weights)), np.nan)
    scores[there] = probe.scores(h[there])
    raw, meaning = _towards(scores, probe, others, class_name, there)
    return Activation(subject_id, raw, meaning, probe)


def _towards(
    scores: NDArray[np.float64], probe: Probe, target: Target, class_name: str | None, there: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], str]:
    """(N,) the score of the class (or of higher values), and what it means."""
    if not target.classes:
        if class_name is not None:
            raise UserError(f"'{target.name}' is a number and has no class '{class_name}'.")
        scale = probe.target_std or 1.0
        return (scores[:, 0] - probe.target_mean) / scale, f"higher {target.name} (0.5: average)"
    if class_name is not None and class_name not in target.classes:
        raise UserError(f"'{target.name}' has no class '{class_name}' among the others: {', '.join(target.classes)}.")
    if len(target.classes) == 2:
        index = 1 if class_name is None else target.classes.index(class_name)
        return scores[:, 0] * (1 if index == 1 else -1), f"{target.name} = {target.classes[index]} (0.5: neither way)"
    # The mean over the regions is the subject's own score, so the class that it is highest for is the predicted one.
    index = int(scores[there].mean(axis=0).argmax()) if class_name is None else target.classes.index(class_name)
    rest = np.delete(scores, index, axis=1).mean(axis=1)
    return scores[
        :, index
    ] - rest, f"{target.name} = {target.classes[index]} against the other classes (0.5: neither way)"


def _draw(
    subject: StoredSubject,
    found: Activation,
    study: Study,
    folder: Path,
    target: str,
    image: Path | None,
    account: RunAccount,
) -> Path:
    """Write a subject's files and return the NIfTI."""
    from anatograph.analysis.heatmap_picture import draw_heatmap
    from anatograph.imaging.writing import write_array

    if len(found.raw) != len(subject.landmarks):
        raise UserError(f"{found.subject_id} has other landmarks in the study than in the embeddings; embed anew.")
    lungs = subject.lungs()
    frame = subject.frame
    if not lungs.frame.same_grid(frame, 0.02):
        raise UserError(f"{subject.folder}: the lung mask is not on the scan's grid; preprocess this subject again.")
    heat = paint(found.values, subject.landmarks, study.atlas.patch_size, lungs.lungs, frame)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{found.subject_id}_{re.sub(r'[^A-Za-z0-9._-]+', '_', target)}"
    path = folder / f"{stem}.nii.gz"
    grid = Volume(np.broadcast_to(np.int16(0), frame.shape), frame, subject.stored_frame)
    write_array(path, heat, grid)
    table = pd.DataFrame(subject.landmarks, columns=["L_mm", "P_mm", "S_mm"])
    table.insert(0, "landmark", np.arange(len(table)))
    table.assign(activation=found.raw, value=found.values).to_csv(folder / f"{stem}.csv", index=False)
    scan = _scan(image, subject, account)
    title = f"{found.subject_id}: what speaks for {found.meaning}"
    draw_heatmap(folder / f"{stem}.png", heat, lungs, scan, title, found.meaning)
    for ending in (".nii.gz", ".png", ".csv"):
        account.output(folder / f"{stem}{ending}")
    return path


def _scan(image: Path | None, subject: StoredSubject, account: RunAccount) -> Volume | None:
    """The scan to draw on, on the grid of the study; None, and a note, where it is not to be had."""
    from anatograph.imaging.reading import read_volume
    from anatograph.imaging.resample import axis_aligned

    known = subject.about.get("source", {}).get("path")
    for path in (image, Path(known) if known else None):
        if path is None or not path.exists():
            continue
        try:
            volume = axis_aligned(read_volume(path))
        except UserError:
            continue
        if volume.frame.same_grid(subject.frame, 0.02):
            return volume
    account.note(f"the scan of {subject.subject_id} is not where it was, so its picture shows the lungs' outline only")
    return None
