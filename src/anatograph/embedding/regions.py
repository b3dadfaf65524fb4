"""Features of regions on disk: a Zarr array (subject, landmark, feature) beside the table of embeddings."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from anatograph.embedding.compatible import check_same_model
from anatograph.embedding.table import beside, parquet_path, read_embeddings
from anatograph.embedding.zarr_check import check_zarr
from anatograph.errors import UserError
from anatograph.execution.files import replace_folder
from anatograph.learning.model.pooling import Pooling, PoolingSettings, make_pooling
from anatograph.study.store import Study


class RegionRows:
    """A store in the making: a row for each subject, written in any order and by any process, whole or not at all.

    A row is one chunk, and a chunk one file that gets its name when it is written, so processes on several machines
    may write at once.  Landmarks that a subject lacks are NaN.
    """

    def __init__(self, path: Path) -> None:
        import zarr

        self.path = path
        self._array = zarr.open_array(store=str(path), mode="r+")

    @classmethod
    def create(cls, path: Path, rows: int, landmarks: int, features: int) -> RegionRows:
        """Make an empty one."""
        import zarr

        zarr.create_array(
            store=str(path),
            shape=(rows, landmarks, features),
            chunks=(1, landmarks, features),
            dtype="float32",
            fill_value=float("nan"),
        )
        return cls(path)

    def write(self, row: int, values: NDArray[np.float32]) -> None:
        """Set a subject's (landmark, feature) values."""
        self._array[row] = values

    def arrange(self, rows: Sequence[int], length: int | None = None) -> None:
        """Let row k become what row ``rows[k]`` was, and drop all others; no value is read or written.

        ``length`` is the number of rows then, ``len(rows)`` if not given.
        """
        if list(rows) != list(range(len(rows))):
            chunks, before = self.path / "c", self.path / "before"
            chunks.rename(before)  # the chunk (row, 0, 0) is the file c/ROW/0/0 (Zarr 3, default chunk keys)
            chunks.mkdir()
            for new, old in enumerate(rows):
                if (before / str(old)).exists():
                    (before / str(old)).rename(chunks / str(new))
            shutil.rmtree(before)
        self._array.resize((len(rows) if length is None else length, *self._array.shape[1:]))

    def finish(self, path: Path, subject_ids: Sequence[str], attributes: Mapping[str, Any]) -> None:
        """Give the store its name and say what it is; one that is there is replaced."""
        self._array.attrs.update({**attributes, "subject_ids": list(subject_ids)})
        replace_folder(self.path, path)


class Regions:
    """A finished store, opened to read; a subject's values are read when needed."""

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
            raise UserError(
                f"{self.path} cannot be read ({type(error).__name__}: {error}); embed the study again."
            ) from error
        if array.ndim != 3 or array.shape[0] != len(self.subject_ids):
            raise UserError(
                f"{self.path} has the shape {array.shape}, not (subject, landmark, feature); embed the study again."
            )
        self._array = array
        self._unwhiten = _inverse(self.attributes.get("whitening"), array.shape[2], self.path)
        self._rows = {name: row for row, name in enumerate(self.subject_ids)}

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
        if subject_id not in self._rows:
            raise UserError(f"{self.path} has no subject '{subject_id}'.")
        return np.asarray(self._array[self._rows[subject_id]], dtype=np.float32)

    def pooling(self, settings: PoolingSettings) -> Pooling:
        """The functions by which these regions are pooled into a subject's vector.

        Raises:
            UserError: a store that does not say where its landmarks lie.
        """
        try:
            landmarks = np.asarray(self.attributes.get("landmarks", []), dtype=np.float64)
        except (TypeError, ValueError):
            landmarks = np.zeros((0, 3))
        if landmarks.shape != (self.shape[1], 3):
            if settings.rule != "mean":
                raise UserError(f"{self.path} does not say where its landmarks lie; embed the study again.")
            landmarks = np.zeros((self.shape[1], 3))
        return make_pooling(settings, landmarks)

    def unwhitened(self, subject_id: str) -> NDArray[np.float32]:
        """The same before the model's whitening, as G made it: where a feature is large it varies much between regions.

        What asks how far a region is from the usual needs that; a probe is better off without it.
        """
        nodes = self.of(subject_id)
        return nodes if self._unwhiten is None else np.asarray(nodes @ self._unwhiten, dtype=np.float32)


def _inverse(whitening: Any, features: int, path: Path) -> NDArray[np.float64] | None:
    """Of the matrix that a store's attributes name; None where there is none."""
    if whitening is None:
        return None
    try:
        matrix = np.asarray(whitening, dtype=np.float64)
        if matrix.shape != (features, features) or not np.isfinite(matrix).all():
            raise ValueError(f"a matrix of shape {matrix.shape}")
        return np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    except (TypeError, ValueError, np.linalg.LinAlgError) as error:
        raise UserError(f"The whitening matrix in {path} is invalid ({error}); embed the study again.") from error


def open_pair(study: str | Path, embeddings: str | Path) -> tuple[Study, Regions]:
    """A study and the regions of the embeddings that were made of it.

    Raises:
        UserError: either cannot be read, or they are on different atlases or of different models.
    """
    opened = Study.open(study)
    regions = Regions(beside(parquet_path(embeddings), "regions"))
    if regions.attributes.get("atlas_hash") != opened.atlas.hash:
        raise UserError(f"{embeddings} and the study {study} are on different atlases; embed this study.")
    if parquet_path(embeddings).is_file():
        about = read_embeddings(embeddings).about
        check_same_model(about, regions.attributes, f"{parquet_path(embeddings)}", f"{regions.path.name} beside it")
    return opened, regions
