"""Unfinished embeddings: a hidden folder beside the table, which any number of processes fill and one run completes.

``.OUT.embed/`` holds the regions of every subject as a row of a Zarr array, and a small file for each subject that is
done.  A run that was stopped continues from there, on this machine or another; when all subjects are done the array
gets its name, the table is written from the small files, and the folder is removed.  The folder starts with the results
of subjects that an earlier run completed and that have not changed since.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.embedding.regions import RegionRows
from anatograph.embedding.reuse import finished_before, mark_of, same_file
from anatograph.embedding.table import beside, write_embeddings
from anatograph.errors import UserError
from anatograph.execution.claims import alone, holder
from anatograph.execution.files import remove_folder, sync, whole_file, write_text
from anatograph.learning.model.embedding import Embedding


class PartialEmbeddings:
    """The folder, and the row of each subject."""

    def __init__(self, table: Path) -> None:
        """``table`` is ``OUT.parquet``; the folder must exist, see `start`."""
        self.table = table
        self.path = _folder(table)
        self.claims = self.path / "claims"
        about = json.loads((self.path / "about.json").read_text(encoding="utf-8"))
        self.kinds: list[str] = about["kinds"]
        """``regions``, and ``patches`` where they are wanted."""
        self.rows: dict[str, int] = {name: row for row, name in enumerate(about["subject_ids"])}
        """The row of each subject."""
        self._mark = mark_of(about["request"])
        self._arrays: dict[str, RegionRows] = {}

    @classmethod
    def start(
        cls,
        table: Path,
        request: Mapping[str, Any],
        subject_ids: Sequence[str],
        shape: tuple[int, int],
        kinds: list[str],
        stamp: Callable[[str], int],
    ) -> PartialEmbeddings:
        """Make the folder, or continue with that of an earlier run with the same request.

        Args:
            table: ``OUT.parquet``.
            request: everything that the embeddings depend on.
            subject_ids: subjects; those that an earlier run did not know get rows after its own.
            shape: landmarks and features.
            kinds: of stores.
            stamp: a number that changes when a subject does.

        Raises:
            UserError: while another run with another request writes to the same place.
        """
        table.parent.mkdir(parents=True, exist_ok=True)
        path = _folder(table)
        with _lock(table):
            about = _about(path)
            if about is not None and (about["request"] != dict(request) or about["kinds"] != kinds):
                if _in_use(path):
                    raise UserError(
                        f"Another run is writing {table} from another study or model; wait for it, or give another OUT."
                    )
                about = None
            known = [] if about is None else list(about["subject_ids"])
            fresh = sorted(set(subject_ids) - set(known))
            if about is None:
                if path.exists():
                    remove_folder(path)
                (path / "done").mkdir(parents=True)
                (path / "claims").mkdir()
                for kind in kinds:
                    RegionRows.create(path / f"{kind}.zarr", len(fresh), *shape)
                _begin_with_finished(table, path, fresh, kinds, mark_of(request), stamp)
            elif fresh:
                for kind in kinds:
                    RegionRows(path / f"{kind}.zarr").arrange(range(len(known)), len(known) + len(fresh))
            request_and_subjects = {"request": dict(request), "kinds": kinds, "subject_ids": [*known, *fresh]}
            write_text(path / "about.json", json.dumps(request_and_subjects) + "\n")
        return cls(table)

    @property
    def finished(self) -> bool:
        """Whether a run has completed it, so that the folder is gone."""
        return not (self.path / "about.json").is_file()

    def is_done(self, subject_id: str, stamp: int) -> bool:
        """Whether the subject, as it is now, is embedded."""
        try:
            return int(self._read(subject_id)["stamp"]) == stamp
        except (OSError, ValueError):
            return False

    def write(self, subject_id: str, stamp: int, found: Embedding) -> None:
        """Store a subject's embedding; the file that marks it as done comes last."""
        row = self.rows[subject_id]
        for kind in self.kinds:
            if kind not in self._arrays:
                self._arrays[kind] = RegionRows(self.path / f"{kind}.zarr")
            self._arrays[kind].write(row, found.nodes if kind == "regions" else found.patch_features)
            sync(self.path / f"{kind}.zarr" / "c" / str(row) / "0" / "0")
        _write_done(self.path, subject_id, stamp, found.subject)

    def finish(
        self, subject_ids: Sequence[str], attributes: Mapping[str, Mapping[str, Any]], about: Mapping[str, Any]
    ) -> bool:
        """Write the table and the stores of these subjects, in this order; False where another run has done so.

        ``attributes`` say what each kind of store is, ``about`` what the features of the table are.
        """
        with _lock(self.table):
            if self.finished:
                return False
            done = [self._read(name) for name in subject_ids]
            vectors = np.stack([np.asarray(one["vector"], dtype=np.float32) for one in done])
            made = {"made_from": self._mark, "stamps": [int(one["stamp"]) for one in done]}
            rows = [self.rows[name] for name in subject_ids]
            for kind in self.kinds:
                store = RegionRows(self.path / f"{kind}.zarr")
                store.arrange(rows)
                store.finish(beside(self.table, kind), subject_ids, {**attributes[kind], **made})
            if "patches" not in self.kinds:
                shutil.rmtree(beside(self.table, "patches"), ignore_errors=True)  # of an earlier run
            write_embeddings(self.table, subject_ids, vectors, about)
            remove_folder(self.path)
        return True

    def drop_if_empty(self) -> None:
        """Remove the folder if no subject is done and no other run uses it."""
        with _lock(self.table):
            if not self.finished and not any((self.path / "done").iterdir()) and not _in_use(self.path):
                remove_folder(self.path)

    def _read(self, subject_id: str) -> NDArray[np.void]:
        found: NDArray[np.void] = np.load(self.path / "done" / f"{subject_id}.npy", allow_pickle=False)
        return found


def _layout(features: int) -> np.dtype[np.void]:
    return np.dtype([("stamp", "<i8"), ("vector", "<f4", (features,))])


def _write_done(path: Path, subject_id: str, stamp: int, vector: NDArray[np.float32]) -> None:
    """The small file that marks a subject as done."""
    done = np.zeros((), dtype=_layout(len(vector)))
    done["stamp"], done["vector"] = stamp, vector
    with whole_file(path / "done" / f"{subject_id}.npy") as part, part.open("wb") as file:
        np.save(file, done)


def _begin_with_finished(
    table: Path, path: Path, names: Sequence[str], kinds: Sequence[str], mark: str, stamp: Callable[[str], int]
) -> None:
    """Take over the results of an earlier run; the row of the k-th name is k."""
    rows = {name: row for row, name in enumerate(names)}
    for subject_id, made, vector, files in finished_before(table, rows, kinds, mark, stamp):
        for kind, file in files.items():
            same_file(file, path / f"{kind}.zarr" / "c" / str(rows[subject_id]) / "0" / "0")
        _write_done(path, subject_id, made, vector)


def _folder(table: Path) -> Path:
    return table.with_name(f".{table.stem}.embed")


def _in_use(path: Path) -> bool:
    """Whether a living process holds a claim there."""
    return any(holder(path / "claims", file.name) for file in (path / "claims").glob("*.claim"))


def _lock(table: Path) -> Any:
    return alone(table.parent, f".{table.stem}.embed.lock")


def _about(path: Path) -> dict[str, Any] | None:
    try:
        about: dict[str, Any] = json.loads((path / "about.json").read_text(encoding="utf-8"))
        whole = all((path / f"{kind}.zarr" / "zarr.json").is_file() for kind in about["kinds"])
        return about if whole and {"request", "subject_ids"} <= about.keys() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
