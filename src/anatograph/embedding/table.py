"""The table of embeddings on disk: one row a subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.execution.files import whole_file
from anatograph.learning.model.pooling import Parts, PoolingSettings, settings_from

FORMAT_VERSION = 1
_KEY = "anatograph"
LARGEST = 1e30
"""Features of no tool are larger; their squares would not be numbers any more."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Features of subjects, in the order of the file."""

    subject_ids: list[str]
    """(n,) unique."""
    features: NDArray[np.float64]
    """(n, F), finite."""
    path: Path
    """The file."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What `write_embeddings` was given; empty for tables from elsewhere and of earlier versions."""

    @property
    def pooling(self) -> PoolingSettings:
        """How the vectors were pooled from their regions."""
        return settings_from(self.about.get("pooling"))

    @property
    def parts(self) -> Parts:
        """What the features consist of."""
        return Parts.from_about(self.about.get("pooling", {}))

    def only(self, wanted: Sequence[str]) -> NDArray[np.float64]:
        """(len(wanted), F) features of these subjects, in this order."""
        row = {subject: i for i, subject in enumerate(self.subject_ids)}
        return self.features[[row[subject] for subject in wanted]]


def parquet_path(out: str | Path) -> Path:
    """``OUT`` or ``OUT.parquet`` as the path of the table."""
    path = Path(out)
    return path if path.suffix == ".parquet" else path.with_name(path.name + ".parquet")


def beside(table: str | Path, kind: str) -> Path:
    """The store beside an embedding table: ``OUT.regions.zarr`` for ``OUT.parquet`` and kind ``regions``."""
    path = parquet_path(table)
    return path.with_name(f"{path.stem}.{kind}.zarr")


def write_embeddings(
    out: str | Path,
    subject_ids: Sequence[str],
    features: NDArray[np.float32],
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``features`` (n, F) as columns ``feature_000`` … beside ``subject_id``; whole or not at all.

    ``about`` goes into the file's metadata (pandas' ``attrs``, under the key ``anatograph``): the number of features,
    the ``pooling`` with the meaning of each part, the ``atlas_hash``, and the ``model`` by the hash of its weights.
    """
    path = parquet_path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    width = max(3, len(str(features.shape[1] - 1)))
    columns = {f"feature_{k:0{width}d}": features[:, k] for k in range(features.shape[1])}
    table = pd.DataFrame({"subject_id": pd.Series(list(subject_ids), dtype="str"), **columns})
    table.attrs = {_KEY: {"format_version": FORMAT_VERSION, "features": features.shape[1], **(about or {})}}
    with whole_file(path) as part:
        table.to_parquet(part, index=False)
    return path


def read_rows(file: Path, what: str, hint: str) -> pd.DataFrame:
    """A Parquet, CSV or TSV table with one row per ``subject_id`` (text); ``what`` it is and a ``hint`` for errors.

    Raises:
        UserError: no such file, one that cannot be read, no ``subject_id``, or a subject twice.
    """
    if not file.is_file():
        raise UserError(f"The {what} {file} does not exist; {hint}.")
    try:
        if file.suffix.lower() in {".csv", ".tsv"}:
            separator = "\t" if file.suffix.lower() == ".tsv" else ","
            table = pd.read_csv(file, sep=separator, dtype={"subject_id": "str"}, keep_default_na=False, na_values=[""])
        else:
            table = pd.read_parquet(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read as a {what}: {' '.join(str(error).split())}.") from error
    if table.index.name == "subject_id":
        table = table.reset_index()
    if "subject_id" not in table.columns:
        raise UserError(f"{file} has no column subject_id, so it is not a {what}; {hint}.")
    table["subject_id"] = [str(value) for value in table["subject_id"]]
    repeated = table["subject_id"][table["subject_id"].duplicated()]
    if len(repeated):
        names = ", ".join(sorted(set(repeated))[:5])
        raise UserError(f"{file} has more than one row for {names}; keep one per subject.")
    return table


def read_embeddings(path: str | Path) -> Embeddings:
    """Read a table of ``subject_id`` and numeric columns, Parquet as `embed` writes it or CSV.

    Raises:
        UserError: no such file, no ``subject_id``, a subject twice, or a feature that is not a finite number.
    """
    file = Path(path)
    if not file.exists() and parquet_path(path).exists():
        file = parquet_path(path)
    table = read_rows(file, "table of embeddings", "`anatograph embed` writes one")
    subject_ids = list(table["subject_id"])
    numbers = table.drop(columns="subject_id")
    text = [str(name) for name in numbers.columns if not pd.api.types.is_numeric_dtype(numbers[name])]
    if text:
        raise UserError(
            f"{file} has columns that are not numbers ({', '.join(text[:5])}); keep subject_id and features."
        )
    if not len(table) or not numbers.shape[1]:
        raise UserError(f"{file} holds no embedding.")
    features = numbers.to_numpy(dtype=np.float64)
    bad = [subject_ids[i] for i in np.flatnonzero(~(np.abs(features) <= LARGEST).all(axis=1))]
    if bad:
        raise UserError(
            f"{file} has features that are not finite numbers, or above {LARGEST:g}, for {', '.join(bad[:5])}; "
            "embed them again."
        )
    return Embeddings(subject_ids, features, file, _about(table, features.shape[1], file))


def _about(table: pd.DataFrame, features: int, file: Path) -> dict[str, Any]:
    """What the file's metadata says of the features.

    Raises:
        UserError: metadata of another table, or of a newer version.
    """
    about = table.attrs.get(_KEY)
    if not isinstance(about, dict):
        return {}
    version, pooling = about.get("format_version"), about.get("pooling", {})
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(f"{file} is of format {version}, newer than this version reads; install a newer anatograph.")
    parts = pooling.get("parts", ["all"]) if isinstance(pooling, dict) else []
    learnt = pooling.get("learnt_per_part", 0) if isinstance(pooling, dict) else 0
    fits = isinstance(parts, list) and parts and about.get("features") == features and not features % len(parts)
    if not fits or not isinstance(learnt, int) or not 0 <= learnt < features // len(parts):
        raise UserError(f"The metadata of {file} does not fit its {features} features; embed the study again.")
    settings_from(pooling)
    return about
