"""The commands that prepare things, as functions of paths: the same names and choices as on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from anatograph.execution.account import RunAccount

if TYPE_CHECKING:
    from anatograph.anatomy.atlas import Atlas


def phantom(
    out: str | Path,
    subjects: int,
    seed: int = 0,
    format: str = "nifti",
    workers: int = 1,
    sites: str | None = None,
    spacing: float | None = None,
    progress: bool = True,
    diseases: str | None = None,
) -> Path:
    """Write a synthetic chest-CT cohort into ``out`` and return its table ``cohort.csv``.

    ``sites`` names scanners, such as "A,C"; ``spacing`` in mm draws every scan with isotropic voxels of that size
    (2.5 makes small, fast scans); ``diseases`` says what the diseased have, "copd", "covid" or both.
    """
    from anatograph.phantoms import write_cohort

    out = Path(out)
    drawn = {"subjects": subjects, "seed": seed, "format": format}
    settings = {**drawn, "sites": sites, "spacing": spacing, "diseases": diseases}
    account = RunAccount("phantom", settings, out)
    # The account is written only into a folder that turned out to be a phantom cohort's.
    with account.stage("draw"):
        table = write_cohort(
            out, subjects, seed, cast("Literal['nifti', 'dicom']", format), workers, spacing_mm=spacing, sites=sites,
            diseases=diseases, progress=progress,
        )  # fmt: skip
    with account:
        account.output(table)
    return table


def atlas(
    image_or_mask: str | Path,
    out: str | Path,
    lungs: str | Path | None = None,
    patch_size: int = 32,
    step: int = 26,
    min_coverage: float = 0.1,
) -> Atlas:
    """Build an atlas from a lung mask, or from a CT (with a mask of its own or one that is found), and write it.

    ``patch_size`` and ``step`` are in mm; a grid place is a landmark where more than ``min_coverage`` of its patch is
    lung.
    """
    from anatograph.anatomy.atlas import build_atlas_from_path, save_atlas

    settings = {
        "image_or_mask": str(image_or_mask),
        "lungs": None if lungs is None else str(lungs),
        "patch_size": patch_size,
        "step": step,
        "min_coverage": min_coverage,
    }
    with RunAccount("atlas", settings, out) as account:
        built, notes = build_atlas_from_path(image_or_mask, lungs, patch_size, step, min_coverage)
        for note in notes:
            account.note(note)
        account.result(landmarks=len(built), hash=built.hash)
        account.output(save_atlas(built, out))
    return built


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
