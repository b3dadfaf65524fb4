"""The scan of a subject, from its file or from what the study holds of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from anatograph.imaging.resample import axis_aligned
from anatograph.imaging.volume import Frame, Volume
from anatograph.study.subject import StoredSubject


def find_scan(subject: StoredSubject, image: Path | None) -> Volume | None:
    """The scan on the study's grid, from the cohort table or its original place; None if it cannot be found or read."""
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
    return None


def from_patches(subject: StoredSubject, patch_size: int) -> Volume:
    """The parts of the scan that the study holds, at 1 mm; air where no patch lies."""
    centres = subject.landmarks[subject.present]
    half = patch_size / 2
    low = np.floor(centres.min(axis=0) - half)
    size = np.ceil(centres.max(axis=0) + half - low).astype(int) + 1
    array = np.full(tuple(size[::-1]), -1024, dtype=np.int16)
    for number in np.flatnonzero(subject.present):
        x, y, z = np.rint(subject.landmarks[number] - half - low).astype(int)
        array[z : z + patch_size, y : y + patch_size, x : x + patch_size] = subject.patches[number]
    origin = low + 0.5
    return Volume(array, Frame(array.shape, (1.0, 1.0, 1.0), (float(origin[0]), float(origin[1]), float(origin[2]))))
