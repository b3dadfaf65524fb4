"""Subject identifiers, which name folders and files: their rule, and the only way from one to a path."""

from __future__ import annotations

import re
from pathlib import Path

from anatograph.errors import UserError, plain
from anatograph.imaging.writing import volume_name

_SUBJECT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def fault_of(subject_id: str) -> str:
    """Why a text is not a valid subject identifier, as a clause; empty where it is."""
    if not subject_id:
        return "subject_id is empty"
    shown = plain(subject_id)[:80]
    if not _SUBJECT_ID.fullmatch(subject_id):
        return f"subject_id '{shown}' must be 1 to 64 of the characters A-Z a-z 0-9 . _ -"
    if subject_id in {".", ".."}:
        return f"subject_id '{shown}' cannot be the name of a folder"
    return ""


def subject_folder(study: Path, subject_id: str) -> Path:
    """The folder of a subject in a study, which never lies elsewhere.

    Raises:
        UserError: the text is not a valid subject identifier (``../x``).
    """
    if fault := fault_of(subject_id):
        raise UserError(f"{study}: {fault}.")
    return study / "subjects" / subject_id


def id_from(source: Path) -> str:
    """A subject identifier made from the name of a scan's file or folder."""
    source = source.resolve()
    name = volume_name(source)
    name = source.name if name is None else name
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:64] or "scan"
