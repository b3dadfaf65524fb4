"""Where the inputs of a row come from: on which cohort a model was pretrained, and fingerprints of its files."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from anatograph.baselines.external import ExternalEmbeddings
from anatograph.baselines.floors.covariates import Covariates
from anatograph.baselines.method import Method
from anatograph.baselines.networks.context_model import ContextModelRow
from anatograph.baselines.options import MethodOptions
from anatograph.errors import UserError
from anatograph.study.store import Study


def pretraining_note(model: Path, study: Study) -> str:
    """Pretraining cohort of a model folder, as a note for the table; empty if it is the subjects of ``study``."""
    training: dict[str, Any] = {}
    with suppress(OSError, ValueError, AttributeError):  # the row itself reports what is wrong with the folder
        training = json.loads((model / "config.json").read_text(encoding="utf-8")).get("training", {})
    if training.get("cohort") == study.digest():
        return ""
    subjects = f", {training['subjects']} subjects" if "subjects" in training else ""
    if "cohort" in training:
        return f"pretrained on another cohort{subjects}"
    return f"supplied; its pretraining cohort is not recorded{subjects}"


def check_inputs(options: MethodOptions, study: Study) -> None:
    """Refuse at once what would otherwise fail a row hours later.

    Raises:
        UserError: a missing model folder or weights file, or a model of another atlas.
    """
    for slug, path in options.weights.items():
        if not path.is_file():
            raise UserError(f"There is no file {path} with weights for {slug}.")
    for slug, folder in options.models.items():
        try:
            atlas = json.loads((folder / "config.json").read_text(encoding="utf-8"))["atlas"]["hash"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{folder}, given for {slug}, is not a model folder; give one such as RUN/model."
            ) from error
        if atlas != study.about["atlas_hash"]:
            own = folder / "atlas"
            raise UserError(
                f"{folder}, given for {slug}, uses a different atlas (hash {str(atlas)[:12]}) from the study "
                f"{study.path} (hash {str(study.about['atlas_hash'])[:12]}); preprocess "
                f"{f'with `--atlas {own}`' if own.exists() else 'without `--atlas`, on the atlas of the package'}."
            )


def inputs_of(method: Method, options: MethodOptions) -> dict[str, Any]:
    """Fingerprints of what a row was given, so that it is never mixed with the same row made from something else."""
    given: dict[str, Any] = {}
    model = options.model_of(method.slug)
    if model is not None:
        given["model"] = _file_digest(model / "model.safetensors")
    elif isinstance(method, ContextModelRow) and (options.pretrain_preset or options.pretrain_settings):
        given["pretraining"] = " ".join([options.pretrain_preset or "", *options.pretrain_settings]).strip()
    weights = options.weights.get(method.slug)
    if weights is not None:
        given["weights"] = _file_digest(weights)
    if isinstance(method, ExternalEmbeddings):
        given["embeddings"] = _file_digest(method.table)
        if method.region_file is not None:
            given["regions"] = _file_digest(method.region_file)
    if isinstance(method, Covariates):
        given["covariates"] = list(method.columns)
    return given


def _file_digest(path: Path) -> str:
    """First characters of the SHA-256 of a file or of a folder's files; its path where that fails."""
    digest = hashlib.sha256()
    try:
        for part in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if part.is_file():
                with part.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
    except OSError:
        return str(path)
    return digest.hexdigest()[:16]
