"""Writing files and folders atomically: a reader sees the old content or all of the new, even after a power cut."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, suffix: str = "") -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; on leaving without an error it replaces ``path``.

    The content reaches the disk before the file takes its name.

    Args:
        path: the file to be written; its folder must exist.
        suffix: how the temporary name must end, for libraries that choose a format by it.

    Raises:
        OSError: the disk is full or the folder cannot be written; the file that was there stays.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part{suffix}")
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_error(path: Path, what: str) -> OSError:
    """The error for a file that a library could not write or cut short without an error number.

    It is "no space left" where the disk has less than 1 MiB, and an input/output error otherwise. ``what`` says what
    was found, in words.
    """
    full = shutil.disk_usage(path.parent).free < 1 << 20
    number = errno.ENOSPC if full else errno.EIO
    return OSError(number, f"{os.strerror(number)} ({what})", str(path.parent))


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file (UTF-8) atomically; parts of a file name that are not UTF-8 become ``\\udcXX``."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


@contextmanager
def whole_folder(target: Path, workshop: Path, token: str | None = None) -> Iterator[Path]:
    """Give a new folder inside ``workshop`` to fill; on leaving without an error it becomes ``target``.

    Its files reach the disk before it takes its name, so a folder called ``target`` is complete even after a power
    cut.  ``workshop`` must be on the same file system.  A folder already called ``target`` is replaced.  ``token``
    names the claim under which it is filled (see `claims`), so that no other run clears it away.
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


def remove_folder(folder: Path, workshop: Path | None = None) -> None:
    """Remove a folder so that no reader sees it half gone: it is renamed into ``workshop`` first.

    Without a workshop it gets a hidden name beside itself.
    """
    token = uuid.uuid4().hex[:12]
    rubbish = folder.with_name(f".{folder.name.lstrip('.')}.{token}.old")
    if workshop is not None:
        workshop.mkdir(parents=True, exist_ok=True)
        rubbish = workshop / f"rubbish-{token}"
    folder.rename(rubbish)
    shutil.rmtree(rubbish, ignore_errors=True)


def replace_folder(fresh: Path, target: Path) -> None:
    """Give the complete folder ``fresh`` the name ``target``; a folder of that name is removed."""
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.old")
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def clear_leftovers(workshop: Path, alive: Callable[[str, str], bool] = lambda name, token: False) -> int:
    """Remove what killed processes left in ``workshop``; returns the number of folders.

    ``alive`` is called with the target's name and the token of each, and says whether a living process fills it.  Each
    is renamed before its files are removed, so a process wrongly taken for dead finds its folder gone when it is about
    to name it, and cannot put half a folder in place.
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
        OSError: where a file cannot; network file systems report only now that the disk is full.
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
