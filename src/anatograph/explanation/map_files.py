"""A map of one scan on disk: NIfTI, picture, table and legend, side by side (docs/explain.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.anatomy.places import places, strongest
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.files import write_text
from anatograph.explanation.legend import MapLegend
from anatograph.explanation.map_picture import draw_map
from anatograph.explanation.painting import paint
from anatograph.imaging.formats.nifti_words import NiftiWords
from anatograph.imaging.volume import Volume
from anatograph.study.scans import find_scan
from anatograph.study.subject import StoredSubject

FORMAT_VERSION = 1
ENDINGS = (".nii.gz", ".png", ".regions.csv", ".json")
"""What `write_map` writes for a stem."""
_STRONGEST = 5


@dataclass(frozen=True, eq=False)
class RegionMap:
    """A number a landmark, and the figures behind it."""

    subject_id: str
    """Whose scan."""
    values: NDArray[np.float64]
    """(N,) what is painted; NaN where there is nothing to say."""
    words: MapLegend
    """What it means."""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Further columns of the table, (N,) each."""
    score: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the whole subject."""
    order: NDArray[np.float64] | None = None
    """(N,) what decides which regions are the strongest; the values if None."""


def write_map(
    found: RegionMap,
    subject: StoredSubject,
    atlas: Atlas,
    folder: Path,
    stem: str,
    image: Path | None,
    account: RunAccount,
) -> Path:
    """Write ``STEM.nii.gz``, ``.png``, ``.regions.csv`` and ``.json``, and return the NIfTI.

    ``image`` is where the scan is looked for first, to draw on.

    Raises:
        UserError: a study that does not fit the values.
    """
    from anatograph.imaging.writing import write_array

    if len(found.values) != len(subject.landmarks):
        raise UserError(
            f"{found.subject_id} has other landmarks in the study than in the embeddings; embed the study again."
        )
    lungs, frame, words = subject.lungs(), subject.frame, found.words
    if not lungs.frame.same_grid(frame, 0.02):
        raise UserError(f"{subject.folder}: the lung mask is not on the scan's grid; preprocess this subject again.")
    painted = found.values
    if words.withheld:
        painted = np.where(np.isfinite(found.values), words.neutral, np.nan)
    heat = paint(painted, subject.landmarks, atlas.patch_size, lungs.lungs, frame)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.nii.gz"
    grid = Volume(np.broadcast_to(np.int16(0), frame.shape), frame, subject.stored_frame)
    intent = f"{words.kind} map"
    write_array(path, heat, grid, NiftiWords(words.meaning, intent, *words.range, words.intent_code))
    where = places(atlas)
    columns = dict(zip(("L_mm", "P_mm", "S_mm"), subject.landmarks.T.round(2), strict=True))
    table = pd.DataFrame({"landmark": np.arange(len(where)), "place": where, **columns, "value": painted})
    table.assign(**found.columns).to_csv(folder / f"{stem}.regions.csv", index=False)
    order = found.values if found.order is None else found.order
    top = [] if words.withheld else list(strongest(order, atlas, _STRONGEST))
    about = {
        "format_version": FORMAT_VERSION,
        "kind": words.kind,
        "subject_id": found.subject_id,
        "target": words.target,
        "class": words.class_name,
        "title": words.title,
        "meaning": words.meaning,
        "evidence": words.evidence,
        "withheld": words.withheld or None,
        "high": words.high,
        "low": words.low,
        "neutral": words.neutral,
        "range": list(words.range),
        "colours": "diverging" if words.diverging else "sequential",
        "map": path.name,
        "picture": f"{stem}.png",
        "table": f"{stem}.regions.csv",
        "strongest": [
            {
                "landmark": j,
                "place": where[j],
                "lps_mm": subject.landmarks[j].round(1).tolist(),
                "value": round(float(found.values[j]), 4),
            }
            for j in top
        ],
        "score": dict(found.score),
    }
    write_text(folder / f"{stem}.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    at = subject.landmarks[top[0]] if top else None
    place = where[top[0]] if top else ""
    scan = find_scan(subject, image)
    if scan is None:
        account.note(
            f"the scan of {subject.subject_id} cannot be found, so its picture shows only the outline of the lungs"
        )
    draw_map(folder / f"{stem}.png", heat, lungs, scan, words, at, place)
    for ending in ENDINGS:
        account.output(folder / f"{stem}{ending}")
    return path


def file_stem(*parts: str) -> str:
    """The parts joined by underscores, with characters that file systems reject replaced."""
    return "_".join(re.sub(r"[^A-Za-z0-9._-]+", "_", part) for part in parts)
