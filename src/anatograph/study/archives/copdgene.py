"""COPDGene: a phenotype file (and those of visual scores and of the follow-up) beside a folder of scans."""

from __future__ import annotations

import csv
import fnmatch
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anatograph.errors import UserError, counted
from anatograph.imaging.dicom.elements import looks_like_dicom
from anatograph.imaging.writing import volume_name
from anatograph.study.archives.table import Made, write_recipe_table

_SUBJECT = ("sid", "subject_id", "subjectid")
_VISIT = ("visitnum", "phase_study", "phase")
_MISSING = ["", ".", "NA", "N/A", "NaN", "nan", "-9", "-1024"]


def _same(value: float) -> float:
    return value


def _gold(value: float) -> float | None:
    """PRISm (-1) has no GOLD grade."""
    return value if value >= 0 else None


def _any(value: float) -> float:
    return float(value >= 1)


COLUMNS: dict[str, tuple[tuple[str, ...], Callable[[float], float | None]]] = {
    "FEV1pp": (("FEV1pp_utah", "FEV1pp_post"), _same),
    "FEV1_FVC": (("FEV1_FVC_utah", "FEV1_FVC_post"), _same),
    "GOLD": (("finalGold", "finalgold_visit"), _gold),
    "CLE": (("CT_Visual_Emph_Severity", "Emph_Severity"), _same),
    "paraseptal": (("CT_Visual_Emph_Paraseptal", "Emph_Paraseptal"), _same),
    "AE_history": (("Exacerbation_Frequency",), _any),
    "future_AE": (("Exacerbation_Frequency_P2",), _any),
    "mMRC": (("MMRCDyspneaScor",), _same),
    "age": (("Age_Enroll", "age_visit", "Age"), _same),
}
"""Column of the cohort, the archive's names for it in order of preference, and what is made of a value."""
_TEXT = {"sex": ("gender",), "site": ("ccenter",)}


def copdgene(images: str | Path, out: str | Path, phenotypes: Sequence[str | Path], pattern: str | None = None) -> Made:
    """Write the cohort table of a folder of scans and one or more phenotype files.

    ``images`` holds, at any depth, volume files or DICOM folders whose name begins with the subject's ``sid``, such as
    ``10005Q_INSP_STD_NJC_COPD.nii.gz``; of several scans of a subject the inspiratory ones of the first visit with the
    standard kernel, or those that match ``pattern``.  ``phenotypes`` are tab- or comma-separated with a column
    ``sid``; a column is taken from the first file that has it, of the first visit where there are several.

    Raises:
        UserError: a file that is not a phenotype file, or subjects with several scans among which none can be chosen.
    """
    if not phenotypes:
        raise UserError("COPDGene needs its phenotype file: give --phenotypes FILE, and more of them if there are.")
    known = _phenotypes([Path(file) for file in phenotypes])
    scans, strangers = _scans(Path(images), set(known), pattern)
    rows = [{"subject_id": sid, "image": scans[sid], **known[sid]} for sid in sorted(scans)]
    notes = [f"{len(rows)} of {len(known)} subjects of the phenotype file have a scan"]
    if strangers:
        notes.append(f"{counted(strangers, 'scan')} of subjects who are not in the phenotype file left out")
    for name in COLUMNS:
        count = sum(row[name] is not None for row in rows)
        notes.append(f"{name}: known for {count}" if count else f"{name}: in none of the files")
    return write_recipe_table("copdgene", rows, Path(out), notes)


def _phenotypes(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Columns of the cohort for each sid of the first file."""
    tables = [_read(file) for file in files]
    result: dict[str, dict[str, Any]] = {sid: {} for sid in tables[0].index}
    for name, (given, change) in COLUMNS.items():
        values = _column(tables, given)
        for sid, row in result.items():
            text = values.get(sid)
            number = _number(text, name, sid)
            row[name] = None if number is None else change(number)
    for name, given in _TEXT.items():
        values = _column(tables, given)
        for sid, row in result.items():
            row[name] = _sex(values.get(sid)) if name == "sex" else values.get(sid)
    return result


def _read(file: Path) -> pd.DataFrame:
    """A phenotype file as text, one row per subject (first visit), by sid, column names in lower case."""
    try:
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            separator = "\t" if "\t" in lines.readline() else ","
        table = pd.read_csv(
            file, sep=separator, dtype=str, keep_default_na=False, na_values=_MISSING, encoding="utf-8-sig",
            encoding_errors="replace", quoting=csv.QUOTE_MINIMAL,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a phenotype file: {' '.join(str(error).split())}.") from error
    table.columns = pd.Index([str(name).strip().lower() for name in table.columns])
    subject = next((name for name in _SUBJECT if name in table.columns), None)
    if subject is None:
        raise UserError(f"{file} has no column sid, so it is not a COPDGene phenotype file.")
    visit = next((name for name in _VISIT if name in table.columns), None)
    if visit is not None:
        table = table[table[visit].isin(["1", "1.0"])]
    table = table[table[subject].notna()]
    twice = table[subject][table[subject].duplicated()].unique().tolist()
    if twice:
        raise UserError(
            f"{file} has more than one row for {', '.join(twice[:5])}; give the file with one row per subject."
        )
    return table.set_index(subject)


def _column(tables: Sequence[pd.DataFrame], names: Sequence[str]) -> dict[str, str]:
    """Text by sid of the first of ``names`` that a file has, plain or ending in _P1 (the first visit)."""
    for name in names:
        for table in tables:
            for spelt in (name.lower(), f"{name.lower()}_p1"):
                if spelt in table.columns:
                    held = table[spelt].dropna()
                    return {str(sid): str(value).strip() for sid, value in held.items()}
    return {}


def _number(text: str | None, name: str, sid: str) -> float | None:
    if text is None or not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise UserError(f"'{text}' of {sid} is not a number for {name}; correct the phenotype file.") from None


def _sex(text: str | None) -> str | None:
    """COPDGene writes 1 for men and 2 for women."""
    return {"1": "M", "1.0": "M", "2": "F", "2.0": "F"}.get(text or "", text)


def _scans(folder: Path, subjects: set[str], pattern: str | None) -> tuple[dict[str, Path], int]:
    """The scan of each subject, and how many scans match no subject."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the one with COPDGene's scans.")
    found: dict[str, list[Path]] = {}
    strangers = 0
    for scan in _candidates(folder):
        name = volume_name(scan) or scan.name
        if pattern and not (fnmatch.fnmatch(scan.name, pattern) or fnmatch.fnmatch(name, pattern)):
            continue
        sid = re.split(r"[_.\- ]", name)[0]
        if sid not in subjects and scan.parent.name in subjects:  # SID/anything.nii.gz
            sid = scan.parent.name
        if sid in subjects:
            found.setdefault(sid, []).append(scan)
        else:
            strangers += 1
    chosen, unclear = {}, []
    for sid, scans in found.items():
        best = scans if pattern else _preferred(scans)
        if len(best) == 1:
            chosen[sid] = best[0]
        else:
            unclear.append(f"{sid} ({', '.join(sorted(scan.name for scan in best)[:3])})")
    if unclear:
        raise UserError(
            f"{len(unclear)} subjects have several candidate scans: {'; '.join(unclear[:5])}. Give --pattern, "
            "such as '*_INSP_STD_*', that only one of them matches."
        )
    return chosen, strangers


def _candidates(folder: Path) -> list[Path]:
    """Volume files, and folders that hold DICOM files, at any depth."""
    found = []
    for entry in sorted(folder.rglob("*")):
        if entry.is_dir():
            first = next((file for file in sorted(entry.iterdir()) if file.is_file()), None)
            if first is not None and volume_name(first) is None and looks_like_dicom(first):
                found.append(entry)
        elif volume_name(entry) is not None:
            found.append(entry)
    return found


def _preferred(scans: list[Path]) -> list[Path]:
    """Those of the first visit, then in inspiration, then with the standard kernel, as far as their names say."""
    for wanted, unwanted in (("", "_COPD2"), ("", "_COPD3"), ("INSP", ""), ("_STD", "")):
        names = [(scan, scan.name.upper()) for scan in scans]
        fitting = [scan for scan, name in names if wanted in name and not (unwanted and unwanted in name)]
        scans = fitting or scans
    return scans
