"""A model on disk: architecture, expected input, weights and atlas; no queue, no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors

from anatograph._version import __version__
from anatograph.errors import UserError
from anatograph.execution.files import whole_folder
from anatograph.execution.folders import refuse_foreign
from anatograph.learning.model.card import model_card
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.releases.resolve import resolve_model
from anatograph.learning.releases.shipped import check_release
from anatograph.limits import read_json

if TYPE_CHECKING:
    from anatograph.anatomy.atlas import Atlas
from anatograph.anatomy.lung_tissue import COMMON_HU, OUTSIDE_HU

FORMAT_VERSION = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_LARGEST_WEIGHTS = 2**32


def save_model(
    model: Model,
    folder: str | Path,
    atlas: Atlas | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``config.json``, ``model.safetensors``, ``atlas/`` and ``README.md`` and return the folder.

    ``atlas`` and ``preprocessing`` default to the model's own; ``preprocessing`` says how the scans were prepared
    (lungs, registration, interpolation, graph rule), ``training`` is any account of the training for the model card.
    Both must be JSON-serialisable. The folder appears whole or not at all, and an older model there is replaced.

    Raises:
        UserError: the folder holds something that is not a model, or cannot be written.
        ValueError: the atlas is missing or not the model's.
    """
    from anatograph.anatomy.atlas import save_atlas

    atlas = model.atlas if atlas is None else atlas
    if atlas is None or len(atlas) != model.landmarks:
        raise ValueError(
            f"a model of {model.landmarks} landmarks needs its atlas to be saved, not {atlas and len(atlas)}"
        )
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        refuse_foreign(folder, "a model")
    weights = pack_tensors({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    config = _config(model, atlas, model.preprocessing if preprocessing is None else preprocessing, training or {})
    config["weights_sha256"] = hashlib.sha256(weights).hexdigest()

    workshop = folder.parent / f".{folder.name}.unfinished"
    try:
        with whole_folder(folder, workshop) as fresh:
            save_atlas(atlas, fresh / "atlas")
            (fresh / WEIGHTS).write_bytes(weights)
            (fresh / "README.md").write_text(model_card(config), encoding="utf-8")
            (fresh / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: the model cannot be written here ({error}).") from error
    finally:
        with suppress(OSError):  # it was never made, or another process is still writing
            workshop.rmdir()
    return folder


def load_model(folder: str | Path) -> Model:
    """Read what `save_model` wrote: the model in evaluation mode on the CPU, with its ``atlas`` and ``preprocessing``.

    ``folder`` may also be the name of a release that ships with the package. A folder without ``atlas/`` is on the
    atlas of the package.

    Raises:
        UserError: no model there, a newer format, or files that do not belong together.
    """
    from anatograph.anatomy.atlas import default_atlas, load_atlas

    folder = resolve_model(folder)
    config = read_config(folder)
    settings = ModelConfig.from_dict(config["architecture"], f"{folder / CONFIG}")
    _check_input(folder, settings, config["input"])
    own_atlas = (folder / "atlas").exists() or config["atlas"]["hash"] != default_atlas().hash
    atlas = load_atlas(folder / "atlas") if own_atlas else default_atlas()
    if atlas.hash != config["atlas"]["hash"]:
        raise UserError(
            f"{folder}: atlas/ is not the atlas this model was trained on (hash {atlas.hash[:12]}, expected "
            f"{str(config['atlas']['hash'])[:12]}); copy the model folder again."
        )
    check_release(folder, str(config.get("release") or ""), str(config["weights_sha256"]))
    try:
        if (folder / WEIGHTS).stat().st_size > _LARGEST_WEIGHTS:
            raise UserError(
                f"{folder}: {WEIGHTS} is larger than any model of this version; copy the model folder again."
            )
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise UserError(f"{folder}: {WEIGHTS} cannot be read ({error}); copy the model folder again.") from error
    if hashlib.sha256(weights).hexdigest() != config["weights_sha256"]:
        raise UserError(f"{folder}: {WEIGHTS} is damaged or belongs to another model; copy the model folder again.")
    model = Model(settings, atlas.location_codes)
    try:
        model.load_state_dict(parse_tensors(weights))
    except (RuntimeError, SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder}: the weights do not fit the architecture in {CONFIG} ({reason}); copy the model folder again."
        ) from error
    model.atlas = atlas
    model.preprocessing = config.get("preprocessing", {})
    model.unfinished = _unfinished(config.get("training"))
    model.release = str(config.get("release") or "")
    return model.eval()


def _config(
    model: Model, atlas: Atlas, preprocessing: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "anatograph_version": __version__,
        "architecture": model.config.to_dict(),
        "features": {name: [part.start, part.stop] for name, part in model.config.parts.items()},
        "input": _expected_input(model.config),
        "atlas": {
            "hash": atlas.hash,
            "landmarks": len(atlas),
            "patch_size_mm": atlas.patch_size,
            "step_mm": atlas.step,
        },
        "preprocessing": dict(preprocessing),
        "training": dict(training),
    }


def _unfinished(training: Any) -> str:
    """Of what run the model is an intermediate state; empty for a finished one, or where nothing is known."""
    try:
        done, wanted = int(training["epochs"]), int(training["settings"]["epochs"])
    except (KeyError, TypeError, ValueError):
        return ""
    return f"the model is that of an unfinished pretraining, epoch {done} of {wanted}" if done < wanted else ""


def _expected_input(config: ModelConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {"outside_lungs_hu": OUTSIDE_HU} if config.lungs_only else {}
    if config.inflation:
        shown["inflation"] = {"strength": config.inflation, "common_hu": COMMON_HU, "read_from": "each lung"}
    return {
        "modality": "CT",
        "unit": "HU",
        "spacing_mm": [1.0, 1.0, 1.0],
        "hu_window": [config.hu_low, config.hu_high],
        "orientation": "LPS",
        "array_order": "z, y, x",
        "patch_size": [config.patch_size] * 3,
        **shown,
    }


def read_config(folder: Path) -> dict[str, Any]:
    """What ``config.json`` of a model folder holds.

    Raises:
        UserError: no model there, a newer format, or something missing.
    """
    try:
        config: dict[str, Any] = read_json(folder / CONFIG)
        version = int(config["format_version"])
    except OSError as error:
        raise UserError(f"{folder}: no model here ({CONFIG} cannot be read); give the folder that holds it.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / CONFIG}: not the configuration of a model ({error!r}); copy it again.") from error
    if version > FORMAT_VERSION:
        raise UserError(f"{folder}: this model is of format {version}; install a newer anatograph.")
    missing = [name for name in ("architecture", "input", "atlas", "weights_sha256") if name not in config]
    broken = [name for name in ("architecture", "input", "atlas") if not isinstance(config.get(name, {}), dict)]
    if broken or not isinstance(config.get("preprocessing", {}), dict):
        raise UserError(
            f"{folder / CONFIG}: {', '.join(broken) or 'preprocessing'} is not a table of settings; copy it again."
        )
    if missing or "hash" not in config["atlas"]:
        raise UserError(
            f"{folder / CONFIG}: incomplete, {', '.join(missing) or 'atlas.hash'} is missing; copy it again."
        )
    return config


def _check_input(folder: Path, settings: ModelConfig, stated: Mapping[str, Any]) -> None:
    """Refuse a model whose stated input differs from what this version would feed it."""
    for name, value in _expected_input(settings).items():
        if stated.get(name) != value:
            raise UserError(
                f"{folder / CONFIG}: the model expects {name} = {stated.get(name)!r}, "
                f"but this version would feed it {value!r}; install the version that trained it."
            )
