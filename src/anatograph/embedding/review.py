"""Scans that are left out after embedding: by the reader, by ``--exclude``, or as the cohort no longer lists them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from anatograph.embedding.table import Embeddings
from anatograph.errors import UserError, counted
from anatograph.limits import read_json
from anatograph.study.quality.exclusion import excluded_ids, known_ids
from anatograph.study.quality.selection import Selection, choose, some
from anatograph.study.store import Study


def without_left_out(
    embeddings: Embeddings,
    include_flagged: bool = False,
    exclude: Sequence[str] = (),
    also_known: Collection[str] = (),
    by_table: bool = True,
) -> tuple[Embeddings, list[str]]:
    """Embeddings without the subjects that are left out by now, and sentences that count them; see `still_used`.

    Raises:
        UserError: ``review.csv`` of the study cannot be read, ``exclude`` names an unknown subject, or none is left.
    """
    ids, notes = still_used(embeddings.path, embeddings.subject_ids, include_flagged, exclude, also_known, by_table)
    if not notes:
        return embeddings, []
    return replace(embeddings, subject_ids=ids, features=embeddings.only(ids)), notes


def still_used(
    table: Path,
    subject_ids: Sequence[str],
    include_flagged: bool = False,
    exclude: Sequence[str] = (),
    also_known: Collection[str] = (),
    by_table: bool = True,
) -> tuple[list[str], list[str]]:
    """Those of the subjects of a table of embeddings that are used by now, and sentences that count the rest.

    Left out are those in ``exclude`` and those that the study leaves out, see `anatograph.study.quality.selection`.
    The study is found through the account beside the table; where there is none, or the study is gone, all others are
    used.  ``also_known`` are further subjects that ``exclude`` may name, such as those of a cohort table; with
    ``by_table`` subjects that the cohort tables of the study no longer list are left out too.

    Raises:
        UserError: ``review.csv`` of the study cannot be read, ``exclude`` names an unknown subject, or none is left.
    """
    study = study_of(table)
    named: frozenset[str] = frozenset()
    if exclude:
        known = {*subject_ids, *also_known, *(known_ids(study) if study is not None else ())}
        named = excluded_ids(exclude, known, table)
    selection = Selection((), named=tuple(name for name in subject_ids if name in named))
    if study is not None:
        there = choose(study, include_flagged, named, by_table).among(set(subject_ids))
        lost = set(selection.named) - set(there.left_out)  # in the embeddings, and in the study no more
        selection = replace(there, named=(*there.named, *sorted(lost)))
    if not selection.left_out:
        return list(subject_ids), []
    left_out = set(selection.left_out)
    kept = [name for name in subject_ids if name not in left_out]
    notes = _notes(selection, study)
    if not kept:
        raise UserError(f"No subject of {table} is left: {'; '.join(notes)}.")
    return kept, notes


def _notes(selection: Selection, study: Study | None) -> list[str]:
    notes = []
    judged = sorted((*selection.rejected, *selection.excluded))
    if judged and study is not None:
        many = counted(len(judged), "subject")
        notes.append(f"{many} that the study {study.path} rejects or excludes left out: {some(judged)}")
    further = replace(selection, rejected={}, excluded={})
    return [*notes, *further.notes]


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
