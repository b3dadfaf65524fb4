"""What a table of embeddings is exported with: features, cohort columns, regions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph._version import __version__
from anatograph.embedding.regions import Regions
from anatograph.embedding.review import without_left_out
from anatograph.embedding.table import beside, read_embeddings
from anatograph.errors import UserError
from anatograph.study.cohort import read_cohort

AXES = ("L_mm", "P_mm", "S_mm")
"""Columns of a landmark's atlas coordinates."""
_PATHS = {"image", "lungs"}
"""Columns of a cohort table that name files of one machine."""


@dataclass(frozen=True, eq=False)
class Content:
    """Embeddings of n subjects, and everything that is exported with them."""

    subjects: pd.DataFrame
    """(n, 1 + C) ``subject_id`` and the columns of the cohort table, if one was given."""
    features: NDArray[Any]
    """(n, F) float32 where that loses nothing, else float64."""
    names: tuple[str, ...]
    """(F,) ``feature_000`` …"""
    parts: tuple[str, ...]
    """(F,) what each feature is pooled from, such as ``mean over the lungs``; empty where the table does not say."""
    regions: Regions | None
    """Features of the regions; None where the store is absent or was not requested."""
    about: Mapping[str, Any]
    """Metadata of the table of embeddings."""
    notes: tuple[str, ...]
    """Which subjects were left out or lack something, in sentences."""

    @property
    def subject_ids(self) -> list[str]:
        """(n,) in the order of the table."""
        return [str(name) for name in self.subjects["subject_id"]]

    @property
    def landmarks(self) -> pd.DataFrame:
        """(L, 4) ``landmark`` and its atlas coordinates in LPS mm; NaN where the store does not say."""
        count = 0 if self.regions is None else self.regions.shape[1]
        known = [] if self.regions is None else self.regions.attributes.get("landmarks", [])
        points = np.asarray(known, dtype=np.float64)
        if points.shape != (count, 3):
            points = np.full((count, 3), np.nan)
        return pd.DataFrame({"landmark": np.arange(count), **dict(zip(AXES, points.T, strict=True))})

    def region_tables(self) -> Iterator[pd.DataFrame]:
        """For each subject a table with one row for each landmark that it has: the subject's columns, the landmark,
        its atlas coordinates, and the region's features.

        Raises:
            UserError: no store of regions, or a subject that it does not hold.
        """
        if self.regions is None:
            raise UserError("The embeddings have no store of regions beside them; embed the study again.")
        landmarks = self.landmarks
        names = feature_names(self.regions.shape[2])
        for number, name in enumerate(self.subject_ids):
            values = self.regions.of(name)
            present = np.isfinite(values).all(axis=1)
            rows = landmarks[present].reset_index(drop=True)
            own = self.subjects.iloc[[number] * len(rows)].reset_index(drop=True)
            yield pd.concat([own, rows, pd.DataFrame(values[present], columns=pd.Index(names))], axis=1)

    def metadata(self) -> dict[str, str]:
        """Origin of the embeddings, as text for the file's metadata."""
        about = {
            "anatograph": __version__,
            "atlas_hash": self.about.get("atlas_hash", ""),
            "model": self.about.get("model", ""),
            "pooling": self.about.get("pooling", ""),
        }
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items() if value}


def feature_names(count: int) -> list[str]:
    """``feature_000`` … for ``count`` features."""
    width = max(3, len(str(count - 1)))
    return [f"feature_{number:0{width}d}" for number in range(count)]


def read_content(
    embeddings: str | Path,
    cohort: str | Path | None,
    with_regions: bool,
    include_flagged: bool,
    exclude: Sequence[str] = (),
) -> Content:
    """Read embeddings, join the cohort table by ``subject_id``, and open the store of regions.

    Raises:
        UserError: a file that cannot be read, no subject in both, or a cohort column named like a feature, or an
            unknown subject in ``exclude``.
    """
    listed = () if cohort is None else read_cohort(cohort).subject_ids
    known, notes = without_left_out(
        read_embeddings(embeddings), include_flagged, exclude, listed, by_table=cohort is None
    )
    single = known.features.astype(np.float32)
    features = single if np.array_equal(single, known.features) else known.features
    names = tuple(feature_names(features.shape[1]))
    subjects = pd.DataFrame({"subject_id": pd.Series(known.subject_ids, dtype="str")})
    if cohort is not None:
        subjects, missing = _joined(subjects, cohort, set(names))
        notes = [*notes, *missing]
    store = beside(known.path, "regions")
    regions = Regions(store) if with_regions and store.is_dir() else None
    if regions is not None and (absent := sorted(set(known.subject_ids) - set(regions.subject_ids))):
        raise UserError(f"{store} lacks {len(absent)} subjects ({', '.join(absent[:3])}); embed the study again.")
    if with_regions and regions is None:
        notes = [*notes, f"{store} does not exist, so regions are not exported"]
    parts = known.about.get("pooling", {}).get("parts", [])
    each = features.shape[1] // len(parts) if parts else 0
    meaning = tuple(str(part) for part in parts for _ in range(each))
    return Content(subjects, features, names, meaning, regions, known.about, tuple(notes))


def _joined(subjects: pd.DataFrame, cohort: str | Path, taken: set[str]) -> tuple[pd.DataFrame, list[str]]:
    """The subjects with the columns of the cohort table, in the order of the subjects."""
    table = read_cohort(cohort).table
    table = table.drop(columns=[name for name in table.columns if name in _PATHS])
    clash = sorted(taken & set(table.columns))
    if clash:
        raise UserError(f"The cohort table {cohort} has columns named like features ({clash[0]}); rename them.")
    missing = sorted(set(subjects["subject_id"]) - set(table["subject_id"]))
    if len(missing) == len(subjects):
        raise UserError(
            f"No subject of the embeddings is in the cohort {cohort} ({missing[0]} there, "
            f"{table['subject_id'].iloc[0]} here); give the cohort they came from."
        )
    joined = subjects.merge(table, on="subject_id", how="left", validate="one_to_one")
    shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
    return joined, [f"cohort columns are missing for {len(missing)} subjects: {shown}"] if missing else []
