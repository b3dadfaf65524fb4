"""The scans in a folder that no cohort table describes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from anatograph.errors import UserError
from anatograph.imaging.dicom.headers import looks_like_dicom, quiet
from anatograph.imaging.writing import volume_name
from anatograph.study.cohort.table import CohortRow
from anatograph.study.identifiers import id_from

_MASK = "_lungs"
"""``NAME_lungs.nii.gz`` is the lung mask of ``NAME.nii.gz``."""
_TAGS = ["PatientID", "StudyInstanceUID", "Modality", "ImageType"]
_LOOKED_AT = 200
"""Files of a subfolder among which a DICOM image is looked for."""


def scans_in(folder: Path) -> list[CohortRow]:
    """The scans of a folder, in the order of their names; empty where it is a single DICOM scan.

    A scan is a volume file directly in the folder (``NAME_lungs`` beside ``NAME`` is its mask), or a subfolder with
    DICOM files, where the subfolders hold scans of several patients or studies: those of one study are its series,
    among which the reader chooses.

    Raises:
        UserError: two scans would get the same name.
    """
    entries = sorted(folder.iterdir())
    if any(entry.is_file() and looks_like_dicom(entry) for entry in entries if volume_name(entry) is None):
        return []
    files = {name: entry for entry in entries if entry.is_file() and (name := volume_name(entry)) is not None}
    masks = {stem: files[stem + _MASK] for stem in files if stem + _MASK in files}
    scans = [(path, masks.get(stem)) for stem, path in files.items() if path not in masks.values()]
    series = {entry: key for entry in entries if entry.is_dir() and (key := _patient_and_study(entry)) is not None}
    if len(set(series.values())) > 1 or (series and scans):
        scans += [(path, None) for path in series]
    rows = [CohortRow(id_from(path), path, mask) for path, mask in sorted(scans)]
    seen: dict[str, Path] = {}
    for row in rows:
        if row.subject_id in seen:
            raise UserError(
                f"{folder}: {seen[row.subject_id].name} and {row.image.name} would both be called {row.subject_id}; "
                "rename one, or give a cohort table."
            )
        seen[row.subject_id] = row.image
    return rows


def _patient_and_study(folder: Path) -> tuple[str, str] | None:
    """PatientID and StudyInstanceUID of the first slice of a CT in a folder or below it; None where it has none.

    Localizers and objects of other modalities are not scans of their own, whatever study they name.
    """
    with quiet():
        for path in islice(_files(folder), _LOOKED_AT):
            if not looks_like_dicom(path):
                continue
            try:
                header = pydicom.dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
            except (InvalidDicomError, OSError, ValueError, KeyError, AttributeError):
                continue
            kinds = header.get("ImageType") or ()
            if header.get("Modality", "CT") != "CT" or "LOCALIZER" in ([kinds] if isinstance(kinds, str) else kinds):
                continue
            return str(header.get("PatientID", "")), str(header.get("StudyInstanceUID", ""))
    return None


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder, in the order of their names."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
