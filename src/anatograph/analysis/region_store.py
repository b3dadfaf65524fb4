"""Features of regions on disk: a Zarr array (subject, landmark, feature) beside the table of embeddings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from anatograph.analysis.embedding_file import beside, parquet_path
from anatograph.analysis.zarr_check import check_zarr
from anatograph.errors import UserError
from anatograph.study.store import Study


class RegionWriter:
    """Writes one subject after the other, so that a cohort need not fit in memory; the store appears whole at the end.

    ``attributes`` say what it is; ``subject_ids``, in the order of the rows, is added.  Landmarks that a subject
    lacks are NaN.
    """

    def __init__(self, path: Path, rows: int, landmarks: int, features: int, attributes: Mapping[str, Any]) -> None:
        import zarr

        self.path = path
        self._fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        shutil.rmtree(self._fresh, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._array = zarr.create_array(
            store=str(self._fresh),
            shape=(rows, landmarks, features),
            chunks=(1, landmarks, features),
            dtype="float32",
            fill_value=float("nan"),
        )
        self._attributes = dict(attributes)
        self._ids: list[str] = []

    def write(self, subject_id: str, values: NDArray[np.float32]) -> None:
        """Append a subject's (landmark, feature) values."""
        self._array[len(self._ids)] = values
        self._ids.append(subject_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or not self._ids:
            shutil.rmtree(self._fresh, ignore_errors=True)
            return
        shape = self._array.shape
        if shape[0] != len(self._ids):
            self._array.resize((len(self._ids), *shape[1:]))
        self._array.attrs.update({**self._attributes, "subject_ids": self._ids})
        if self.path.exists():
            shutil.rmtree(self.path)
        self._fresh.rename(self.path)


class Regions:
    """A store that `RegionWriter` wrote, opened to read; a subject's values are read when asked for."""

    def __init__(self, path: str | Path) -> None:
        import zarr

        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"There is no {self.path}; `anatograph embed` writes it beside the table of embeddings.")
        try:
            check_zarr(self.path)
            array = zarr.open_array(store=str(self.path), mode="r")
            self.attributes: dict[str, Any] = dict(array.attrs)
            self.subject_ids = [str(name) for name in cast("Sequence[Any]", self.attributes["subject_ids"])]
        except Exception as error:  # zarr and its codecs have no common error
            raise UserError(f"{self.path} cannot be read ({type(error).__name__}: {error}); embed anew.") from error
        if array.ndim != 3 or array.shape[0] != len(self.subject_ids):
            raise UserError(f"{self.path} has the shape {array.shape}, not (subject, landmark, feature); embed anew.")
        self._array = array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Subjects, landmarks, features."""
        subjects, landmarks, features = self._array.shape
        return int(subjects), int(landmarks), int(features)

    def of(self, subject_id: str) -> NDArray[np.float32]:
        """(landmark, feature) of one subject, NaN where a landmark is absent.

        Raises:
            UserError: a subject that the store does not hold.
        """
        if subject_id not in self.subject_ids:
            raise UserError(f"{self.path} has no subject '{subject_id}'.")
        return np.asarray(self._array[self.subject_ids.index(subject_id)], dtype=np.float32)


def open_pair(study: str | Path, embeddings: str | Path) -> tuple[Study, Regions]:
    """A study and the regions of the embeddings that were made of it.

    Raises:
        UserError: either cannot be read, or they are on different atlases.
    """
    opened = Study.open(study)
    regions = Regions(beside(parquet_path(embeddings), "regions"))
    if regions.attributes.get("atlas_hash") != opened.atlas.hash:
        raise UserError(f"{embeddings} was made on another atlas than the study {study}; embed this study.")
    return opened, regions
