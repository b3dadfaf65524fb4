"""The original scan of a study's subject, with the study's lung mask on its voxels."""

from __future__ import annotations

from pathlib import Path

from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from anatograph.imaging.resample import axis_aligned, resample_labels
from anatograph.imaging.volume import Mask, Volume
from anatograph.study.store import Study


def original_scan(study: Study, subject_id: str) -> tuple[Volume, Mask]:
    """The scan in unclipped HU (nothing below -1024), axes along L, P and S, and the lungs on the same grid.

    Raises:
        UserError: the scan is no longer where the study found it, or the lung mask lies outside it.
    """
    subject = study.subject(subject_id)
    source = Path(str(subject.about["source"].get("path", "")))
    if not source.exists():
        raise UserError(f"{source} no longer exists")
    volume = axis_aligned(read_volume(source), study.settings.interpolation)
    lungs = subject.lungs()
    if not lungs.frame.same_grid(volume.frame, 0.02):
        lungs = Mask(resample_labels(lungs.array, lungs.frame, volume.frame), volume.frame)
    if not lungs.lungs.any():
        raise UserError(f"the study's lung mask lies outside {source}; preprocess this subject again")
    return volume, lungs
