"""Models of the Hugging Face hub, through the package huggingface-hub: pulled into its cache, pushed from a folder.

Only the files of a model folder are fetched (`FILES`): nothing that could be run is among them, and none is imported.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

from anatograph.errors import UserError, plain
from anatograph.limits import read_json

FILES = ("config.json", "model.safetensors", "README.md", "reference.safetensors", "atlas/atlas.json",
         "atlas/lungs.nii.gz", "atlas/landmarks.mrk.json")  # fmt: skip
"""What is fetched and uploaded."""
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""OWNER/NAME of a model on the hub."""
_LOCAL = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.ENOTDIR}
"""Errors of the cache on disk, not of the network."""


def pulled(name: str, revision: str | None = None) -> Path | None:
    """The folder of a model that was pulled before; None where it is not in the cache or the package is missing."""
    try:
        return _snapshot(name, revision, offline=True)
    except UserError:
        return None


def download(name: str, revision: str | None, offline: bool) -> Path:
    """Fetch a model into the cache of the hub's package and return its folder.

    Raises:
        UserError: the package is missing, the hub cannot be reached, or it has no such model.
    """
    return _snapshot(name, revision, offline)


def upload(folder: Path, name: str, private: bool, message: str) -> str:
    """Upload the files of a model folder, which must hold its atlas, and return where they are.

    Raises:
        UserError: the package is missing, nobody is logged in, or the hub refuses.
    """
    hub = _package()
    try:
        api = hub.HfApi(endpoint=_endpoint())
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message=message)
    except Exception as error:  # the package passes on errors of its HTTP library, which have no common class
        raise UserError(
            f"{name} could not be uploaded ({_reason(error)}); check the network, log in with "
            "`hf auth login`, and check that you may write there."
        ) from error
    return str(done.commit_url)


def with_atlas(folder: Path, place: Path) -> Path:
    """A copy of a model folder in ``place`` that holds its atlas, as other versions of the package may ship another."""
    from anatograph.anatomy.atlas import default_atlas, save_atlas

    copy = place / "model"
    copy.mkdir()
    for name in FILES:
        if (folder / name).is_file():
            (copy / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, copy / name)
    if not (copy / "atlas").is_dir():
        save_atlas(default_atlas(), copy / "atlas")
    return copy


def in_cache() -> dict[str, Path]:
    """The models of this package in the hub's cache by name; empty where the package is missing."""
    try:
        hub = _package()
        repositories = hub.scan_cache_dir(hub.constants.HF_HUB_CACHE).repos
    except Exception:  # no package, no cache yet, or one that cannot be read: nothing to list
        return {}
    names = sorted(one.repo_id for one in repositories if one.repo_type == "model")
    folders = {name: pulled(name) for name in names if HUB_NAME.fullmatch(name)}
    return {name: folder for name, folder in folders.items() if folder is not None and is_ours(folder)}


def is_ours(folder: Path) -> bool:
    """Whether a folder of the hub's cache, which other packages use too, holds a model of this one."""
    try:
        config = read_json(folder / FILES[0])
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "anatograph_version" in config


def _snapshot(name: str, revision: str | None, offline: bool) -> Path:
    hub = _package()
    errors = hub.errors
    try:
        folder = hub.snapshot_download(
            name, revision=revision, allow_patterns=list(FILES), local_files_only=offline,
            endpoint=_endpoint(), library_name="anatograph",
        )  # fmt: skip
    except errors.LocalEntryNotFoundError as error:
        why = "--offline was given" if offline else f"the hub cannot be reached ({_reason(error)})"
        raise UserError(f"{name} is not in the cache, and {why}; pull it once with a network.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"The hub has no model {name}, or you may not read it; check the name, or log in.") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"The model {name} has no revision {revision}; give a branch, a tag or a commit.") from error
    except Exception as error:  # the package passes on errors of its HTTP library, which have no common class
        if isinstance(error, OSError) and error.errno in _LOCAL:
            cache = hub.constants.HF_HUB_CACHE
            raise UserError(
                f"{name} cannot be written into the cache {cache} ({_reason(error)}); make room there, or set "
                "HF_HOME to a folder where you may write."
            ) from error
        raise UserError(f"{name} cannot be pulled ({_reason(error)}); try again.") from error
    return Path(folder)


def _package() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise UserError("Models of the hub need the package huggingface-hub: pip install 'anatograph[hub]'.") from error
    return huggingface_hub


def _endpoint() -> str | None:
    """Address of a mirror; None for the hub itself."""
    return os.environ.get("HF_ENDPOINT") or None


def _reason(error: BaseException) -> str:
    return plain(str(error))[:200] or type(error).__name__
