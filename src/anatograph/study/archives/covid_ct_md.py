"""COVID-CT-MD: 305 chest CTs as DICOM, of patients with COVID-19, with another pneumonia, or healthy."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.imaging.dicom.elements import looks_like_dicom
from anatograph.imaging.dicom.headers import quiet, slice_reader
from anatograph.imaging.native import native_name
from anatograph.study.archives.table import Made, write_recipe_table

PUBLISHED = {"COVID-19": 169, "CAP": 60, "Normal": 76}
"""Subjects of each diagnosis in the published archive (Afshar et al. 2021)."""
_CLASSES = {"covid": "COVID-19", "cap": "CAP", "normal": "Normal"}
_PARTIAL = re.compile(r"(slice|lobe)[-_ ]?level[-_ ]?labels?.*\.npy", re.IGNORECASE)


def covid_ct_md(folder: str | Path, out: str | Path) -> Made:
    """Write the cohort table of an unpacked archive.

    ``folder`` holds ``COVID-19 Cases``, ``Cap Cases`` and ``Normal Cases`` (or ``… subjects``, as the authors' page
    has it), in each one folder with DICOM slices for every subject; and, if they were downloaded, ``Index.csv``,
    ``Slice-level-labels.npy`` and ``Lobe-level-labels.npy``.  Columns: ``diagnosis``, ``covid`` 0/1, ``sex`` and
    ``age`` from the headers, and, for the subjects whose slices radiologists marked, ``infected_slices`` (share of the
    slices) and ``infected_lobes`` (0 to 5).

    Raises:
        UserError: no such folders, or a name twice.
    """
    root = Path(folder)
    rows: dict[str, dict[str, Any]] = {}
    for diagnosis, place in _class_folders(root):
        for folder in sorted(entry for entry in place.iterdir() if entry.is_dir()):
            files = sorted(file for file in folder.iterdir() if file.is_file() and looks_like_dicom(file))
            if not files:
                continue
            if folder.name in rows:
                raise UserError(
                    f"{folder.name} is in {rows[folder.name]['image'].parent.name} and in {place.name} of {root}; "
                    "rename one of them."
                )
            sex, age = _sex_and_age(files[0])
            rows[folder.name] = {
                "subject_id": folder.name,
                "image": folder,
                "diagnosis": diagnosis,
                "covid": int(diagnosis == "COVID-19"),
                "sex": sex,
                "age": age,
                **_marked(root, diagnosis, folder.name, len(files)),
            }
    counts = Counter(row["diagnosis"] for row in rows.values())
    notes = [", ".join(f"{name}: {counts[name]}" for name in PUBLISHED)]
    if rows and dict(counts) != PUBLISHED:
        notes.append(f"the published archive has {', '.join(f'{name}: {n}' for name, n in PUBLISHED.items())}")
    marked = sum(row["infected_slices"] is not None for row in rows.values())
    notes.append(f"slices of {marked} of {len(rows)} subjects were marked by radiologists")
    return write_recipe_table("covid-ct-md", [rows[name] for name in sorted(rows)], Path(out), notes)


def _class_folders(root: Path) -> list[tuple[str, Path]]:
    """The folders of the three diagnoses that are there."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; give the unpacked COVID-CT-MD archive.")
    found = []
    for entry in sorted(root.iterdir()):
        name = next((name for start, name in _CLASSES.items() if entry.name.lower().startswith(start)), None)
        if name and entry.is_dir():
            found.append((name, entry))
    if len({name for name, _ in found}) < 2:
        there = ", ".join(sorted(entry.name for entry in root.iterdir())[:6]) or "nothing"
        raise UserError(
            f"{root} holds {there}, not the folders COVID-19 Cases, Cap Cases and Normal Cases; give the unpacked "
            "COVID-CT-MD archive."
        )
    return found


def _sex_and_age(file: Path) -> tuple[str | None, int | None]:
    """PatientSex and PatientAge in years of a DICOM file; None where they are empty."""
    reader = slice_reader()
    reader.SetFileName(native_name(file))
    try:
        with quiet():
            reader.ReadImageInformation()
    except RuntimeError:
        return None, None
    text = {
        key: reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""
        for key in ("0010|0040", "0010|1010")
    }
    years = re.fullmatch(r"0*(\d+)Y?", text["0010|1010"])
    return text["0010|0040"] or None, int(years[1]) if years else None


def _marked(root: Path, diagnosis: str, name: str, slices: int) -> dict[str, float | int | None]:
    """Radiologists' marks by ``Index.csv``: rows of the arrays for each subject."""
    nothing: dict[str, float | int | None] = {"infected_slices": None, "infected_lobes": None}
    index = _index(root).get((diagnosis, name.lower()))
    if index is None:
        return nothing
    of_slices, of_lobes = (_labels(root, kind) for kind in ("slice", "lobe"))
    if of_slices is not None and index < len(of_slices):
        nothing["infected_slices"] = round(float((of_slices[index] > 0).sum()) / slices, 4)
    if of_lobes is not None and index < len(of_lobes):
        nothing["infected_lobes"] = int((of_lobes[index] > 0).any(axis=0).sum())
    return nothing


def _index(root: Path) -> dict[tuple[str, str], int]:
    file = next((entry for entry in root.iterdir() if entry.name.lower() == "index.csv"), None)
    if file is None:
        return {}
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines))
    try:
        return {(row["Diagnosis"].strip(), row["Folder/ID"].strip().lower()): int(row["Label Index"]) for row in rows}
    except (KeyError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file} is not the archive's index (it should have Label Index, Diagnosis and Folder/ID); download it "
            "again, or remove it."
        ) from error


def _labels(root: Path, kind: str) -> NDArray[np.float64] | None:
    """(index, slices) or (index, slices, 5 lobes); a file called updated comes before the first one."""
    files = sorted(e for e in root.iterdir() if (m := _PARTIAL.fullmatch(e.name)) and m[1].lower() == kind)
    if not files:
        return None
    chosen = next((file for file in files if "updated" in file.name.lower()), files[0])
    try:
        return np.asarray(np.load(chosen, allow_pickle=False), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise UserError(f"{chosen} cannot be read ({error}); download it again, or remove it.") from error
