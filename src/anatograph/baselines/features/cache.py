"""Arrays on disk together with a record of what they were computed from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.execution.files import whole_folder

Arrays = dict[str, NDArray[Any]]


def cached(folder: Path, made_from: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """The arrays in ``folder`` if they were made from ``made_from`` (JSON values); otherwise calls ``make`` and stores
    its result.

    Arrays read from the cache are read-only memory maps.
    """
    note = json.dumps(dict(made_from), sort_keys=True, indent=1)
    file = folder / "made_from.json"
    if file.is_file() and file.read_text(encoding="utf-8") == note:
        return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
    arrays = make()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder, folder.parent / ".unfinished") as part:
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)
        (part / "made_from.json").write_text(note, encoding="utf-8")
    return arrays
