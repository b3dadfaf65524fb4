"""The embedding of another scan that lies where a new one is to be written: kept under a name of its own."""

from __future__ import annotations

import json
from pathlib import Path

from anatograph.embedding.sources import Source
from anatograph.embedding.table import beside, read_embeddings
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount


def set_aside(table: Path, scan: Source) -> str | None:
    """Rename the embedding of another scan, ``OUT.parquet`` and what belongs to it, to ``OUT.ID.parquet``.

    Nothing happens where ``table`` does not exist or holds the embedding of the same scan, which is made again.
    Returns a sentence that says what was renamed.

    Raises:
        UserError: the table holds the embeddings of several subjects, which one scan must not replace.
    """
    if not table.is_file():
        return None
    held = read_embeddings(table).subject_ids
    account = RunAccount("embed", {}, table).path
    try:
        source = Path(json.loads(account.read_text(encoding="utf-8"))["settings"]["source"]).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        source = scan.path.resolve()
    if held == scan.subject_ids and source == scan.path.resolve():
        return None
    if len(held) != 1:
        raise UserError(
            f"{table} holds embeddings of {len(held)} subjects; give another OUT, or remove that file first."
        )
    new = _free(table, held[0])
    for kind in ("regions", "patches"):
        if beside(table, kind).exists():
            beside(table, kind).rename(beside(new, kind))
    if account.is_file():
        account.rename(RunAccount("embed", {}, new).path)
    table.rename(new)
    return f"{table} held the embedding of {held[0]}, made from {source}; it is now {new}"


def _free(table: Path, name: str) -> Path:
    """A path beside ``table`` for the embedding of ``name`` that nothing has yet."""
    number = 1
    while True:
        suffix = name if number == 1 else f"{name}-{number}"
        path = table.with_name(f"{table.stem}.{suffix}.parquet")
        if not any(there.exists() for there in (path, beside(path, "regions"), beside(path, "patches"))):
            return path
        number += 1
