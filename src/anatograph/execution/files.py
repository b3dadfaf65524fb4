"""Writing files and folders so that they are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace a text file (UTF-8) in one step."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path, workshop: Path, token: str | None = None) -> Iterator[Path]:
    """Give a new folder inside ``workshop`` to fill; on leaving without an error it becomes ``target``.

    Its files reach the disk before it takes its name, so a folder called ``target`` is complete even after a power
    cut.  ``workshop`` must be on the same file system.  A folder already called ``target`` is replaced.  ``token``
    says who works there (see `claims`), so that nobody else clears it away.
    """
    workshop.mkdir(parents=True, exist_ok=True)
    part = workshop / f"{target.name}-{token or uuid.uuid4().hex[:12]}"
    part.mkdir()
    try:
        yield part
        for file in part.rglob("*"):
            sync(file)
        sync(part)
        if target.exists():
            remove_folder(target, workshop)
        part.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def remove_folder(folder: Path, workshop: Path) -> None:
    """Remove a folder so that nobody sees it half gone: it loses its name first."""
    workshop.mkdir(parents=True, exist_ok=True)
    rubbish = workshop / f"rubbish-{uuid.uuid4().hex[:12]}"
    folder.rename(rubbish)
    shutil.rmtree(rubbish, ignore_errors=True)


def clear_leftovers(workshop: Path, alive: Callable[[str, str], bool] = lambda name, token: False) -> int:
    """Remove what killed processes left in ``workshop``; returns how many folders there were.

    ``alive`` is asked with the name of the target and the token of each whether somebody still works there.  Each
    loses its name before its files go, so a process that was thought dead finds its folder gone when it wants to name
    it, and cannot put half a folder in place.
    """
    if not workshop.is_dir():
        return 0
    leftovers = [entry for entry in workshop.iterdir() if not alive(*entry.name.rpartition("-")[::2])]
    for leftover in leftovers:
        rubbish = workshop / f"rubbish-{uuid.uuid4().hex[:12]}"
        try:
            leftover.rename(rubbish)
        except FileNotFoundError:
            continue
        shutil.rmtree(rubbish, ignore_errors=True)
    return len(leftovers)


def sync(path: Path) -> None:
    """Have a file or folder written through to the disk; folders only where the system can.

    Raises:
        OSError: where a file cannot; network file systems tell only now that the disk is full.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
