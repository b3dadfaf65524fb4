"""Models that ship with the package: numbered releases, each a model folder whose files have known hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.limits import read_json

FOLDER = Path(__file__).parent / "models"
"""``index.json``, and a model folder for each release."""
INDEX = "index.json"
REFERENCE = "reference.safetensors"
"""File of a model folder that holds what is normal at each landmark, where there is one."""
NONE_SHIPPED = "this build of anatograph ships no model; give --model MODEL, or `anatograph pull NAME` one"


@dataclass(frozen=True)
class Release:
    """A numbered model of the package."""

    name: str
    """Such as ``anatograph-ct-3``."""
    folder: Path
    """Its model folder."""
    sha256: Mapping[str, str]
    """The SHA-256 of every file in the folder."""

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of ``model.safetensors``."""
        return self.sha256["model.safetensors"]

    def damaged(self) -> list[str]:
        """A sentence for every file that is missing or is not the one released; every file is read."""
        found = []
        for name, expected in sorted(self.sha256.items()):
            try:
                if file_sha256(self.folder / name) != expected:
                    found.append(f"{name} differs from the file that was released")
            except OSError as error:
                found.append(f"{name} cannot be read ({error.strerror or error})")
        return found


def shipped_releases() -> dict[str, Release]:
    """All releases that this build ships, by name; empty where it ships none.

    Raises:
        UserError: the index is damaged.
    """
    return {
        str(name): Release(str(name), FOLDER / str(name), {str(k): str(v) for k, v in about["sha256"].items()})
        for name, about in _index()["releases"].items()
    }


def default_release() -> Release | None:
    """The release that is used where no model is given; None where this build ships none."""
    name: str | None = _index()["default"]
    return None if name is None else shipped_releases()[name]


def shipped_model() -> Path:
    """The folder of the default release.

    Raises:
        UserError: this build ships no model.
    """
    release = default_release()
    if release is None:
        raise UserError(f"There is no model to use: {NONE_SHIPPED}.")
    return release.folder


def check_release(folder: Path, name: str, weights_sha256: str) -> None:
    """Refuse a model that bears the name of a shipped release and has other weights.

    Raises:
        UserError: naming both hashes.
    """
    known = shipped_releases().get(name)
    if known is not None and known.weights_sha256 != weights_sha256:
        raise UserError(
            f"{folder}: it claims to be release {name}, but its weights (SHA-256 {weights_sha256[:12]}) are not those "
            f"of that release ({known.weights_sha256[:12]}); remove `release` from its config.json if it is a model "
            "of your own, or copy the release again."
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal. OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _index() -> dict[str, Any]:
    try:
        index: dict[str, Any] = read_json(FOLDER / INDEX)
        if index["default"] is not None and index["default"] not in index["releases"]:
            raise ValueError(f"it lacks its default, {index['default']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{FOLDER / INDEX} cannot be read ({error}); install anatograph again.") from error
    return index
