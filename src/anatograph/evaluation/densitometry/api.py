"""Quantitative CT of a study: a table with one row per subject, and one with one row per landmark."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anatograph.errors import UserError, counted
from anatograph.evaluation.densitometry.measuring import Measured, measure_pair, measure_subject
from anatograph.evaluation.densitometry.pairs import BreathPair, breath_pairs
from anatograph.execution.account import RunAccount
from anatograph.execution.files import whole_file
from anatograph.study.store import Study

LEAST_INSIDE = 0.8
"""Share of the lung at expiration with a counterpart at inspiration below which a pair gets a note."""

NOISY = 0.02
"""Expected LAA-950 of a homogeneous lung from which a scan gets a note about noise."""


@dataclass(frozen=True, eq=False)
class DensitometryResult:
    """Result of `densitometry`."""

    table: pd.DataFrame
    """``subject_id``, ``ZONE_MEASURE`` …, ``noise_hu``, ``laa950_from_noise``; one row per subject."""
    landmarks: pd.DataFrame
    """``subject_id``, ``landmark``, measures; one row per landmark whose cube contains lung."""
    path: Path
    """``OUT.parquet``; ``OUT.landmarks.parquet`` lies beside it."""
    account: RunAccount
    """Failures and notes."""
    pairs: pd.DataFrame | None = None
    """With ``pair_by``: ``subject_id`` (of the inspiration), ``prm_inside``, ``ZONE_prm_CLASS`` …; a row per pair."""
    pair_landmarks: pd.DataFrame | None = None
    """With ``pair_by``: ``subject_id``, ``landmark``, ``prm_CLASS`` …"""


def densitometry(
    study: str | Path,
    out: str | Path,
    *,
    lobes: str | Path | None = None,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
    cohort: str | Path | None = None,
    pair_by: str | None = None,
    breath: str | None = None,
) -> DensitometryResult:
    """Volume, mass and density of the whole lungs, of each side and third, of lobes and around each landmark.

    Measured on the voxels of the original scan, in unclipped HU, with padding left out; definitions and sources are in
    docs/densitometry.md. ``lobes`` is a folder of masks ``SUBJECT_ID.nii.gz`` (labels of lungmask's LTRCLobes); a
    subject without one has missing values. A subject whose scan cannot be read is a failure, the others are done.

    ``pair_by`` names a column of the table ``cohort`` whose equal values are the two breaths of a patient
    (`breath_pairs`, with the column ``breath``): ``OUT.prm.parquet`` and ``OUT.prm.landmarks.parquet`` then have the
    shares of the classes of parametric response mapping (`classify`), in the zones and around the landmarks of the
    expiratory scan, in a row for each pair under the ``subject_id`` of the inspiratory scan.

    Raises:
        UserError: not a study, an ``out`` that is not Parquet, no subject that can be measured, or columns that give no
            pairs.
    """
    opened, path = Study.open(study), Path(out)
    if path.suffix != ".parquet":
        raise UserError(f"{path} must be a Parquet file; give OUT.parquet.")
    folder = None if lobes is None else Path(lobes)
    if folder is not None and not folder.is_dir():
        raise UserError(f"There is no folder {folder} with lobe masks.")
    pairs, notes = _pairs(opened, cohort, pair_by, breath)
    settings = {"study": str(study), "lobes": None if folder is None else str(folder), "workers": workers,
                "cohort": None if cohort is None else str(cohort), "pair_by": pair_by, "breath": breath}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with RunAccount("densitometry", settings, path) as account:
        names = opened.subject_ids
        steps = len(names) + len(pairs)
        with ThreadPoolExecutor(workers) as pool:

            def every(
                work: Callable[[str], Measured], chosen: list[str], stage: str, done: int
            ) -> tuple[pd.DataFrame, pd.DataFrame]:
                def one(name: str) -> Measured | str:
                    try:
                        return work(name)
                    except UserError as error:
                        return str(error)

                rows, around = [], []
                for number, (name, found) in enumerate(zip(chosen, pool.map(one, chosen), strict=True), start=done + 1):
                    if isinstance(found, str):
                        account.fail(name, stage, found)
                    else:
                        rows.append(found[0])
                        around += found[1]
                    if progress:
                        progress(name, number, steps)
                return pd.DataFrame(rows), pd.DataFrame(around)

            table, landmarks = every(lambda name: measure_subject(opened, name, folder), names, "densitometry", 0)
            of = {pair.inspiration: pair for pair in pairs}
            paired, near = every(lambda name: measure_pair(opened, of[name], folder), list(of), "prm", len(names))
        if not len(table):
            raise UserError(f"No subject of the study {study} could be measured; the account gives the reasons.")
        files = {".parquet": table, ".landmarks.parquet": landmarks}
        if len(paired):
            files |= {".prm.parquet": paired, ".prm.landmarks.parquet": near}
        for suffix, frame in files.items():
            with whole_file(path.with_suffix(suffix)) as part:
                frame.to_parquet(part, index=False)
            account.output(path.with_suffix(suffix))
        for note in [*_notes(table), *notes, *_inside_notes(paired)]:
            account.note(note)
        if pairs:
            account.result(pairs=[vars(pair) for pair in pairs])
    known = (paired, near) if pairs else (None, None)
    return DensitometryResult(table, landmarks, path, account, *known)


def _pairs(
    study: Study, cohort: str | Path | None, pair_by: str | None, breath: str | None
) -> tuple[list[BreathPair], list[str]]:
    if pair_by is None:
        if breath is not None:
            raise UserError("--breath belongs to --pair-by; name the column that the two breaths of a patient share.")
        return [], []
    if cohort is None:
        raise UserError("Give the cohort table too (--cohort): --pair-by is a column of it.")
    volumes = {name: study.subject(name).lung_volume_ml for name in study.subject_ids}
    pairs, notes = breath_pairs(cohort, pair_by, breath, volumes)
    if study.settings.registration in ("affine", "ants-affine"):
        notes.append(
            "the two breaths are matched by affine maps, which are off by about 8 mm; preprocess with --registration "
            "deformable"
        )
    return pairs, notes


def _inside_notes(paired: pd.DataFrame) -> list[str]:
    poor = [] if not len(paired) else list(paired.loc[paired["prm_inside"] < LEAST_INSIDE, "subject_id"])
    if not poor:
        return []
    return [
        f"less than {LEAST_INSIDE:.0%} of the lung at expiration has a counterpart in the lungs at inspiration in "
        f"{counted(len(poor), 'pair')} ({', '.join(poor[:5])}); look at both scans with `anatograph qc`"
    ]


def _notes(table: pd.DataFrame) -> list[str]:
    notes = []
    noisy = table[table["laa950_from_noise"] >= NOISY]
    if len(noisy):
        names = ", ".join(noisy["subject_id"].head(5)) + (" …" if len(noisy) > 5 else "")
        notes.append(
            f"LAA-950 of {len(noisy)} of {len(table)} scans is not reliable ({names}): noise alone would put "
            f"{100 * noisy['laa950_from_noise'].median():.0f} % of a homogeneous lung of their density below -950 HU; "
            "use a smoother reconstruction"
        )
    unsided = int(table["right_volume_ml"].isna().sum()) if "right_volume_ml" in table else len(table)
    if unsided:
        notes.append(f"{unsided} of {len(table)} lung masks do not distinguish right and left, so sides are missing")
    return notes
