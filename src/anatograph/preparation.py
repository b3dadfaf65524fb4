"""`anatograph.pretrain` and `anatograph.import_reference`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anatograph.execution.account import RunAccount

if TYPE_CHECKING:
    from anatograph.anatomy.atlas import Atlas


def pretrain(
    study: str | Path,
    run: str | Path,
    preset: str | None = None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    progress: bool = True,
) -> RunAccount:
    """Pretrain on a study and leave the model in ``run/model``.

    ``preset`` is paper, reference, quick or default; ``config`` a TOML or JSON file over it; ``overrides`` texts such
    as "epochs=5" over both.  With ``resume`` and nothing else the run goes on with its own settings.
    """
    from anatograph.learning.training.settings import build_settings
    from anatograph.learning.training.trainer import pretrain as start

    asked = preset is not None or config is not None or bool(overrides)
    settings = None if resume and not asked else build_settings(preset, config, overrides)
    return start(study, run, settings, resume=resume, progress=progress)


def import_reference(
    patch_checkpoint: str | Path, graph_checkpoint: str | Path, model: str | Path, atlas: str | Path | Atlas
) -> Path:
    """Write the published checkpoints, trained on ``atlas``, as a model folder and return it."""
    from anatograph.anatomy.atlas import load_atlas
    from anatograph.learning.model.published import import_reference as read

    chosen = load_atlas(atlas) if isinstance(atlas, str | Path) else atlas
    settings = {"patch_checkpoint": str(patch_checkpoint), "graph_checkpoint": str(graph_checkpoint)}
    with RunAccount("import-reference", {**settings, "atlas_hash": chosen.hash}, model) as account:
        folder = read(patch_checkpoint, graph_checkpoint, model, chosen)
        account.output(folder)
    return folder
