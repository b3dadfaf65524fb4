"""The paper's COVID-19 CT data set (Table 3): 35 patients from three public sources, 45 controls from LIDC-IDRI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from anatograph.errors import UserError, counted
from anatograph.imaging.writing import volume_name
from anatograph.study.archives.idc_collections import lidc_sample
from anatograph.study.archives.table import Made, write_recipe_table

CONTROLS = 45
POSITIVES = 35
SOURCES = ("covid-19-ct-seg", "radiopaedia", "zhou")
"""Folder of each source of positive patients."""
WINDOW = (-1250.0, 250.0)
"""HU that COVID-19-CT-Seg maps to 0 and 255 in its radiopaedia volumes, as its authors state."""


def covid_composite(folder: Path, out: Path) -> Made:
    """Write the table of ``folder/covid-19-ct-seg``, ``radiopaedia``, ``zhou`` (volumes) and ``lidc`` (of the IDC).

    Columns: ``covid`` 0/1, ``source``.  The controls are 45 of the LIDC-IDRI patients in ``lidc``, drawn with a fixed
    seed.  Volumes of COVID-19-CT-Seg named ``radiopaedia_*`` hold a lung window of -1250 to 250 HU as 0 to 255; copies
    in HU are written to ``OUT-hu/`` and used.  The window of the model, [-1024, 240], lies inside.

    Raises:
        UserError: a source that is missing, too few controls, or a windowed volume with other values.
    """
    missing = [name for name in (*SOURCES, "lidc") if not (folder / name).is_dir()]
    if missing:
        raise UserError(f"{folder} lacks the folders {', '.join(missing)}; see docs/recipes/covid-composite.md.")
    rows: list[dict[str, Any]] = []
    notes = []
    converted = 0
    for source in SOURCES:
        files = [
            file for file in sorted((folder / source).rglob("*")) if volume_name(file) and not _is_mask(file, folder)
        ]
        for file in files:
            image = file
            if source == "covid-19-ct-seg" and file.name.startswith("radiopaedia"):
                image = _in_hu(file, out.with_name(f"{out.stem}-hu"))
                converted += 1
            rows.append(
                {"subject_id": f"{source}_{volume_name(file)}"[:64], "image": image, "covid": 1, "source": source}
            )
        notes.append(f"{source}: {counted(len(files), 'volume')}")
    if len(rows) != POSITIVES:
        notes.append(f"{len(rows)} positives; the paper has {POSITIVES}")
    for patient, study in lidc_sample(folder / "lidc", CONTROLS).items():
        rows.append({"subject_id": patient, "image": study, "covid": 0, "source": "lidc-idri"})
    notes.append(f"lidc-idri: {CONTROLS} controls, drawn with a fixed seed; the paper does not say which it drew")
    if converted:
        notes.append(f"{counted(converted, 'windowed volume')} converted back to HU, in {out.stem}-hu")
    notes.append(
        "all positives differ from all controls in source: scanner and protocol predict covid as well as disease"
    )
    return write_recipe_table("covid-composite", rows, out, notes)


def _is_mask(file: Path, folder: Path) -> bool:
    words = "/".join(file.relative_to(folder).parts).lower()
    return any(word in words for word in ("mask", "lung_", "infection", "_seg", "segmentation"))


def _in_hu(file: Path, folder: Path) -> Path:
    """A copy of a windowed volume in HU, int16; what was clipped stays at the ends of the window."""
    image = sitk.ReadImage(str(file))
    values = sitk.GetArrayFromImage(image).astype(np.float64)
    if values.min() < 0 or values.max() > 255 or values.max() <= 1:
        raise UserError(f"{file}: its values are not 0 to 255, as in the published archive; download it again.")
    hu = sitk.GetImageFromArray(np.rint(values / 255 * (WINDOW[1] - WINDOW[0]) + WINDOW[0]).astype(np.int16))
    hu.CopyInformation(image)
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / file.name
    sitk.WriteImage(hu, str(made), True)
    return made
