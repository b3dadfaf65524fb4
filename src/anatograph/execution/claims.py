"""Claims on pieces of work, when several processes on several machines fill one folder.

A claim is a small file named after the work.  Its holder keeps it locked (``flock``), which the system undoes when the
process dies, and touches it every `HEARTBEAT` seconds.  Another process's claim is dead

* on the same machine, when its lock can be had;
* on another machine, when its lock can be had (or locks are not supported) and it has not been touched for `STALE`
  seconds.  Locks may not reach from machine to machine (NFS mounted with ``nolock``, Lustre without ``flock``), and a
  heartbeat may be late while a library keeps Python waiting; only both together count as dead.

Claims avoid duplicate work; they do not protect results, which are renamed into place in one step (`files.py`).  Where
a file system ignores locks, a subject may be computed twice, and the second result is dropped.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

HEARTBEAT = 20.0
"""Seconds between two touches of a held claim."""
STALE = 300.0
"""Seconds without a touch after which a claim from another machine is dead.  NFS may show times a minute late."""
_SIZE = 512
"""Claims are this long, so that taking one over needs no new block of a full disk."""
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


class Claim:
    """A claim that this process holds, until `release` or the end of the process."""

    def __init__(self, path: Path, handle: int, token: str, dead: str) -> None:
        self.path = path
        self.token = token
        """Names what this holder has left unfinished."""
        self.dead = dead
        """Token of the dead holder from which it was taken, or an empty string."""
        self._handle = handle
        _beating(self)

    def touch(self) -> None:
        """Show that the holder is alive."""
        with suppress(OSError):
            os.utime(self._handle)

    def release(self) -> None:
        """Give the claim up."""
        _held.discard(self)
        with suppress(OSError):
            self.path.unlink()
        with suppress(OSError):
            os.close(self._handle)


def claim(folder: Path, name: str) -> Claim | None:
    """Claim the work ``name`` in the folder of claims, or None while a living process holds it.

    Raises:
        OSError: where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, token = folder / name, uuid.uuid4().hex[:12]
    return _new(path, token) or _from_the_dead(path, token)


def holder(folder: Path, name: str) -> str | None:
    """Token of the living holder of a claim, or None where it is free or its holder dead."""
    path = folder / name
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        about = _read(handle)
        alive = not _locked(handle) or _may_live_elsewhere(handle, about)
        return str(about.get("token", "")) if alive else None
    finally:
        os.close(handle)


@contextmanager
def alone(folder: Path, name: str, patience: float = 600.0) -> Iterator[None]:
    """Do something short that only one process may do at a time, after waiting for others.

    Raises:
        TimeoutError: when another process holds it for longer than ``patience`` seconds.
    """
    end = time.monotonic() + patience
    pause = 0.01
    while (held := claim(folder, name)) is None:
        if time.monotonic() > end:
            raise TimeoutError(errno.ETIMEDOUT, "another process holds it", str(folder / name))
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)
    try:
        yield
    finally:
        held.release()


def tidy(folder: Path) -> None:
    """Remove files of processes that were killed while claiming."""
    if not folder.is_dir():
        return
    for part in folder.glob(".*.new"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def _new(path: Path, token: str) -> Claim | None:
    """The claim, unless a file of that name exists; it is locked and written before it gets its name."""
    part = path.with_name(f".{token}.new")
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o664)
    try:
        _locked(handle)
        _write(handle, token)
        try:
            os.link(part, path)
        except FileExistsError:
            if os.fstat(handle).st_nlink < 2:  # on NFS the answer to a link that was made may get lost
                os.close(handle)
                return None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # No hard links here (exFAT, some network disks): the name comes first, the content after.
            mine = _exclusive(path)
            os.close(handle)
            if mine is None:
                return None
            handle = mine
            for _ in range(100):  # another process may be reading it
                if _locked(handle):
                    break
                time.sleep(0.01)
            _write(handle, token)
        return Claim(path, handle, token, "")
    except BaseException:
        with suppress(OSError):
            os.close(handle)
        raise
    finally:
        with suppress(OSError):
            part.unlink()


def _exclusive(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o664)
    except FileExistsError:
        return None


def _from_the_dead(path: Path, token: str) -> Claim | None:
    """The claim of a dead holder, or None if the holder lives or has just released it."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return _new(path, token)
    keep = False
    try:
        if not _locked(handle):
            return None
        about = _read(handle)
        if not _is_at(path, handle):  # released while it was opened
            return None
        if _may_live_elsewhere(handle, about):
            return None
        _write(handle, token)
        keep = True
        return Claim(path, handle, token, str(about.get("token", "")))
    finally:
        if not keep:
            os.close(handle)


def _may_live_elsewhere(handle: int, about: dict[str, Any]) -> bool:
    """Whether a claim that could be locked may still be held on a machine that the lock does not reach."""
    if _locks_work() and about.get("machine") == machine():
        return False
    return abs(time.time() - os.fstat(handle).st_mtime) < STALE


def _is_at(path: Path, handle: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except OSError:
        return False


def _read(handle: int) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(os.pread(handle, _SIZE, 0).rstrip(b" \n\0"))
        return about if isinstance(about, dict) else {}
    except (OSError, ValueError):
        return {}


def _write(handle: int, token: str) -> None:
    about = {"token": token, "machine": machine(), "host": socket.gethostname()[:64], "pid": os.getpid()}
    os.pwrite(handle, json.dumps(about).encode()[:_SIZE].ljust(_SIZE), 0)
    os.utime(handle)


@cache
def machine() -> str:
    """Names this machine since it was started; the same in every process on it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{socket.gethostname()}-{uuid.getnode():x}"


def _locked(handle: int) -> bool:
    """Lock an open file for this process; False if another process has it.  True where locks are not supported."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        _unsupported.add(1)
    return True


def _locks_work() -> bool:
    return not _unsupported


_unsupported: set[int] = set()
_held: set[Claim] = set()
_starting = threading.Lock()
_beat: list[threading.Thread] = []


def _beating(claim: Claim) -> None:
    """Touch the claim from now on, by one thread for all claims of the process."""
    _held.add(claim)
    with _starting:
        if not _beat or not _beat[0].is_alive():  # not alive: this process was forked from one that had it
            _beat[:] = [threading.Thread(target=_touch_all, name="claims", daemon=True)]
            _beat[0].start()


def _touch_all() -> None:
    while True:
        time.sleep(HEARTBEAT)
        for held in list(_held):
            held.touch()
