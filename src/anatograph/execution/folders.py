"""Output folders: new, or made by the same kind of run with the same settings; anything else is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.execution.files import write_text


def refuse_foreign(folder: Path, kind: str, allowed: Callable[[Path], bool] = lambda entry: False) -> None:
    """Refuse an output folder that holds something else; nothing is written.

    Args:
        folder: the folder; it need not exist.
        kind: what it is to hold, with its article: ``a study``.
        allowed: whether an entry of the folder may be there all the same.

    Raises:
        UserError: it is a file, or holds entries that are not allowed.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for {kind}.")
    if folder.is_dir() and not all(allowed(entry) for entry in folder.iterdir()):
        raise UserError(f"{folder} is not empty and does not hold {kind}; give a new or empty folder.")


def claim_folder(
    folder: Path,
    marker: str,
    settings: Mapping[str, Any],
    kind: str,
    words: Mapping[str, str] | None = None,
) -> None:
    """Make a folder the output of one kind of run, or confirm that it is the output of the same run.

    Args:
        folder: the folder; created where it does not exist.
        marker: name of the JSON file that holds the settings.
        settings: everything that the outputs depend on.
        kind: what the folder holds, with its article: ``a benchmark``.
        words: for settings whose values mean nothing to a reader (digests), what a difference means.

    Raises:
        UserError: it is a file, holds something else, or was made with other settings; says which differ.
    """
    file = folder / marker
    wanted: dict[str, Any] = json.loads(json.dumps(settings))
    if not file.is_file():
        refuse_foreign(folder, kind)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(wanted, indent=2) + "\n")
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{file} cannot be read, so what {folder} holds is unknown; give another folder.")
    differing = _differences(found, wanted, words or {})
    if differing:
        raise UserError(
            f"{folder} holds {kind} made with other settings ({'; '.join(differing)}); give the same settings, or "
            "another folder."
        )


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], words: Mapping[str, str]) -> list[str]:
    differing: list[str] = []
    for name, value in wanted.items():
        there = found.get(name)
        if there == value:
            continue
        if isinstance(there, dict) and isinstance(value, dict):
            differing += _differences(there, {**dict.fromkeys(there), **value}, words)
        else:
            differing.append(words.get(name, f"{name} {_short(there)}, not {_short(value)}"))
    return differing


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
