"""The reader's verdicts after embedding: scans of the study that are not to be used any more."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anatograph.embedding.table import Embeddings
from anatograph.errors import UserError
from anatograph.limits import read_json
from anatograph.study.quality.selection import select
from anatograph.study.store import Study


def without_left_out(embeddings: Embeddings, include_flagged: bool = False) -> tuple[Embeddings, list[str]]:
    """Embeddings without the subjects that their study leaves out by now, and sentences that count them.

    Raises:
        UserError: ``review.csv`` of the study cannot be read, or no subject is left.
    """
    ids, notes = still_used(embeddings.path, embeddings.subject_ids, include_flagged)
    if not notes:
        return embeddings, []
    return replace(embeddings, subject_ids=ids, features=embeddings.only(ids)), notes


def still_used(table: Path, subject_ids: Sequence[str], include_flagged: bool = False) -> tuple[list[str], list[str]]:
    """Those of the subjects of a table of embeddings that their study uses by now, and a sentence that counts the rest.

    The study is found through the account beside the table; where there is none, or the study is gone, all are used.

    Raises:
        UserError: ``review.csv`` of the study cannot be read, or no subject is left.
    """
    study = study_of(table)
    left_out = set(select(study, include_flagged).left_out) & set(subject_ids) if study is not None else set()
    if study is None or not left_out:
        return list(subject_ids), []
    kept = [name for name in subject_ids if name not in left_out]
    if not kept:
        raise UserError(f"Every subject of {table} is rejected or excluded in the study {study.path}.")
    names = sorted(left_out)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    many = f"{len(names)} subject{'s' if len(names) != 1 else ''}"
    return kept, [f"{many} that the study {study.path} rejects or excludes left out: {shown}"]


def study_of(table: Path) -> Study | None:
    """The study that a table was embedded from, if its account names it and it is still there."""
    try:
        account = read_json(table.with_name(f"{table.stem}.run.json"))
        named = account["settings"].get("study")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, json.JSONDecodeError):
        return None
    if not isinstance(named, str) or not (Path(named) / "study.json").is_file():
        return None
    return Study.open(named)
