"""`anatograph.phantom`: a cohort of phantoms, or of real scans with phantom disease, written to a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anatograph.choices import ImageFormat
from anatograph.errors import UserError
from anatograph.execution.account import Failure, RunAccount
from anatograph.phantoms.cohort import Schedule, write_cohort
from anatograph.phantoms.onto.cohort import Base, write_onto
from anatograph.phantoms.settings import settings_of
from anatograph.study.cohort import read_cohort


def phantom(
    out: str | Path,
    subjects: int | None = None,
    seed: int = 0,
    format: ImageFormat = "nifti",
    workers: int = 1,
    sites: str | None = None,
    spacing: float | None = None,
    progress: bool = True,
    diseases: str | None = None,
    onto: str | Path | None = None,
    per_scan: int = 8,
    events: bool = False,
    visits: int = 1,
    interval: float = 1.5,
    account: RunAccount | None = None,
    expiration: bool = False,
) -> Path:
    """Write a cohort with known disease into ``out`` and return its table ``cohort.csv``.

    Without ``onto``, ``subjects`` synthetic chest CTs are drawn; ``spacing`` in mm draws them with isotropic voxels of
    that size (2.5 makes small, fast scans). With ``onto``, the table of a cohort of real scans, disease is drawn
    ``per_scan`` times into each of them; they keep their voxels, or get voxels of ``spacing`` where these are coarser.
    ``sites`` names scanners, such as "A,C", or samples one for every subject, as "random"; ``diseases`` names the
    diseases that occur, "copd", "covid" or both; ``events`` adds time-to-event columns; subjects have
    ``visits`` scans, ``interval`` years apart, or with ``expiration`` one at each breath. An ``account`` is filled in
    and saved in place of a new one: its ``failures`` are the real scans that could not be used.

    Raises:
        UserError: neither or both of ``subjects`` and ``onto``, an unknown scanner or disease, a folder that holds
            something else, or no real scan that could be used.
    """
    out = Path(out)
    if (subjects is None) == (onto is None):
        given = "neither was" if subjects is None else "both were"
        raise UserError(
            f"A phantom cohort needs a number of subjects (--subjects) or a cohort of real scans (--onto); {given} "
            "given, so choose one of them."
        )
    settings = {"subjects": subjects, "seed": seed, "format": format, "sites": sites, "spacing": spacing,
                "diseases": diseases, "onto": onto, "per_scan": per_scan, "events": events, "visits": visits,
                "interval": interval, "expiration": expiration}  # fmt: skip
    account = account or RunAccount("phantom", {}, out)
    account.settings.update(settings)
    failures: list[Failure] = []
    # The account is written only into a folder that turned out to be a phantom cohort's.
    with account.stage("draw"):
        if subjects is not None:
            drawn = settings_of(spacing, sites, diseases, events)
            table = write_cohort(out, subjects, seed, format, workers, settings=drawn, progress=progress,
                                 schedule=Schedule(visits, interval, expiration))  # fmt: skip
        else:
            if expiration:
                raise UserError("Half-real scans (--onto) have one breath; leave --expiration out.")
            if not 1 <= visits <= 99 or (visits > 1 and interval != 0):
                raise UserError(
                    "Disease in half-real scans (--onto) does not progress: several visits are repeat scans of one "
                    "day; give --visits 1 to 99 with --interval 0, or leave --visits out."
                )
            if format != "nifti":
                raise UserError("Half-real scans (--onto) are written as NIfTI only; leave --format out.")
            drawn = settings_of(spacing, sites, diseases, events, onto=True)
            table, failures = write_onto(out, _bases(Path(str(onto))), per_scan, seed, workers, settings=drawn,
                                         repeats=visits, progress=progress)  # fmt: skip
    with account:
        account.output(table)
        account.failures += failures
    return table


def _bases(path: Path) -> list[Base]:
    """The scans of a cohort table, with their other columns."""
    cohort = read_cohort(path)
    kept = [name for name in cohort.table.columns if name not in ("subject_id", "image", "lungs")]
    labels = cohort.table[kept].to_dict("records")
    return [
        Base(row.subject_id, row.image.absolute(), row.lungs.absolute() if row.lungs else None, _known(values))
        for row, values in zip(cohort.rows, labels, strict=True)
    ]


def _known(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Labels as JSON holds them, what is missing as None."""
    plain = {str(name): value.item() if hasattr(value, "item") else value for name, value in values.items()}
    return {name: None if value != value else value for name, value in plain.items()}
