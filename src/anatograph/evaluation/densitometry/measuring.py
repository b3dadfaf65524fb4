"""The measurements of one subject, and of one pair of breaths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.evaluation.densitometry.measures import LungVoxels, laa950_from_noise, lung_voxels, noise_hu
from anatograph.evaluation.densitometry.pairs import BreathPair
from anatograph.evaluation.densitometry.response import map_response
from anatograph.evaluation.densitometry.zones import Neighbourhoods, lobe_zones, zones
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.study.original_scan import original_scan
from anatograph.study.store import Study

Measured = tuple[dict[str, Any], list[dict[str, Any]]]
"""The row of a subject or pair, and the rows of its landmarks."""


def measure_subject(study: Study, subject_id: str, lobes: Path | None = None) -> Measured:
    """One row of the table, and those of the landmarks.

    Raises:
        UserError: a scan or lobe mask that cannot be read, or lungs without a measured voxel.
    """
    volume, lungs = original_scan(study, subject_id)
    voxels = _lung_voxels(volume, lungs)
    row: dict[str, Any] = {"subject_id": subject_id}
    for zone, inside in _zones(voxels, lungs, _lobe_mask(lobes, subject_id)).items():
        row |= {f"{zone}_{name}": value for name, value in voxels.measure(inside).items()}
    noise = noise_hu(volume.array, lungs.lungs)
    row |= {"noise_hu": noise, "laa950_from_noise": laa950_from_noise(row["whole_median_hu"], noise)}
    cubes = _cubes(study, subject_id, voxels, volume.frame)
    return row, [{"subject_id": subject_id, "landmark": number, **voxels.measure(cube)} for number, cube in cubes]


def measure_pair(study: Study, pair: BreathPair, lobes: Path | None = None) -> Measured:
    """One row of parametric response mapping, and those of the landmarks, on the expiratory scan's voxels.

    Raises:
        UserError: a scan or lobe mask that cannot be read, or whose map to the atlas was rejected.
    """
    for name in (pair.inspiration, pair.expiration):
        if study.subject(name).level == "reject":
            raise UserError(f"the breaths cannot be matched: {name} is at quality level reject")
    volume, lungs = original_scan(study, pair.expiration)
    voxels = _lung_voxels(volume, lungs)
    found = _zones(voxels, lungs, _lobe_mask(lobes, pair.expiration))
    cubes = _cubes(study, pair.expiration, voxels, volume.frame)
    deep, deep_lungs = original_scan(study, pair.inspiration)
    response = map_response(
        voxels,
        volume.frame,
        study.subject(pair.expiration).map(),
        deep,
        deep_lungs,
        study.subject(pair.inspiration).map(),
    )
    row: dict[str, Any] = {"subject_id": pair.inspiration, "prm_inside": response.inside}
    for zone, inside in found.items():
        row |= {f"{zone}_{name}": value for name, value in response.measure(inside).items()}
    return row, [
        {"subject_id": pair.inspiration, "landmark": number, **response.measure(cube)} for number, cube in cubes
    ]


def _lung_voxels(volume: Volume, lungs: Mask) -> LungVoxels:
    voxels = lung_voxels(volume.array, lungs.lungs, volume.frame.spacing)
    if not len(voxels.hu):
        raise UserError("all voxels inside the lung mask are padding; check the mask")
    return voxels


def _lobe_mask(lobes: Path | None, subject_id: str) -> Path | None:
    mask = None if lobes is None else lobes / f"{subject_id}.nii.gz"
    return mask if mask is not None and mask.is_file() else None


def _zones(voxels: LungVoxels, lungs: Mask, lobes: Path | None) -> dict[str, NDArray[np.bool_]]:
    found = zones(voxels, lungs)
    return found if lobes is None else found | lobe_zones(voxels, lobes, lungs.frame)


def _cubes(study: Study, subject_id: str, voxels: LungVoxels, frame: Frame) -> list[tuple[int, NDArray[np.int64]]]:
    """Landmarks whose cube contains lung, with the voxels of the cube."""
    subject = study.subject(subject_id)
    near = Neighbourhoods(voxels, frame, float(study.about["patch_size"]))
    cubes = [
        (number, near.around(landmark))
        for number, (landmark, present) in enumerate(zip(subject.landmarks, subject.present, strict=True))
        if present
    ]
    return [(number, cube) for number, cube in cubes if len(cube)]
