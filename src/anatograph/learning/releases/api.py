"""The commands ``models``, ``pull`` and ``push`` as functions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from anatograph.errors import UserError, plain
from anatograph.learning.model.folder import load_model, read_config
from anatograph.learning.releases.hub import HUB_NAME, download, in_cache, is_ours, upload, with_atlas
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
    """Its ``config.json``; empty where that cannot be used, which is among the faults then."""
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

    Models of other packages in the hub's cache are not listed; one of this package whose ``config.json`` cannot be used
    is, with that fault.

    Args:
        model: only this one; may be a model folder.
        verify: whether to read every file and compare its hash: with those of the release, or with the one in the
            model's own ``config.json``. A reference must be of the model, too.

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
    listed = []
    for one, folder, origin in found:
        is_default = default is not None and folder == default.folder
        try:
            config = read_config(folder)
        except UserError as error:
            if model is not None:
                raise
            listed.append(ModelInfo(one, folder, origin, is_default, {}, (str(error),)))
            continue
        faults = _faults(one, folder) if verify else None
        listed.append(ModelInfo(one, folder, origin, is_default, config, faults))
    return listed


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
        known = ", ".join(shipped_releases()) or "none in this build"
        raise UserError(
            f"'{model}' is not a model of the hub; give OWNER/NAME, or the name of a shipped release ({known})."
        )
    folder = download(model, revision, offline)
    if not is_ours(folder):
        raise UserError(
            f"{model} is on the hub, but it is not a model of anatograph, whose config.json names its version; check "
            "the name."
        )
    if faults := _faults(model, folder):
        raise UserError(f"{model} was fetched but cannot be used: {faults[0]}")
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
        model = load_model(folder)
    except UserError as error:
        return (str(error),)
    return _reference_faults(folder / REFERENCE, model.digest)


def _reference_faults(file: Path, digest: str) -> tuple[str, ...]:
    """What is wrong with the reference of a model whose weights have this hash; nothing where it has none."""
    if not file.is_file():
        return ()
    try:
        with safe_open(file, "numpy") as opened:
            about = json.loads((opened.metadata() or {})["anatograph"])
        other = about["model"] != digest
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        return (f"{file} is damaged ({plain(str(error))[:200]}); copy the model folder again, or remove that file.",)
    return (f"{file} is the reference of another model; copy the model folder again, or remove it.",) if other else ()
