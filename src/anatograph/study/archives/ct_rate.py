"""CT-RATE: chest CTs with reports, whose files hold Hounsfield units in one version and stored values in the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from anatograph.errors import UserError, counted
from anatograph.imaging.dicom.headers import quiet
from anatograph.study.archives.labels import number, read_labels
from anatograph.study.archives.table import Made, write_recipe_table
from anatograph.study.sources.rows import years_of

_VOLUME = re.compile(r"((?:train|valid)_\d+)_([a-z]+)_(\d+)\.nii\.gz")
_CHECKED = 24
"""Volumes of a folder whose values are read, evenly spread."""
_AIR, _LOWEST = -900.0, -1100.0
"""HU: some of a chest CT is below the first, and hardly any of what is not padding below the second."""


def ct_rate(folder: Path, out: Path) -> Made:
    """Write the table of one volume for each scan below ``folder``, and refuse volumes that are not in HU.

    ``folder`` holds ``metadata/*_metadata.csv`` (``VolumeName``, ``RescaleSlope``, ``RescaleIntercept`` …), optionally
    ``multi_abnormality_labels/*.csv``, and volumes ``train_1_a_1.nii.gz`` at any depth.  The first version (``train``,
    ``valid``) holds stored values, to which the slope and intercept of the metadata must still be applied; the later
    one (``train_fixed``, ``valid_fixed``) holds HU.  Nothing is assumed: of evenly spread volumes the values are
    compared with what they would be in either case, and the table is written only where all are in HU.

    Raises:
        UserError: no metadata, a volume that it does not list, stored values in place of HU, or values that fit both.
    """
    metadata = _tables(folder / "metadata", "volumename")
    if not metadata:
        raise UserError(
            f"{folder} has no metadata/*_metadata.csv; without it nothing says whether the values are HU. Download it."
        )
    labels = _tables(folder / "multi_abnormality_labels", "volumename")
    volumes: dict[str, tuple[str, Path]] = {}
    for file in sorted(folder.rglob("*.nii.gz")):
        if match := _VOLUME.fullmatch(file.name):
            volumes.setdefault(f"{match[1]}_{match[2]}", (match[1], file))
    if not volumes:
        raise UserError(f"{folder} holds no volume such as train_1_a_1.nii.gz; give the folder of the data set.")
    unknown = [file.name for _, file in volumes.values() if file.name not in metadata]
    if unknown:
        raise UserError(
            f"The metadata does not list {counted(len(unknown), 'volume')} ({', '.join(unknown[:3])}); "
            "download it again."
        )
    checked = _refuse_stored_values([file for _, file in volumes.values()], metadata)
    rows: list[dict[str, Any]] = []
    for patient, file in volumes.values():
        about = metadata[file.name]
        findings = {
            _column(key): number(value) for key, value in labels.get(file.name, {}).items() if key != "volumename"
        }
        rows.append({
            "subject_id": file.name.removesuffix(".nii.gz"), "image": file, "patient": patient,
            "sex": about.get("patientsex") or None, "age": years_of(str(about.get("patientage", ""))),
            "manufacturer": about.get("manufacturer") or None, **findings,
        })  # fmt: skip
    patients = len({row["patient"] for row in rows})
    notes = [
        f"{counted(len(rows), 'scan')} of {counted(patients, 'patient')}, the first reconstruction of each",
        f"values of {counted(checked, 'volume')} checked: they are in HU",
        "patients have several scans: give --group patient to evaluate",
    ]
    return write_recipe_table("ct-rate", rows, out, notes)


def _refuse_stored_values(files: list[Path], metadata: dict[str, dict[str, str]]) -> int:
    """Compare values with the metadata and return the number of volumes checked."""
    step = max(1, len(files) // _CHECKED)
    chosen = files[::step]
    for file in chosen:
        slope, intercept = (number(metadata[file.name].get(key)) for key in ("rescaleslope", "rescaleintercept"))
        if slope is None or intercept is None:
            raise UserError(f"The metadata has no RescaleSlope and RescaleIntercept of {file.name}; download it again.")
        values = _middle_slice(file)
        as_they_are, rescaled = _looks_like_hu(values), _looks_like_hu(slope * values + intercept)
        if (slope, intercept) == (1.0, 0.0):
            rescaled = as_they_are
        elif as_they_are and rescaled:
            raise UserError(
                f"{file}: its values fit HU with and without rescaling; use the fixed version of the data set."
            )
        if not as_they_are:
            why = "are stored values, not HU" if rescaled else "are HU neither as they are nor rescaled by the metadata"
            raise UserError(
                f"{file}: its values {why}; download the fixed version (train_fixed, valid_fixed) and give its folder."
            )
    return len(chosen)


def _middle_slice(file: Path) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        with quiet():
            reader.ReadImageInformation()
            x, y, z = reader.GetSize()[:3]
            reader.SetExtractSize([x, y, 1])
            reader.SetExtractIndex([0, 0, z // 2])
            return sitk.GetArrayFromImage(reader.Execute()).astype(np.float64)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{file} cannot be read; download it again.") from error


def _looks_like_hu(values: Any) -> bool:
    """Whether a slice through a chest has air near -1000 and soft tissue near 0; padding far below is passed over."""
    low = values.min()
    inside = values[values > low] if low < _LOWEST else values  # one value of padding
    if not inside.size:
        return False
    tissue = float(((inside > -200) & (inside < 300)).mean())
    air = float((inside < _AIR).mean())
    return bool(inside.min() >= _LOWEST and air > 0.005 and tissue > 0.1)


def _tables(folder: Path, key: str) -> dict[str, dict[str, str]]:
    """Rows of all CSV files of a folder by volume, columns in lower case."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(folder.glob("*.csv")) if folder.is_dir() else []:
        for row in read_labels(file, key, "a table of CT-RATE").to_dict("records"):
            found[str(row[key])] = {str(name): str(value) for name, value in row.items()}
    return found


def _column(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
