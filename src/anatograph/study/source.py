"""The file or folder that a subject came from, so that a change of it is noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def fingerprint(path: Path) -> dict[str, Any]:
    """Path, number of files, bytes, time of the last change, and a digest of the contents of a file or a folder."""
    files = _files(path)
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return {"path": str(path.resolve()), **_state(files), "digest": digest.hexdigest()}


def state(path: Path) -> dict[str, int]:
    """What is known of a file or folder without reading it: number of files, bytes, time of the last change."""
    return _state(_files(path))


def has_changed(path: Path, known: dict[str, Any]) -> bool:
    """Whether a file or folder has changed since its `fingerprint` was taken; contents are read only in doubt."""
    if not path.exists() or "digest" not in known:
        return False
    outside = state(path)
    if all(outside[name] == known.get(name) for name in outside):
        return False
    return bool(fingerprint(path)["digest"] != known["digest"])


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _state(files: list[Path]) -> dict[str, int]:
    states = [file.stat() for file in files]
    return {
        "files": len(files),
        "bytes": sum(state.st_size for state in states),
        "modified_ns": max((state.st_mtime_ns for state in states), default=0),
    }
