"""The commands ``models``, ``pull`` and ``push`` as functions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anatograph.errors import UserError
from anatograph.learning.model.folder import load_model, read_config
from anatograph.learning.releases.hub import HUB_NAME, download, in_cache, upload, with_atlas
from anatograph.learning.releases.resolve import resolve_model
from anatograph.learning.releases.shipped import REFERENCE, default_release, shipped_releases


@dataclass(frozen=True)
class ModelInfo:
    """A model that can be used by its name."""

    name: str
    """What ``--model`` takes."""
    folder: Path
    """Where it lies."""
    origin: str
    """``shipped``, ``hub`` or ``folder``."""
    default: bool
    """Whether it is used where no model is given."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its ``config.json``."""
    faults: tuple[str, ...] | None = None
    """What `models` with ``verify`` found; empty where every hash is right, None where it was not asked to look."""

    @property
    def megabytes(self) -> float:
        """Size of its files."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) / 1e6

    @property
    def has_reference(self) -> bool:
        """Whether `deviation` can compare a single CT with it."""
        return (self.folder / REFERENCE).is_file()


def models(model: str | Path | None = None, verify: bool = False) -> list[ModelInfo]:
    """The models that can be used by name: those that ship with the package, and those pulled from the hub.

    Args:
        model: only this one; may be a model folder.
        verify: whether to read every file and compare its hash: with those of the release, or with the one in the
            model's own ``config.json``.

    Raises:
        UserError: an unknown model.
    """
    default = default_release()
    shipped = {release.name: release.folder for release in shipped_releases().values()}
    if model is not None:
        folder = resolve_model(model)
        origin = "shipped" if str(model) in shipped else "folder" if Path(model).exists() else "hub"
        found = [(str(model), folder, origin)]
    else:
        found = [(one, folder, "shipped") for one, folder in shipped.items()]
        found += [(one, folder, "hub") for one, folder in in_cache().items()]
    return [
        ModelInfo(
            one,
            folder,
            origin,
            default is not None and folder == default.folder,
            read_config(folder),
            _faults(one, folder) if verify else None,
        )
        for one, folder, origin in found
    ]


def pull(model: str, revision: str | None = None, offline: bool = False) -> ModelInfo:
    """Fetch a model from the Hugging Face hub into its cache, check it, and return it; ``--model NAME`` then uses it.

    Only configuration, weights, card, reference and atlas are fetched; the weights' SHA-256 must be that in
    ``config.json``.  The name of a release that ships with the package needs no download.

    Args:
        model: OWNER/NAME on the hub, or the name of a shipped release.
        revision: branch, tag or commit.
        offline: only look into the cache.

    Raises:
        UserError: no such model, no network, not a model of this package, or files that do not belong together.
    """
    if model in shipped_releases():
        return models(model)[0]
    if not HUB_NAME.fullmatch(model):
        raise UserError(f"'{model}' is not a model of the hub; give OWNER/NAME, or the name of a shipped release.")
    folder = download(model, revision, offline)
    load_model(folder)
    return ModelInfo(model, folder, "hub", False, read_config(folder), ())


def push(model: str | Path, repository: str, private: bool = False, message: str | None = None) -> str:
    """Upload a model folder to the Hugging Face hub and return the address of the commit.

    The weights go as safetensors, with ``config.json``, the atlas, the model card and its metadata, and where there is
    one the reference.  The model is loaded first, so that a damaged one is not uploaded.

    Args:
        model: the folder, or the name of a model.
        repository: OWNER/NAME on the hub; made where it does not exist.
        private: whether a new one is private.
        message: of the commit.

    Raises:
        UserError: not a model, the model of an unfinished run, a name that cannot be, or the hub refuses.
    """
    if not HUB_NAME.fullmatch(repository):
        raise UserError(f"'{repository}' cannot be the name of a model on the hub; give OWNER/NAME.")
    folder = resolve_model(model)
    loaded = load_model(folder)
    if loaded.unfinished:
        raise UserError(f"{folder}: {loaded.unfinished}; push it when `anatograph pretrain` has finished.")
    with tempfile.TemporaryDirectory(prefix="anatograph-") as place:
        whole = with_atlas(folder, Path(place))
        return upload(whole, repository, private, message or f"Upload {loaded.release or 'an Anatograph model'}")


def _faults(name: str, folder: Path) -> tuple[str, ...]:
    """What is wrong with the files of a model; loading one compares the hashes of its weights and its atlas."""
    releases = shipped_releases()
    if name in releases:
        return tuple(releases[name].damaged())
    try:
        load_model(folder)
    except UserError as error:
        return (str(error),)
    return ()
