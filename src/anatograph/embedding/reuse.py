"""Subjects that a finished run embedded, have not changed since, and need not be embedded again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph._version import __version__
from anatograph.embedding.table import beside, read_embeddings
from anatograph.embedding.zarr_check import check_zarr
from anatograph.errors import UserError


def mark_of(request: Mapping[str, Any]) -> str:
    """Digest of a request (source, model, preprocessing) and of the version that answers it."""
    text = json.dumps({**request, "version": __version__}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def finished_before(
    table: Path, names: Collection[str], kinds: Sequence[str], mark: str, stamp: Callable[[str], int]
) -> Iterator[tuple[str, int, NDArray[np.float32], dict[str, Path]]]:
    """Subjects of the files beside ``table`` that need not be embedded again.

    Args:
        table: ``OUT.parquet``.
        names: subjects that are wanted.
        kinds: of stores that are wanted.
        mark: `mark_of` what is wanted.
        stamp: what changes when a subject does.

    Yields:
        Subject, its stamp, its vector (F,), and for each kind the file of its row.  Nothing where the files are not
        there, are damaged, or were made from something else.
    """
    try:
        rows = [_rows(beside(table, kind), mark) for kind in kinds]
        written = read_embeddings(table)
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return
    for subject_id, vector in zip(written.subject_ids, written.features.astype(np.float32), strict=True):
        found = [row.get(subject_id) for row in rows if subject_id in names]
        whole = [row for row in found if row is not None and row[1].is_file()]
        if whole and len(whole) == len(kinds) and {row[0] for row in whole} == {stamp(subject_id)}:
            files = {kind: file for kind, (_, file) in zip(kinds, whole, strict=True)}
            yield subject_id, whole[0][0], vector, files


def _rows(store: Path, mark: str) -> dict[str, tuple[int, Path]]:
    """Each subject's stamp and chunk."""
    check_zarr(store)
    about = json.loads((store / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    if about["made_from"] != mark:
        return {}
    return {
        str(name): (int(stamp), store / "c" / str(row) / "0" / "0")
        for row, (name, stamp) in enumerate(zip(about["subject_ids"], about["stamps"], strict=True))
    }


def same_file(file: Path, place: Path) -> None:
    """Let ``place`` hold what ``file`` holds: a second name where the disk can, else a copy."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        os.link(file, place)
        return
    shutil.copyfile(file, place)
