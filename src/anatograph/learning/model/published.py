"""The published checkpoints (batmanlab/Context_Aware_SSL) as a model folder.

The one place that opens a pickle, with ``weights_only=True``: nothing in the file can run.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from anatograph.errors import UserError
from anatograph.learning.model.config import MODEL_PRESETS, ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import save_model

if TYPE_CHECKING:
    from anatograph.anatomy.atlas import Atlas

Kind = Literal["patch", "graph"]
State = dict[str, Tensor]

_MARKS: dict[Kind, str] = {"patch": "downsample1.0.weight", "graph": "bn1.module.weight"}
"""A tensor of the query encoder that only this kind of checkpoint has."""

_LAYERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("conv1", "bn1"), ("conv2", "bn2")),
    *(tuple((f"downsample{k}.{i}", f"downsample{k}.{i + 1}") for i in (0, 3, 6)) for k in (1, 2, 3)),
    (("conv3", "bn3"), ("conv4", "bn4")),
)
"""The published names of each stage's convolutions and BatchNorms."""

_GRAPH = "boxes of 32 mm in the subject that overlap by more than 0.13 (rule `overlap`)"
"""Stated in the card, not required of a study: that graph loses its edges in large lungs, and any rule can be used."""


def import_checkpoints(
    patch_checkpoint: str | Path, graph_checkpoint: str | Path, out: str | Path, atlas: Atlas
) -> Path:
    """Write the published patch and graph checkpoints, on ``atlas``, as a model folder and return it.

    The query encoders are taken; key encoders, queues and optimiser are left behind. ``atlas`` must be the one the
    checkpoints were trained on: its landmarks gave the location codes. The networks run on any atlas, so a
    number of landmarks other than the queue's is not an error but a ``UserWarning``, which the model card repeats.

    Raises:
        UserError: a file that is not such a checkpoint, the two in the wrong order, or tensors that are missing,
            misshapen or not finite.
    """
    model, note = read_reference(patch_checkpoint, graph_checkpoint, atlas)
    training = {
        "source": "published checkpoints of batmanlab/Context_Aware_SSL, imported",
        "patch checkpoint": Path(patch_checkpoint).name,
        "graph checkpoint": Path(graph_checkpoint).name,
        "graph in training": _GRAPH,
    }
    if note:
        warnings.warn(note, UserWarning, stacklevel=2)
        training["note"] = note
    return save_model(model, out, atlas, training=training)


def read_reference(patch_checkpoint: str | Path, graph_checkpoint: str | Path, atlas: Atlas) -> tuple[Model, str]:
    """The published checkpoints as a `Model` in evaluation mode, and a note on the atlas ("" if it fits).

    Arguments and errors as `import_checkpoints`.
    """
    patch_file, graph_file = Path(patch_checkpoint), Path(graph_checkpoint)
    patch, queue = _query_encoder(patch_file, "patch")
    graph, _ = _query_encoder(graph_file, "graph")
    note = ""
    if queue is not None and queue.ndim == 3 and queue.shape[2] != len(atlas):
        note = (
            f"{patch_file.name} was trained on {queue.shape[2]} landmarks, but the atlas given has {len(atlas)}: "
            "give the atlas it was trained on, or expect features at places it never saw."
        )
    state = {**_patch_state(patch, patch_file), **_graph_state(graph, graph_file)}
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{patch_file}, {graph_file}: the weights of {name} are not finite; take another epoch.")

    config = replace(
        MODEL_PRESETS["reference"],
        feature_size=int(state["encoder.stages.4.1.conv.weight"].shape[0]),
        projection_layers=_count(state, "projection.layers"),
        graph_projection_layers=_count(state, "graph_projection.layers"),
        patch_size=atlas.patch_size,
    )
    # An encoder trained without location codes has a first dense layer that takes C's features alone.
    inputs = int(state["projection.layers.0.weight"].shape[1])
    config = replace(config, conditional=inputs != config.feature_size)
    model = Model(config, atlas.location_codes)
    _fit(model, state, config, patch_file, graph_file)
    model.atlas = atlas
    return model.eval(), note


def _query_encoder(file: Path, kind: Kind) -> tuple[State, Tensor | None]:
    """Tensors of the query encoder, without their prefix, and the queue if there is one."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist; give the {kind} checkpoint.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{file}: not a PyTorch checkpoint that can be read safely ({reason[0][:160]}); give the published "
            f"{kind} checkpoint (.pth.tar)."
        ) from error
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise UserError(f"{file}: has no state_dict; give the published {kind} checkpoint (.pth.tar).")
    found: State = {}
    queue: Tensor | None = None
    for name, value in state.items():
        # `module.` is there when the model was wrapped for several GPUs.
        bare = re.sub(r"^module\.", "", str(name))
        if not isinstance(value, Tensor):
            continue
        if bare == "queue":
            queue = value
        elif bare.startswith("encoder_q."):
            found[bare.removeprefix("encoder_q.")] = value
    if kind == "graph":
        found = _modern_graph_names(found)
    if _MARKS[kind] in found:
        return found, queue
    other: Kind = "graph" if kind == "patch" else "patch"
    if _MARKS[other] in (_modern_graph_names(found) if other == "graph" else found):
        raise UserError(
            f"{file}: this is the {other} checkpoint; the patch checkpoint comes first, the graph checkpoint second."
        )
    raise UserError(
        f"{file}: is not a published {kind} network (no encoder_q.{_MARKS[kind]}); "
        f"give the {kind} checkpoint that training with the published code wrote."
    )


def _modern_graph_names(state: State) -> State:
    """Names of torch-geometric 2: older ones stored W transposed as conv1.weight, and BatchNorm's tensors bare."""
    out = dict(state)
    weight = out.get("conv1.weight")
    if weight is not None and weight.ndim == 2 and "conv1.lin.weight" not in out:
        out["conv1.lin.weight"] = out.pop("conv1.weight").T.contiguous()
        for name in [n for n in out if n.startswith("bn1.") and not n.startswith("bn1.module.")]:
            out["bn1.module." + name.removeprefix("bn1.")] = out.pop(name)
    return out


def _patch_state(source: State, file: Path) -> State:
    names: dict[str, str] = {}
    for stage, layers in enumerate(_LAYERS):
        for layer, (conv, norm) in enumerate(layers):
            ours = f"encoder.stages.{stage}.{layer}"
            names.update({f"{conv}.{t}": f"{ours}.conv.{t}" for t in ("weight", "bias")})
            names.update(_norm_names(norm, f"{ours}.norm"))
    return _renamed(source, names | _head_names(source, "projection"), file)


def _graph_state(source: State, file: Path) -> State:
    names = {"conv1.lin.weight": "graph.weight", "conv1.bias": "graph.bias"}
    names |= _norm_names("bn1.module", "graph.norm")
    return _renamed(source, names | _head_names(source, "graph_projection"), file)


def _norm_names(theirs: str, ours: str) -> dict[str, str]:
    tensors = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{theirs}.{t}": f"{ours}.{t}" for t in tensors}


def _head_names(source: State, ours: str) -> dict[str, str]:
    """`fc` is one dense layer, or with --mlp a sequence whose dense layers stand at 0, 2, …"""
    if "fc.weight" in source:
        return {f"fc.{t}": f"{ours}.layers.0.{t}" for t in ("weight", "bias")}
    places = sorted({int(m[1]) for name in source if (m := re.fullmatch(r"fc\.(\d+)\.weight", name))})
    return {
        f"fc.{place}.{t}": f"{ours}.layers.{layer}.{t}"
        for layer, place in enumerate(places or [0])
        for t in ("weight", "bias")
    }


def _renamed(source: State, names: Mapping[str, str], file: Path) -> State:
    missing = sorted(set(names) - set(source) - {n for n in names if n.endswith("num_batches_tracked")})
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"{file}: incomplete, the query encoder lacks {', '.join(missing[:3])}{more}.")
    unknown = sorted(set(source) - set(names))
    if unknown:
        raise UserError(
            f"{file}: the query encoder has {', '.join(unknown[:3])}, which the published network does not have; "
            "only checkpoints of the published architecture can be imported."
        )
    return {ours: source.get(theirs, torch.zeros((), dtype=torch.int64)) for theirs, ours in names.items()}


def _count(state: State, prefix: str) -> int:
    return sum(name.startswith(f"{prefix}.") and name.endswith(".weight") for name in state)


def _fit(model: Model, state: State, config: ModelConfig, patch_file: Path, graph_file: Path) -> None:
    """Load the tensors; a wrong shape is reported by the tensor's name."""
    for name, own in model.state_dict().items():
        value = state[name]
        if value.shape != own.shape:
            file = graph_file if name.startswith("graph") else patch_file
            raise UserError(
                f"{file}: {name} has shape {tuple(value.shape)}, but a published network with {config.feature_size} "
                f"features has {tuple(own.shape)}."
            )
    model.load_state_dict(state)
