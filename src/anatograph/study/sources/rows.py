"""Rows of a cohort table from the headers of scans."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import pydicom

from anatograph.errors import UserError
from anatograph.imaging.checks import MIN_SLICES

HEADER = {
    "patient": "PatientID",
    "sex": "PatientSex",
    "age": "PatientAge",
    "manufacturer": "Manufacturer",
    "scanner": "ManufacturerModelName",
    "kernel": "ConvolutionKernel",
    "slice_mm": "SliceThickness",
    "kvp": "KVP",
}
"""Column of the table: element of the DICOM header. Names, dates and descriptions stay in the files."""
TAGS = [*HEADER.values(), "Modality", "ImageType", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID"]
FEWEST = MIN_SLICES
"""Images of a series that can be a scan; localizers and single slices have fewer."""


def identifier(text: str) -> str:
    """A text as a subject identifier: other characters become ``_``, at most 64 of them.

    Raises:
        UserError: nothing is left.
    """
    found = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_.")[:64]
    if not found:
        raise UserError("A scan has no name that can be a subject identifier; rename its folder.")
    return found


def unique_identifiers(names: Sequence[str]) -> list[str]:
    """The names as subject identifiers; of equal ones the second is ``NAME_2`` and so on, in the order given."""
    plain = [identifier(name) for name in names]
    seen: Counter[str] = Counter()
    taken = set(plain)
    result = []
    for name in plain:
        seen[name] += 1
        unique = name
        while seen[name] > 1 and (unique == name or unique in taken):
            unique = f"{name[: 64 - len(str(seen[name])) - 1]}_{seen[name]}"
            if unique in taken:
                seen[name] += 1
        taken.add(unique)
        result.append(unique)
    return result


def columns_of(header: Mapping[str, Any] | pydicom.Dataset) -> dict[str, Any]:
    """`HEADER`'s columns of a DICOM header or of a row with the same names; None where a value is absent."""
    found: dict[str, Any] = {}
    for column, keyword in HEADER.items():
        value = header.get(keyword)
        text = "" if value is None else str(value).strip()
        if isinstance(value, pydicom.multival.MultiValue):
            text = str(value[0]).strip()
        found[column] = years_of(text) if column == "age" else text or None
    return found


def years_of(text: str) -> float | None:
    """Years of DICOM's AS, such as ``061Y``; None for months and days, which no adult has, and for other text."""
    match = re.fullmatch(r"0*(\d+)(?:\.0+)?Y?", text)
    return float(match[1]) if match else None


def images_in(folder: Path) -> list[Path]:
    """Files of a series' folder, hidden ones left out, in the order of their names."""
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def is_ct(header: pydicom.Dataset | None) -> TypeGuard[pydicom.Dataset]:
    """Whether there is a header, and its modality is CT."""
    return header is not None and str(header.get("Modality", "")).upper() == "CT"


def first_header(files: Sequence[Path]) -> pydicom.Dataset | None:
    """The header of the first file that is DICOM with an image; None where none is."""
    for file in files:
        try:
            data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*TAGS, "Rows"])
        except (pydicom.errors.InvalidDicomError, OSError, ValueError, EOFError):
            continue
        if data.get("Rows"):
            return data
    return None
