"""Published weights, read without executing anything in the file, with every tensor accounted for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anatograph.errors import UserError


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, with the ``module.`` of data-parallel training taken off their names.

    Reads ``.safetensors``, or what ``torch.save`` wrote: named tensors, or a dictionary that holds them as
    ``state_dict`` (anything else, such as an optimiser, is ignored).

    Raises:
        UserError: no such file, not a checkpoint, or one that would run code when opened.
    """
    if not path.is_file():
        raise UserError(f"There is no weights file {path}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, about storages of old files
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch have no common error
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be read as weights ({reason}); download it again.") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{path} holds no named tensors, so it is not a weights file.")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def load_weights(
    network: nn.Module, tensors: Mapping[str, Tensor], source: Path, leave: Sequence[str] = ()
) -> list[str]:
    """Load every tensor of a file into a network, or explain why that is impossible.

    ``leave`` are prefixes of names to ignore, such as another task's head; the ignored names are returned.  BatchNorm's
    ``num_batches_tracked`` may be missing, as in files that predate it.

    Raises:
        UserError: missing or unexpected names, or shapes that do not match; all are listed.
    """
    wanted = network.state_dict()
    left = [name for name in tensors if name.startswith(tuple(leave))] if leave else []
    given = {name: value for name, value in tensors.items() if name not in left}
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in wanted]
    misfits = [
        f"{name} is {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in given
        if name in wanted and given[name].shape != wanted[name].shape
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misfits))
        if names
    ]
    if faults:
        raise UserError(
            f"{source} does not match {type(network).__name__}: {'; '.join(faults)}. Give the weights of this network."
        )
    network.load_state_dict(given, strict=False)
    return left
