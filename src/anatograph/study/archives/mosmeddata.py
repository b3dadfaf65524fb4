"""MosMedData COVID19_1110: 1,110 chest CTs in five folders of severity."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.imaging.writing import volume_name
from anatograph.study.archives.table import Made, write_recipe_table

PUBLISHED = {0: 254, 1: 684, 2: 125, 3: 45, 4: 2}
"""Scans of each grade in the published archive (Morozov et al. 2020)."""
_GRADE = re.compile(r"CT-([0-4])")


def mosmeddata(folder: str | Path, out: str | Path) -> Made:
    """Write the cohort table of an unpacked archive.

    ``folder`` holds ``studies/CT-0`` to ``studies/CT-4`` with ``study_XXXX.nii.gz``, and ``masks/`` with
    ``study_XXXX_mask.nii.gz`` of some; the folder above, or ``studies`` itself, is found too.  Columns:
    ``covid_severity`` 0 to 4 (the folder), ``findings`` 0/1 (any but CT-0), ``lesion_mask`` where there is one.

    Raises:
        UserError: no such folders, or a study in two of them.
    """
    root = _root(Path(folder))
    rows: dict[str, dict[str, Any]] = {}
    for grade_folder in sorted(root.iterdir()):
        grade = _GRADE.fullmatch(grade_folder.name)
        if not grade or not grade_folder.is_dir():
            continue
        for file in sorted(grade_folder.iterdir()):
            name = volume_name(file)
            if name is None:
                continue
            if name in rows:
                raise UserError(
                    f"{name} is in {rows[name]['image'].parent.name} and in {grade_folder.name} of {root}; a study has "
                    "one grade, so unpack the archive again."
                )
            severity = int(grade[1])
            rows[name] = {
                "subject_id": name,
                "image": file,
                "covid_severity": severity,
                "findings": int(severity > 0),
                "lesion_mask": _mask(root, name),
            }
    counts = Counter(row["covid_severity"] for row in rows.values())
    notes = [f"{', '.join(f'CT-{k}: {counts[k]}' for k in PUBLISHED)}"]
    if rows and dict(counts) != PUBLISHED:
        notes.append(
            f"the published archive has {sum(PUBLISHED.values()):,} studies "
            f"({', '.join(f'CT-{k}: {n}' for k, n in PUBLISHED.items())})"
        )
    masks = sum(row["lesion_mask"] is not None for row in rows.values())
    notes.append(f"{masks} of {len(rows)} studies have a mask of lesions")
    return write_recipe_table("mosmeddata", [rows[name] for name in sorted(rows)], Path(out), notes)


def _root(folder: Path) -> Path:
    """The folder that holds CT-0 to CT-4."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the unpacked MosMedData archive.")
    for place in (folder, folder / "studies", folder / "COVID19_1110" / "studies"):
        if place.is_dir() and any(_GRADE.fullmatch(entry.name) for entry in place.iterdir() if entry.is_dir()):
            return place
    raise UserError(
        f"{folder} holds no folders CT-0 to CT-4, nor studies/ with them; give the unpacked MosMedData archive."
    )


def _mask(root: Path, name: str) -> Path | None:
    for place in (root.parent / "masks", root / "masks"):
        for ending in (".nii.gz", ".nii"):
            if (file := place / f"{name}_mask{ending}").is_file():
                return file
    return None
