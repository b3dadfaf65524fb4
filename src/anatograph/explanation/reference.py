"""The subjects that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.embedding.regions import Regions
from anatograph.embedding.review import still_used
from anatograph.errors import UserError, counted, no_column
from anatograph.evaluation.alignment import group_numbers
from anatograph.explanation.normative import LEAST_SUBJECTS, Calibrated, calibrate, cross_measure, fit_normative
from anatograph.study.cohort import read_cohort

SMALL = 30
"""Reference subjects below which their number is pointed out."""
MOST_SUBJECTS = 1000
"""More reference subjects than this add nothing; a random choice of them is taken."""


@dataclass(frozen=True, eq=False)
class ReferenceCohort:
    """Features of the reference subjects, and how another is measured against them."""

    subject_ids: list[str]
    """(n,) their ids."""
    features: NDArray[np.float32]
    """(n, N, F) h' of each, NaN where a landmark is absent."""
    groups: NDArray[np.int64] | None
    """(n,) the group of each, where there are several scans of one patient."""
    group_of: dict[str, int]
    """The number of every subject of the cohort; empty without groups."""
    seed: int = 0
    """Of the parts in which they are measured against each other."""
    what: str = "in the embeddings"
    """Which subjects they are, as a clause."""

    def __str__(self) -> str:
        return f"{len(self.subject_ids)} subjects {self.what}"

    @cached_property
    def _root(self) -> NDArray[np.float64]:
        return cross_measure(self.features, self.groups, self.seed)

    def deviations(self, calibrated: Calibrated) -> NDArray[np.float64]:
        """(n, N) deviations of the reference subjects, each measured by a model without it."""
        return calibrated.calibrate(self._root - calibrated.usual)

    def without(self, subject_ids: Sequence[str]) -> tuple[Calibrated, NDArray[np.bool_]]:
        """The model without these subjects and their groups, and which subjects it keeps (n,).

        Raises:
            UserError: too few are left.
        """
        kept = ~np.isin(self.subject_ids, list(subject_ids))
        if self.groups is not None:
            kept &= ~np.isin(self.groups, [self.group_of[name] for name in subject_ids if name in self.group_of])
        if kept.sum() < LEAST_SUBJECTS:
            raise UserError(
                f"{counted(int(kept.sum()), 'reference subject')} {'remains' if kept.sum() == 1 else 'remain'} without "
                f"{', '.join(subject_ids)}; give at least {LEAST_SUBJECTS}."
            )
        return calibrate(fit_normative(self.features[kept]), self._root[kept]), kept


def reference_cohort(
    regions: Regions,
    cohort: str | Path | None = None,
    reference: str | None = None,
    group: str | None = None,
    seed: int = 0,
    exclude: Sequence[str] = (),
) -> tuple[ReferenceCohort, list[str]]:
    """All subjects in the embeddings, or those with ``reference`` "COLUMN=VALUE"; and notes on the choice.

    ``group`` names a column whose equal values are one patient.  Subjects in ``exclude``, and those that the study
    rejects or excludes by now, are no reference.

    Raises:
        UserError: no cohort to look in, no such column or value, fewer than 10 subjects, or an unknown one in
            ``exclude``.
    """
    table_file = regions.path.with_name(regions.path.name.removesuffix(".regions.zarr") + ".parquet")
    names, notes = still_used(table_file, regions.subject_ids, exclude=exclude)
    if (reference or group) and cohort is None:
        raise UserError("Give the cohort table too: --reference and --group are columns of it.")
    group_of: dict[str, int] = {}
    if cohort is not None:
        table = read_cohort(cohort).table
        known = set(table["subject_id"])
        if group:
            group_of = groups_in(table, group)
        if reference:
            chosen = subjects_with(table, reference)
            names = [name for name in names if name in chosen]
        elif group:
            names = [name for name in names if name in known]
    what = f"with {reference}" if reference else "in the embeddings"
    if len(names) < LEAST_SUBJECTS:
        raise UserError(
            f"{counted(len(names), 'subject')} {what} {'is' if len(names) == 1 else 'are'} too few to say what is "
            f"usual; a reference needs at least {LEAST_SUBJECTS}: add subjects, or compare with the reference of the "
            "model that ships (`deviation --reference shipped`)."
        )
    names, on_size = at_most(names, seed)
    notes += [f"the reference is the {len(names)} subjects {what}; no subject is compared with itself", *on_size]
    features = np.stack([regions.unwhitened(name) for name in names])
    groups = np.array([group_of[name] for name in names], dtype=np.int64) if group else None
    return ReferenceCohort(names, features, groups, group_of, seed, what), notes


def groups_in(table: pd.DataFrame, column: str) -> dict[str, int]:
    """The number of every subject's group in a cohort table. UserError as `group_numbers`."""
    return dict(zip(table["subject_id"], group_numbers(table, column).tolist(), strict=True))


def at_most(names: list[str], seed: int) -> tuple[list[str], list[str]]:
    """The reference subjects, of more than `MOST_SUBJECTS` that many drawn; and a note where they are many or few."""
    if len(names) > MOST_SUBJECTS:
        rows = np.sort(np.random.default_rng(seed).choice(len(names), MOST_SUBJECTS, replace=False))
        return [names[row] for row in rows], [f"{MOST_SUBJECTS} of {len(names)} reference subjects were drawn"]
    if len(names) < SMALL:
        few = f"{len(names)} reference subjects are few: with fewer than {SMALL} unusual regions may be missed"
        return names, [few]
    return names, []


def subjects_with(table: pd.DataFrame, where: str) -> set[str]:
    """The subject_ids of a cohort table with "COLUMN=VALUE".

    Raises:
        UserError: not of that form, no such column, or no subject with the value.
    """
    column, sign, value = where.partition("=")
    if not sign:
        raise UserError(f"'{where}' must be COLUMN=VALUE, such as diagnosis=healthy.")
    if column not in table.columns:
        raise no_column(column, table.columns)
    held = table[column]
    same = held.astype(str).str.strip() == value.strip()
    with suppress(TypeError, ValueError):
        same |= held.astype(float) == float(value)
    if not same.any():
        found = ", ".join(sorted({str(v) for v in held.dropna()})[:12])
        raise UserError(f"No subject of the cohort has {column} = {value}; it has: {found}.")
    return set(table.loc[same, "subject_id"])
