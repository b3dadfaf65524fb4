"""Quantitative CT of a study: a table with one row per subject, and one with one row per landmark."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anatograph.errors import UserError
from anatograph.evaluation.densitometry.measures import laa950_from_noise, lung_voxels, noise_hu
from anatograph.evaluation.densitometry.zones import Neighbourhoods, lobe_zones, zones
from anatograph.execution.account import RunAccount
from anatograph.study.original_scan import original_scan
from anatograph.study.store import Study

NOISY = 0.02
"""Expected LAA-950 of a homogeneous lung from which a scan gets a note about noise."""


@dataclass(frozen=True, eq=False)
class DensitometryResult:
    """Result of `densitometry`."""

    table: pd.DataFrame
    """``subject_id``, ``ZONE_MEASURE`` …, ``noise_hu``, ``laa950_from_noise``; one row per subject."""
    landmarks: pd.DataFrame
    """``subject_id``, ``landmark``, measures; one row per landmark whose cube contains lung."""
    path: Path
    """``OUT.parquet``; ``OUT.landmarks.parquet`` lies beside it."""
    account: RunAccount
    """Failures and notes."""


def densitometry(
    study: str | Path,
    out: str | Path,
    *,
    lobes: str | Path | None = None,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> DensitometryResult:
    """Volume, mass and density of the whole lungs, of each side and third, of lobes and around each landmark.

    Measured on the voxels of the original scan, in unclipped HU, with padding left out; definitions and sources are in
    docs/densitometry.md. ``lobes`` is a folder of masks ``SUBJECT_ID.nii.gz`` (labels of lungmask's LTRCLobes); a
    subject without one has missing values. A subject whose scan cannot be read is a failure, the others are done.

    Raises:
        UserError: not a study, an ``out`` that is not Parquet, or no subject that can be measured.
    """
    opened, path = Study.open(study), Path(out)
    if path.suffix != ".parquet":
        raise UserError(f"{path} must be a Parquet file; give OUT.parquet.")
    folder = None if lobes is None else Path(lobes)
    if folder is not None and not folder.is_dir():
        raise UserError(f"There is no folder {folder} with lobe masks.")
    settings = {"study": str(study), "lobes": None if folder is None else str(folder), "workers": workers}
    rows: dict[str, dict[str, Any]] = {}
    regions: dict[str, list[dict[str, Any]]] = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with RunAccount("densitometry", settings, path) as account:

        def one(name: str) -> tuple[str, dict[str, Any] | str, list[dict[str, Any]]]:
            try:
                return name, *measure_subject(opened, name, folder)
            except UserError as error:
                return name, str(error), []

        names = opened.subject_ids
        with ThreadPoolExecutor(workers) as pool:
            for number, (name, row, around) in enumerate(pool.map(one, names), start=1):
                if isinstance(row, str):
                    account.fail(name, "densitometry", row)
                else:
                    rows[name], regions[name] = row, around
                if progress:
                    progress(name, number, len(names))
        if not rows:
            raise UserError(f"No subject of the study {study} could be measured; the account gives the reasons.")
        table = pd.DataFrame(list(rows.values()))
        landmarks = pd.DataFrame([row for around in regions.values() for row in around])
        for file, frame in ((path, table), (path.with_suffix(".landmarks.parquet"), landmarks)):
            part = file.with_name(f".{file.name}.{os.getpid()}.part")
            frame.to_parquet(part, index=False)
            part.replace(file)
            account.output(file)
        for note in _notes(table):
            account.note(note)
    return DensitometryResult(table, landmarks, path, account)


def measure_subject(
    study: Study, subject_id: str, lobes: Path | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One row of the table, and those of the landmarks.

    Raises:
        UserError: a scan or lobe mask that cannot be read, or lungs without a measured voxel.
    """
    volume, lungs = original_scan(study, subject_id)
    voxels = lung_voxels(volume.array, lungs.lungs, volume.frame.spacing)
    if not len(voxels.hu):
        raise UserError("all voxels inside the lung mask are padding; check the mask")
    found = zones(voxels, lungs)
    mask = None if lobes is None else lobes / f"{subject_id}.nii.gz"
    if mask is not None and mask.is_file():
        found |= lobe_zones(voxels, mask, volume.frame)
    row: dict[str, Any] = {"subject_id": subject_id}
    for zone, inside in found.items():
        row |= {f"{zone}_{name}": value for name, value in voxels.measure(inside).items()}
    noise = noise_hu(volume.array, lungs.lungs)
    row |= {"noise_hu": noise, "laa950_from_noise": laa950_from_noise(row["whole_median_hu"], noise)}
    subject, around = study.subject(subject_id), []
    near = Neighbourhoods(voxels, volume.frame, float(study.about["patch_size"]))
    for number, (landmark, present) in enumerate(zip(subject.landmarks, subject.present, strict=True)):
        cube = near.around(landmark) if present else np.zeros(0, dtype=np.int64)
        if len(cube):
            around.append({"subject_id": subject_id, "landmark": number, **voxels.measure(cube)})
    return row, around


def _notes(table: pd.DataFrame) -> list[str]:
    notes = []
    noisy = table[table["laa950_from_noise"] >= NOISY]
    if len(noisy):
        names = ", ".join(noisy["subject_id"].head(5)) + (" …" if len(noisy) > 5 else "")
        notes.append(
            f"LAA-950 of {len(noisy)} of {len(table)} scans is not reliable ({names}): noise alone would put "
            f"{100 * noisy['laa950_from_noise'].median():.0f} % of a homogeneous lung of their density below -950 HU; "
            "use a smoother reconstruction"
        )
    unsided = int(table["right_volume_ml"].isna().sum()) if "right_volume_ml" in table else len(table)
    if unsided:
        notes.append(f"{unsided} of {len(table)} lung masks do not distinguish right and left, so sides are missing")
    return notes
