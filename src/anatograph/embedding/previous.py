"""Embeddings of another scan or study that lie where new ones are to be written: kept under a name of their own."""

from __future__ import annotations

from pathlib import Path

from anatograph.embedding.sources import Source
from anatograph.embedding.table import beside, read_embeddings
from anatograph.errors import UserError, counted
from anatograph.execution.account import RunAccount
from anatograph.limits import read_json


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
    source = _places(table).get("source", scan.path.resolve())
    if held == scan.subject_ids and source == scan.path.resolve():
        return None
    if len(held) != 1:
        raise UserError(
            f"{table} holds embeddings of {len(held)} subjects; give another OUT, or remove that file first."
        )
    new = _renamed(table, held[0])
    return f"{table} held the embedding of {held[0]}, made from {source}; it is now {new}"


def set_aside_other(table: Path, source: Path, study: Path | None) -> str | None:
    """Rename the embeddings of another study, cohort or scan to ``OUT.previous.parquet``, with what belongs to them.

    Nothing happens where ``table`` does not exist, where its account names this source or this study, or where there is
    no account. Returns a sentence that says what was renamed.
    """
    made_from = _places(table) if table.is_file() else {}
    here = {source.resolve(), *([] if study is None else [study.resolve()])}
    if not made_from or here & set(made_from.values()):
        return None
    held = len(read_embeddings(table).subject_ids)
    new = _renamed(table, "previous")
    return f"{table} held the embeddings of {counted(held, 'subject')} of {made_from['source']}; it is now {new}"


def _places(table: Path) -> dict[str, Path]:
    """``source`` and, where there is one, ``study`` of a table, by its account; empty without an account."""
    try:
        settings = read_json(RunAccount("embed", {}, table).path)["settings"]
        found = {"source": Path(settings["source"]).resolve()}
        return found | ({"study": Path(settings["study"]).resolve()} if settings.get("study") else {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _renamed(table: Path, name: str) -> Path:
    """Give a table, its stores and its account another name, and return it."""
    new = _free(table, name)
    for kind in ("regions", "patches"):
        if beside(table, kind).exists():
            beside(table, kind).rename(beside(new, kind))
    account = RunAccount("embed", {}, table).path
    if account.is_file():
        account.rename(RunAccount("embed", {}, new).path)
    table.rename(new)
    return new


def _free(table: Path, name: str) -> Path:
    """A path beside ``table`` for the embedding of ``name`` that nothing has yet."""
    number = 1
    while True:
        suffix = name if number == 1 else f"{name}-{number}"
        path = table.with_name(f"{table.stem}.{suffix}.parquet")
        if not any(there.exists() for there in (path, beside(path, "regions"), beside(path, "patches"))):
            return path
        number += 1
