"""`anatograph.phantom`: a cohort of phantoms, written to a folder."""

from __future__ import annotations

from pathlib import Path

from anatograph.choices import ImageFormat
from anatograph.execution.account import RunAccount
from anatograph.phantoms.cohort import write_cohort


def phantom(
    out: str | Path,
    subjects: int,
    seed: int = 0,
    format: ImageFormat = "nifti",
    workers: int = 1,
    sites: str | None = None,
    spacing: float | None = None,
    progress: bool = True,
    diseases: str | None = None,
) -> Path:
    """Write a synthetic chest-CT cohort into ``out`` and return its table ``cohort.csv``.

    ``sites`` names scanners, such as "A,C"; ``spacing`` in mm draws every scan with isotropic voxels of that size
    (2.5 makes small, fast scans); ``diseases`` names the diseases that occur, "copd", "covid" or both.

    Raises:
        UserError: an unknown scanner or disease, or a folder that holds something else.
    """
    out = Path(out)
    drawn = {"subjects": subjects, "seed": seed, "format": format}
    settings = {**drawn, "sites": sites, "spacing": spacing, "diseases": diseases}
    account = RunAccount("phantom", settings, out)
    # The account is written only into a folder that turned out to be a phantom cohort's.
    with account.stage("draw"):
        table = write_cohort(
            out, subjects, seed, format, workers, spacing_mm=spacing, sites=sites, diseases=diseases, progress=progress
        )
    with account:
        account.output(table)
    return table
