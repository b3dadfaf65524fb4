"""OSIC Pulmonary Fibrosis Progression: baseline CTs and FVC over one to two years."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from anatograph.errors import UserError, counted
from anatograph.study.archives.labels import number, read_labels
from anatograph.study.archives.table import Made, write_recipe_table
from anatograph.study.sources.rows import FEWEST

PUBLISHED = 176
"""Patients of train.csv."""
_FEWEST_VISITS = 3


def osic(folder: Path, out: Path) -> Made:
    """Write the table of ``train.csv`` and ``train/PATIENT/*.dcm``.

    ``FVC`` (ml) and ``FVC_percent`` are those of the visit nearest to the CT (week 0), ``FVC_slope`` (ml per year) is
    the least-squares line through all visits of a patient with at least three; ``age``, ``sex``, ``smoking``.

    Raises:
        UserError: no train.csv or no train/, or no patient with images.
    """
    table = read_labels(folder / "train.csv", "patient", "OSIC's train.csv")
    missing = [name for name in ("weeks", "fvc", "percent") if name not in table.columns]
    if missing or not (folder / "train").is_dir():
        lacking = f"the columns {', '.join(missing)}" if missing else "the folder train/"
        raise UserError(f"{folder} lacks {lacking}; give the unpacked competition data.")
    rows, without = [], 0
    for patient, visits in table.groupby("patient", sort=True):
        place = folder / "train" / str(patient)
        if not place.is_dir() or sum(file.is_file() for file in place.iterdir()) < FEWEST:
            without += 1
            continue
        weeks = np.array([number(value) for value in visits["weeks"]], dtype=np.float64)
        fvc = np.array([number(value) for value in visits["fvc"]], dtype=np.float64)
        good = np.isfinite(weeks) & np.isfinite(fvc)
        nearest = visits.iloc[int(np.argmin(np.where(good, np.abs(weeks), np.inf)))]
        different = len(np.unique(weeks[good]))
        slope = np.polyfit(weeks[good] / 52.1786, fvc[good], 1)[0] if different >= _FEWEST_VISITS else None
        rows.append({
            "subject_id": str(patient),
            "image": place,
            "FVC": number(nearest["fvc"]),
            "FVC_percent": number(nearest["percent"]),
            "FVC_slope": None if slope is None else round(float(slope), 2),
            "age": number(nearest.get("age")),
            "sex": {"male": "M", "female": "F"}.get(str(nearest.get("sex", "")).lower()),
            "smoking": str(nearest.get("smokingstatus", "")) or None,
        })  # fmt: skip
    smoking = Counter(str(row["smoking"]) for row in rows)
    notes = [
        f"{counted(len(rows), 'patient')} with images; {', '.join(f'{name}: {n}' for name, n in smoking.most_common())}"
    ]
    if without:
        notes.append(f"{counted(without, 'patient')} of train.csv with fewer than {FEWEST} images left out")
    if len(rows) != PUBLISHED:
        notes.append(f"the published archive has {PUBLISHED} patients")
    return write_recipe_table("osic", rows, out, notes)
