"""How much memory there is, how much a worker may take, and how many workers that makes."""

from __future__ import annotations

import os
from pathlib import Path

WORKER_GB = 1.5
"""What a worker needs for a CT of 512 × 512 × 500 voxels with the built-in methods: measured in docs/cohorts.md."""


def available_gb() -> float | None:
    """Memory that can be had now in GB: the machine's, or less where a container or a batch system allows less.

    None where the system does not tell.
    """
    found = [value for value in (_machine(), *_groups()) if value is not None]
    return min(found) / 1e9 if found else None


def workers_that_fit(asked: int, worker_gb: float = WORKER_GB) -> tuple[int, str]:
    """How many of the workers asked for memory allows (at least one), and a sentence where that is fewer."""
    there = available_gb()
    if there is None or asked * worker_gb <= there:
        return asked, ""
    fit = max(1, int(there / worker_gb))
    if fit >= asked:
        return asked, ""
    return fit, (
        f"{fit} of the {asked} workers asked for are started: {there:.1f} GB of memory are free and each is reckoned "
        f"with {worker_gb:g} GB; --worker-memory GB reckons otherwise."
    )


def limit_memory(gigabytes: float) -> None:
    """From now on this process is refused more memory than that, so that one large scan cannot take the machine down.

    A refusal is an error of the one scan. Linux only; elsewhere nothing happens.
    """
    try:
        import resource

        size = int(gigabytes * 1e9)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if Path("/proc").is_dir():
            resource.setrlimit(resource.RLIMIT_DATA, (size if hard == -1 else min(size, hard), hard))
    except (ImportError, ValueError, OSError):
        return


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _groups() -> list[int]:
    """What the control groups of this process still allow (versions 1 and 2), for it and all groups above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    allowed = []
    for line in lines:
        number, controllers, inside = line.split(":", 2)
        if number == "0":
            root, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        place = root / inside.lstrip("/")
        for folder in (place, *place.parents):
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None and limit < 1 << 60:
                allowed.append(max(0, limit - used + (_cache(folder) or 0)))
            if folder == root:
                break
    return allowed


def _cache(folder: Path) -> int | None:
    """Bytes of files that the group keeps in memory and that can be given back at once."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = dict(line.split()[:2] for line in lines if line)
    return int(found.get("inactive_file", found.get("total_inactive_file", 0)))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" means no limit
        return None
