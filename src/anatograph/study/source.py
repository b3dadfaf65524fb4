"""The file or folder that a subject came from, so that a change of it is noticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.imaging.dicom.elements import looks_like_dicom
from anatograph.imaging.dicom.headers import folder_files

_CLUTTER = {"thumbs.db", "desktop.ini", ".ds_store", "dicomdir"}
"""Files that systems and viewers leave in a folder, in lower case."""


def fingerprint(path: Path) -> dict[str, Any]:
    """What identifies the contents of a scan's file or folder.

    Returns:
        ``path``, number of ``files``, ``bytes``, time of the last change in ``modified_ns``, and a ``digest`` of names
        and contents; of a folder the digest is that of its DICOM files, at any depth and through links.
    """
    files = _files(path)
    return {"path": str(path.resolve()), **_state(files), "digest": _digest(_slices(files))}


def state(path: Path) -> dict[str, int]:
    """What is known of a file or folder without reading it: number of files, bytes, time of the last change."""
    return _state(_files(path))


def has_changed(path: Path, known: dict[str, Any]) -> bool:
    """Whether a file or folder has changed since its `fingerprint` was taken; contents are read only in doubt."""
    if not path.exists() or "digest" not in known:
        return False
    files = _files(path)
    outside = _state(files)
    if all(outside[name] == known.get(name) for name in outside) or _digest(_slices(files)) == known["digest"]:
        return False
    # Older versions took the digest of every file below a folder.
    return not path.is_dir() or _digest(_every_file(path)) != known["digest"]


def same_contents(path: Path) -> str:
    """A digest of a scan's contents that does not depend on the names of its files."""
    parts = sorted(_digest([file], names=False) for file in _slices(_files(path)))
    return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()


def _digest(files: Sequence[Path], names: bool = True) -> str:
    """Of names and contents.

    Raises:
        UserError: one of them is a pipe, a socket or a device.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        if names:
            digest.update(os.fsencode(file.name))
        if not file.is_file():  # opening a named pipe would wait for ever
            raise UserError(f"{file} is not a regular file; give the scan's file or its folder.")
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """The file itself, or the files below a folder without what systems and viewers leave there."""
    if not path.is_dir():
        return [path]
    return [file for file in folder_files(path) if file.is_file() and not _is_clutter(file.name.lower())]


def _is_clutter(name: str) -> bool:
    return name in _CLUTTER or name.startswith("._")


def _slices(files: Sequence[Path]) -> Sequence[Path]:
    """Those of several files that are DICOM; all where none is."""
    return files if len(files) == 1 else [file for file in files if looks_like_dicom(file)] or files


def _every_file(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def _state(files: Sequence[Path]) -> dict[str, int]:
    states = [file.stat() for file in files]
    return {
        "files": len(files),
        "bytes": sum(state.st_size for state in states),
        "modified_ns": max((state.st_mtime_ns for state in states), default=0),
    }
