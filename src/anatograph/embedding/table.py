"""The table of embeddings on disk: one row a subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.execution.files import whole_file


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Features of subjects, in the order of the file."""

    subject_ids: list[str]
    """(n,) unique."""
    features: NDArray[np.float64]
    """(n, F), finite."""
    path: Path
    """The file."""

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


def write_embeddings(out: str | Path, subject_ids: Sequence[str], features: NDArray[np.float32]) -> Path:
    """Write ``features`` (n, F) as columns ``feature_000`` … beside ``subject_id``; whole or not at all."""
    path = parquet_path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    width = max(3, len(str(features.shape[1] - 1)))
    columns = {f"feature_{k:0{width}d}": features[:, k] for k in range(features.shape[1])}
    table = pd.DataFrame({"subject_id": pd.Series(list(subject_ids), dtype="str"), **columns})
    with whole_file(path) as part:
        table.to_parquet(part, index=False)
    return path


def read_embeddings(path: str | Path) -> Embeddings:
    """Read a table of ``subject_id`` and numeric columns, Parquet as `embed` writes it or CSV.

    Raises:
        UserError: no such file, no ``subject_id``, a subject twice, or a feature that is not a finite number.
    """
    file = Path(path)
    if not file.exists() and parquet_path(path).exists():
        file = parquet_path(path)
    if not file.is_file():
        raise UserError(f"The table of embeddings {path} does not exist; `anatograph embed` writes one.")
    try:
        if file.suffix.lower() in {".csv", ".tsv"}:
            separator = "\t" if file.suffix.lower() == ".tsv" else ","
            table = pd.read_csv(file, sep=separator, dtype={"subject_id": "str"}, keep_default_na=False, na_values=[""])
        else:
            table = pd.read_parquet(file)
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read as a table of embeddings: {' '.join(str(error).split())}.") from error
    if "subject_id" not in table.columns:
        raise UserError(
            f"{file} has no column subject_id, so it is not a table of embeddings; `anatograph embed` writes one."
        )
    subject_ids = [str(value) for value in table["subject_id"]]
    twice = (
        sorted({subject for subject in subject_ids if subject_ids.count(subject) > 1})
        if (len(set(subject_ids)) < len(subject_ids))
        else []
    )
    if twice:
        raise UserError(f"{file} has more than one row for {', '.join(twice[:5])}; keep one a subject.")
    numbers = table.drop(columns="subject_id")
    text = [str(name) for name in numbers.columns if not pd.api.types.is_numeric_dtype(numbers[name])]
    if text:
        raise UserError(
            f"{file} has columns that are not numbers ({', '.join(text[:5])}); keep subject_id and features."
        )
    if not len(table) or not numbers.shape[1]:
        raise UserError(f"{file} holds no embedding.")
    features = numbers.to_numpy(dtype=np.float64)
    bad = [subject_ids[i] for i in np.flatnonzero(~np.isfinite(features).all(axis=1))]
    if bad:
        raise UserError(f"{file} has features that are not finite numbers for {', '.join(bad[:5])}; embed them again.")
    return Embeddings(subject_ids, features, file)
