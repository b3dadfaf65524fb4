"""Pairs of an inspiratory and an expiratory scan of one patient, by columns of the cohort table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anatograph.errors import UserError, counted, no_column
from anatograph.study.cohort import read_cohort

LEAST_RATIO = 1.05
"""Ratio of the lung volumes of two breaths below which a pair gets a note."""
_NAMED = 5


@dataclass(frozen=True)
class BreathPair:
    """Two scans of one patient."""

    value: str
    """The value of the pairing column that they share."""
    inspiration: str
    """subject_id of the scan at inspiration."""
    expiration: str
    """subject_id of the scan at expiration."""


def breath_pairs(
    cohort: str | Path, column: str, breath: str | None, volumes: Mapping[str, float]
) -> tuple[list[BreathPair], list[str]]:
    """Pairs among the scans of ``volumes`` (subject_id to lung volume, ml), and notes.

    Two scans with the same value of ``column`` are a pair. ``breath`` names a column that begins with "insp" or "exp";
    without it, the scan with the larger lungs is the inspiration. Scans without a partner are left out with a note.

    Raises:
        UserError: a missing column, more than two scans with one value, another word for a breath, or no pair.
    """
    table = read_cohort(cohort).table
    for name, flag in ((column, "--pair-by"), (breath, "--breath")):
        if name is not None and name not in table.columns:
            raise no_column(name, table.columns, flag)
    held = table[table[column].notna() & table["subject_id"].isin(list(volumes))]
    pairs, single, notes = [], [], []
    for value, rows in held.groupby(held[column].astype(str), sort=True):
        names = [str(name) for name in rows["subject_id"]]
        if len(names) == 1:
            single.append(names[0])
            continue
        if len(names) > 2:
            raise UserError(
                f"--pair-by: '{column}' is {value} for {len(names)} scans ({', '.join(names[:_NAMED])}); a pair is one "
                "inspiration and one expiration, so give a column that identifies patient and visit."
            )
        pairs.append(_pair(str(value), names, None if breath is None else list(rows[breath]), breath, volumes))
    if not pairs:
        raise UserError(
            f"--pair-by: no two scans of the study have the same value of '{column}'; give the column whose equal "
            "values are the two breaths of a patient."
        )
    if single:
        notes.append(f"{counted(len(single), 'scan')} without a second breath left out of the pairs: {_listed(single)}")
    return pairs, [*notes, *_volume_notes(pairs, volumes)]


def _pair(
    value: str, names: Sequence[str], words: Sequence[object] | None, column: str | None, volumes: Mapping[str, float]
) -> BreathPair:
    if words is None:
        if unknown := [name for name in names if not volumes[name] > 0]:
            raise UserError(
                f"The lung volume of {unknown[0]} is unknown, so its breath is too; name a column with --breath."
            )
        expiration, inspiration = sorted(names, key=lambda name: volumes[name])
        return BreathPair(value, inspiration, expiration)
    at: dict[str, str] = {}
    for name, word in zip(names, words, strict=True):
        key = str(word).strip().lower()
        if not key.startswith(("insp", "exp")):
            raise UserError(
                f"--breath: '{column}' must begin with 'insp' or 'exp', but {name} has '{word}'; correct it, or leave "
                "--breath out, which takes the scan with the larger lungs for the inspiration."
            )
        at[key[:3]] = name
    if len(at) < 2:
        raise UserError(
            f"--breath: {names[0]} and {names[1]} are a pair ({value}) at the same breath '{words[0]}'; correct the "
            "table."
        )
    return BreathPair(value, at["ins"], at["exp"])


def _volume_notes(pairs: Sequence[BreathPair], volumes: Mapping[str, float]) -> list[str]:
    alike = [one.value for one in pairs if volumes[one.inspiration] < LEAST_RATIO * volumes[one.expiration]]
    if not alike:
        return []
    return [
        f"the lungs are hardly larger at inspiration than at expiration in {counted(len(alike), 'pair')}, so that what "
        f"looks like trapped gas may be a poor expiration, or the breaths are exchanged: {_listed(alike)}"
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
