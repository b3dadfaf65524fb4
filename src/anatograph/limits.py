"""Upper bounds on input from outside, beyond which it is refused unread, and how to raise the one that matters."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from anatograph.errors import UserError

SCAN_GB_VARIABLE = "ANATOGRAPH_MAX_SCAN_GB"
"""Environment variable that raises (or lowers) `max_scan_bytes`."""
SCAN_GB = 4.0
"""Default of it: 1,500 slices of 1024 × 1024 take 3.1 GB as int16."""
MAX_HEADER_BYTES = 2**22
"""Longest header of a volume file, its extensions and comments included."""
MAX_JSON_BYTES = 2**26
"""Longest JSON file that is read; an atlas of 10,000 landmarks takes 1 MB."""
MAX_FOLDER_FILES = 50_000
"""Most files that are searched for DICOM images in one folder."""
MAX_TABLE_BYTES = 2**31
"""Most bytes of a table, uncompressed."""


def max_scan_bytes() -> int:
    """Most bytes that the voxels of a scan or mask may take in memory, as stored in the file or as int16.

    Raises:
        UserError: the environment variable that overrides it is not a positive number.
    """
    text = os.environ.get(SCAN_GB_VARIABLE, "")
    try:
        value = float(text) if text.strip() else SCAN_GB
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise UserError(f"{SCAN_GB_VARIABLE} must be a number of gigabytes, not '{text}'.")
    return int(value * 1e9)


def check_scan_size(size: tuple[int, ...], bytes_per_voxel: float, source: str) -> None:
    """Refuse a scan or mask whose header claims too many voxels, before anything is allocated."""
    claimed = math.prod(size) * max(2.0, bytes_per_voxel)
    if claimed > max_scan_bytes():
        raise UserError(
            f"{source}: its header claims {' × '.join(map(str, size))} voxels, {claimed / 1e9:,.1f} GB, and more than "
            f"{max_scan_bytes() / 1e9:g} GB is not read; if it is right, set {SCAN_GB_VARIABLE} to a larger number."
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it does not exist or cannot be read.
        ValueError: it is not JSON, too long, or nested too deeply to be parsed.
    """
    with path.open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"longer than {MAX_JSON_BYTES // 2**20} MiB")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
