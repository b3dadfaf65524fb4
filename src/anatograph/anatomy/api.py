"""`anatograph.atlas`: an atlas, built and written to a folder."""

from __future__ import annotations

from pathlib import Path

from anatograph.anatomy.atlas import Atlas, build_atlas_from_path, save_atlas
from anatograph.execution.account import RunAccount


def atlas(
    image_or_mask: str | Path,
    out: str | Path,
    lungs: str | Path | None = None,
    patch_size: int = 32,
    step: int = 26,
    min_coverage: float = 0.1,
) -> Atlas:
    """Build an atlas from a lung mask, or from a CT (with a given mask or a segmented one), and write it to ``out``.

    ``patch_size`` and ``step`` are in mm; a grid point is a landmark if more than ``min_coverage`` of its patch is
    lung.

    Raises:
        UserError: an image that cannot be read or holds no lungs, or sizes that leave no landmark.
    """
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
