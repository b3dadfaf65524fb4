"""Rows whose vectors another tool computed: any table with one row per subject."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.embedding.compatible import check_same_model
from anatograph.embedding.regions import Regions
from anatograph.embedding.table import beside, parquet_path, read_embeddings
from anatograph.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_MOST_LANDMARKS = 100_000


class ExternalEmbeddings(CohortMethod):
    """Vectors read from a file, matched by ``subject_id``."""

    learns: ClassVar[Learns] = "elsewhere"

    def __init__(self, name: str, table: Path, regions: Path | None = None) -> None:
        """``table``: Parquet or CSV, ``subject_id`` and numeric columns. ``regions``: features of landmarks, a
        ``.regions.zarr`` as `embed` writes it or a table with ``subject_id``, ``landmark`` and numeric columns; the
        store beside ``table`` is found by itself.

        Raises:
            UserError: a name that cannot be a row's.
        """
        super().__init__(progress=False)
        if not _NAME.fullmatch(name):
            raise UserError(
                f"'{name}' cannot be the name of a row; use up to 40 letters, digits, dots, hyphens and underscores."
            )
        if not table.name or not (table.is_file() or parquet_path(table).is_file()):
            raise UserError(f"There is no file {table}, given for {name}; give a Parquet or CSV table with subject_id.")
        self.slug = self.title = name  # type: ignore[misc]  # one class serves many rows
        self.table = table
        own = beside(table, "regions")
        self.region_file = regions if regions is not None else own if own.is_dir() else None
        self.note = f"vectors from {table.name}"

    def check(self, subject_ids: list[str]) -> None:
        """Refuse at once a file that lacks subjects of the benchmark.

        Raises:
            UserError: unreadable, or subjects without a row.
        """
        known = set(read_embeddings(self.table).subject_ids)
        missing = [name for name in subject_ids if name not in known]
        if missing:
            raise UserError(
                f"{self.table}, given for {self.slug}, has no row for {len(missing)} of {len(subject_ids)} subjects "
                f"({', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}); embed them with that tool too, or "
                "remove them from the cohort table."
            )
        if self.region_file is not None and not self.region_file.exists():
            raise UserError(f"There is no file {self.region_file} with region features for {self.slug}.")
        if self.region_file is not None and self.region_file.is_dir():
            about = read_embeddings(self.table).about
            check_same_model(about, Regions(self.region_file).attributes, str(self.table), str(self.region_file))
        elif self.region_file is not None:
            read_region_table(self.region_file, subject_ids)

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, D) the columns of the table."""
        return read_embeddings(self.table).only(scans.subject_ids)

    def regions(self, scans: Scans) -> NDArray[np.float64] | None:
        """(S, N, D) features of landmarks, NaN where the file has none."""
        if self.region_file is None:
            return None
        if self.region_file.is_dir():
            store = Regions(self.region_file)
            return np.stack([store.of(name) for name in scans.subject_ids]).astype(np.float64)
        return read_region_table(self.region_file, scans.subject_ids, int(scans.study.about["landmarks"]))


def read_region_table(path: Path, subject_ids: list[str], landmarks: int | None = None) -> NDArray[np.float64]:
    """(S, N, D) from a table with one row per subject and landmark; NaN where it has no row.

    ``landmarks`` N of the atlas; as many as the table has if not given.

    Raises:
        UserError: a file that cannot be read, columns missing or not numeric, infinite features, landmarks outside the
            atlas, or a subject without any row.
    """
    try:
        table = pd.read_csv(path, dtype={"subject_id": str}) if path.suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as a table of region features ({error}).") from error
    if missing := [name for name in ("subject_id", "landmark") if name not in table.columns]:
        raise UserError(f"{path} has no column {', '.join(missing)}; region features need subject_id and landmark.")
    features = table.drop(columns=["subject_id", "landmark"])
    text = [str(name) for name in features.columns if not pd.api.types.is_numeric_dtype(features[name])]
    if text or not features.shape[1]:
        raise UserError(f"{path} needs numeric feature columns beside subject_id and landmark; fix {text[:5]}.")
    number = table["landmark"].to_numpy()
    if not len(table):
        raise UserError(f"{path} holds no region feature; write one row per subject and landmark.")
    if not pd.api.types.is_integer_dtype(number) or number.min() < 0 or number.max() >= (landmarks or _MOST_LANDMARKS):
        last = f"to {landmarks - 1}, the atlas's landmarks" if landmarks else "on"
        raise UserError(f"{path}: 'landmark' must be whole numbers from 0 {last}.")
    if np.isinf(features.to_numpy(dtype=np.float64)).any():
        raise UserError(f"{path} has infinite features; leave the row of such a region out, or its features empty.")
    if table.duplicated(["subject_id", "landmark"]).any():
        raise UserError(f"{path} has more than one row for a subject and landmark; keep one.")
    place = {name: row for row, name in enumerate(subject_ids)}
    row = table["subject_id"].astype(str).map(place)
    inside = row.notna().to_numpy()
    if missing := sorted(set(subject_ids) - set(table["subject_id"].astype(str))):
        raise UserError(
            f"{path} has no region of {len(missing)} of {len(subject_ids)} subjects ({', '.join(missing[:5])}"
            f"{', …' if len(missing) > 5 else ''}); add them, or remove them from the cohort table."
        )
    found = np.full((len(subject_ids), landmarks or int(number.max()) + 1, features.shape[1]), np.nan)
    found[row[inside].to_numpy(dtype=int), number[inside]] = features.to_numpy(dtype=np.float64)[inside]
    return found
