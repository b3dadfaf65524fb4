"""Available memory, the memory a worker needs, and the number of workers that fit."""

from __future__ import annotations

import os
from pathlib import Path

WORKER_GB = 1.5
"""What a worker needs for a CT of 512 × 512 × 480 voxels with the built-in methods: measured in docs/cohorts.md."""


def available_gb() -> float | None:
    """Available memory in GB: the machine's, or less where a container or a batch system limits it.

    None where the system does not report it.
    """
    found = [value for value in (_machine(), *_groups()) if value is not None]
    return min(found) / 1e9 if found else None


def workers_that_fit(asked: int, worker_gb: float = WORKER_GB) -> tuple[int, str]:
    """How many of the requested workers fit into memory (at least one), and a sentence where that is fewer."""
    there = available_gb()
    if there is None or asked * worker_gb <= there:
        return asked, ""
    fit = max(1, int(there / worker_gb))
    if fit >= asked:
        return asked, ""
    return fit, (
        f"{fit} of the {asked} requested workers are started: {there:.1f} GB of memory are free and each is expected "
        f"to need {worker_gb:g} GB; --worker-memory GB changes that."
    )


def limit_memory(gigabytes: float) -> None:
    """Limit the memory of this process, so that one large scan cannot take the machine down.

    Beyond the limit an allocation fails, which is an error of the one scan. Linux only; elsewhere nothing happens.
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
    """Bytes that the control groups of this process still allow (versions 1 and 2), for it and all groups above it."""
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
    """Bytes of cached files that the group can release at once."""
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
