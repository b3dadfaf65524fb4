"""The folder of one row: its embedding, its predictions in each fold, and whether it is finished."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.execution.files import whole_file, write_text

Array = NDArray[np.float64]


class RowStore:
    """Files of a row; ``row.json`` appears once everything else is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def about(self) -> dict[str, Any] | None:
        """Content of ``row.json``; None while the row is unfinished."""
        return _read_json(self.folder / "row.json")

    @property
    def failure(self) -> str | None:
        """Why the row failed the last time it was tried; None if it was not tried or is finished."""
        failed = _read_json(self.folder / "failed.json")
        return str(failed["reason"]) if failed else None

    @property
    def facts(self) -> tuple[str, int | None] | None:
        """The method's note and number of updates from when its embedding was computed."""
        stored = _read_json(self.folder / "note.json")
        return None if stored is None else (str(stored["note"]), stored.get("updates"))

    def check(self, made_with: Mapping[str, Any]) -> None:
        """Refuse to mix inputs.

        Raises:
            UserError: a finished row that was made with something else.
        """
        done = self.about
        if done and done["made_with"] != dict(made_with):
            raise UserError(
                f"{self.folder} holds results made with {_words(done['made_with'])}, not {_words(made_with)}; give "
                "what they were made with, another --out, or remove this folder."
            )

    def begin(self, made_with: Mapping[str, Any]) -> None:
        """Create the folder; parts of an unfinished row that were made with something else are removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = _read_json(self.folder / "made_with.json")
        if self.about is None and begun is not None and begun != dict(made_with):
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        write_text(self.folder / "made_with.json", json.dumps(dict(made_with), indent=2) + "\n")

    def fail(self, reason: str, trace: str = "") -> None:
        """Record why the row failed."""
        write_text(self.folder / "failed.json", json.dumps({"reason": reason, "trace": trace}, indent=2) + "\n")

    def finish(self, about: Mapping[str, Any]) -> None:
        """Mark the row as finished."""
        write_text(self.folder / "row.json", json.dumps(dict(about), indent=2) + "\n")
        (self.folder / "failed.json").unlink(missing_ok=True)

    def set_facts(self, note: str, updates: int | None) -> None:
        """Store the method's note and number of updates."""
        write_text(self.folder / "note.json", json.dumps({"note": note, "updates": updates}) + "\n")

    @property
    def region_state(self) -> str:
        """``done`` or ``none`` once region features of the row were computed or found unavailable; empty before."""
        stored = _read_json(self.folder / "regions.json")
        return str(stored["regions"]) if stored else ""

    def set_region_state(self, state: str) -> None:
        """Store whether the row has region features."""
        write_text(self.folder / "regions.json", json.dumps({"regions": state}) + "\n")

    def load(self, name: str) -> dict[str, Array] | None:
        """Arrays saved under a name; None if there are none."""
        try:
            with np.load(self.folder / f"{name}.npz", allow_pickle=False) as stored:
                return {key: np.asarray(stored[key], dtype=np.float64) for key in stored.files}
        except (FileNotFoundError, ValueError, OSError, EOFError):
            return None

    def save(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Save arrays under a name, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.folder / f"{name}.npz") as part, part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _words(made_with: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in made_with.items()) or "no inputs"
