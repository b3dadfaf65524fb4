"""The reader's verdicts after embedding: scans of the study that are not to be used any more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from anatograph.embedding.table import Embeddings
from anatograph.errors import UserError
from anatograph.limits import read_json
from anatograph.study.quality.selection import select
from anatograph.study.store import Study


def without_left_out(embeddings: Embeddings, include_flagged: bool = False) -> tuple[Embeddings, list[str]]:
    """Embeddings without the subjects that their study leaves out by now, and sentences that count them.

    The study is found through the account beside the table; where there is none, or the study is gone, all are kept.

    Raises:
        UserError: ``review.csv`` of the study cannot be read, or no subject is left.
    """
    study = study_of(embeddings.path)
    if study is None:
        return embeddings, []
    left_out = set(select(study, include_flagged).left_out) & set(embeddings.subject_ids)
    if not left_out:
        return embeddings, []
    kept = np.array([name not in left_out for name in embeddings.subject_ids])
    if not kept.any():
        raise UserError(f"Every subject of {embeddings.path} is rejected or excluded in the study {study.path}.")
    names = sorted(left_out)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    note = f"{len(names)} subjects that the study {study.path} rejects or excludes are left out: {shown}"
    ids = [name for name in embeddings.subject_ids if name not in left_out]
    return Embeddings(ids, embeddings.features[kept], embeddings.path), [note]


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
