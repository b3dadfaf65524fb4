"""Checkpoints that stay complete whenever the process is killed: written aside, synced, renamed; the last ones kept.

A checkpoint is one safetensors file; values that are not tensors are JSON in its header. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anatograph.errors import UserError
from anatograph.execution.files import whole_file

FORMAT_VERSION = 1
_PREFIX, _SUFFIX, _UNFINISHED = "update_", ".safetensors", ".part"
_TENSOR, _ITEMS = "__tensor__", "__items__"


def save_checkpoint(folder: Path, update: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write ``state`` (nested dicts and lists of tensors and plain values) as the checkpoint after ``update`` updates.

    The file is complete or absent, whenever the process or the machine stops. All but the newest ``keep`` are removed.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    tree = _flatten(state, "", tensors)
    header = {"format_version": str(FORMAT_VERSION), "update": str(update), "tree": json.dumps(tree)}
    path = folder / f"{_PREFIX}{update:09d}{_SUFFIX}"
    with whole_file(path) as part:
        save_file(tensors, str(part), metadata=header)
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints in a folder, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}")) if folder.is_dir() else []


def remove_unfinished(folder: Path) -> None:
    """Remove incomplete files of a killed run."""
    for path in folder.glob(f"*{_UNFINISHED}") if folder.is_dir() else ():
        path.unlink(missing_ok=True)


def load_checkpoint(
    folder: Path, say: Callable[[str], None] = lambda _: None, device: str = "cpu"
) -> tuple[int, dict[str, Any]] | None:
    """The newest readable checkpoint as (updates done, state), or None where there is none.

    An unreadable one is reported through ``say`` and the one before it used; ``UserError`` where none can be read.
    """
    from safetensors import SafetensorError, safe_open

    found = checkpoints(folder)
    for path in reversed(found):
        try:
            with safe_open(str(path), framework="pt", device=device) as file:
                header = file.metadata() or {}
                if header.get("format_version") != str(FORMAT_VERSION):
                    raise UserError(
                        f"{path} has checkpoint format {header.get('format_version')}, unknown to this version."
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return int(header["update"]), _restore(json.loads(header["tree"]), tensors)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            say(f"Checkpoint {path.name} cannot be read ({error}); trying the one before it.")
    if found:
        raise UserError(
            f"none of the {len(found)} checkpoints in {folder} can be read; remove the folder to start again."
        )
    return None


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # A contiguous copy: the file stores plain arrays, and two names may share memory.
        tensors[name] = value.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, dict):
        items = [[k, _flatten(v, f"{name}/{k}" if name else str(k), tensors)] for k, v in value.items()]
        return {_ITEMS: items}
    if isinstance(value, list | tuple):
        return [_flatten(v, f"{name}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__} ({name})")


def _restore(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return tensors[tree[_TENSOR]]
        return {k: _restore(v, tensors) for k, v in tree[_ITEMS]}
    if isinstance(tree, list):
        return [_restore(v, tensors) for v in tree]
    return tree
