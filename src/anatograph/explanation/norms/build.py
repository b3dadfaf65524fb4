"""`anatograph.reference`: what is normal at each landmark, from the healthy scans of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.embedding.sources import StudySource
from anatograph.embedding.stream import embed_stream
from anatograph.embedding.worker import ahead
from anatograph.errors import UserError
from anatograph.evaluation.alignment import group_numbers
from anatograph.execution.account import RunAccount
from anatograph.explanation.normative import LEAST_SUBJECTS, calibrate, cross_measure, fit_normative
from anatograph.explanation.norms.saved import SUFFIX, SavedReference, load_reference, save_reference
from anatograph.explanation.reference import SMALL, at_most, subjects_with
from anatograph.study.cohort import read_cohort
from anatograph.study.cohort.origin import table_of_study
from anatograph.study.quality.selection import usable
from anatograph.study.store import Study

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

_MOST_VALUES = 12


@dataclass(frozen=True, eq=False)
class Reference:
    """What `reference` wrote."""

    path: Path
    """The file."""
    saved: SavedReference
    """Its content."""
    account: RunAccount
    """Settings and notes."""


def reference(
    study: str | Path,
    out: str | Path,
    where: str | None = None,
    *,
    model: str | Path | None = None,
    cohort: str | Path | None = None,
    group: str | None = None,
    of: str | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    exclude: Sequence[str] = (),
) -> Reference:
    """Write the landmark-wise statistics of healthy scans, against which `deviation` compares a single scan.

    At each landmark the features h' of the subjects have a robust centre and a shrunk covariance; the Mahalanobis
    distance is calibrated on the subjects, each measured by a model fitted without it.  Scans that quality control
    rejects or ``review.csv`` excludes are never part of it.  The file holds statistics only, no vector of a subject.

    Args:
        study: the healthy scans, or a study that has them.
        out: the file to write, ``.safetensors``.
        where: "COLUMN=VALUE" of the cohort table, to take these subjects only.
        model: that embeds them; the release that ships with the package if not given.
        cohort: table with the columns; the one that the study was made from if not given.
        group: column whose equal values are one patient, who is not split when the distances are calibrated.
        of: who the subjects are, such as "healthy never-smokers"; shown wherever the reference is used.
        seed: of the calibration, and of the choice where there are more than 1,000 subjects.
        progress: called with each subject that is embedded.
        exclude: scans of the study that are left out.

    Raises:
        UserError: fewer than 10 subjects, no such column or value, or a study that does not fit the model.
    """
    from anatograph.learning.model.folder import load_model
    from anatograph.learning.releases.resolve import resolve_model

    path = Path(out)
    path = path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
    folder = resolve_model(model)
    settings = {"study": str(study), "where": where, "model": str(folder), "group": group, "of": of, "seed": seed,
                "cohort": None if cohort is None else str(cohort), "exclude": list(exclude)}  # fmt: skip
    with RunAccount("reference", settings, path) as account:
        network = load_model(folder)
        opened, selection = usable(Study.open(study), exclude=exclude)
        for note in selection.notes:
            account.note(note.replace("; --include-flagged uses them", ""))
        table = _table(opened, cohort, needed=bool(where or group))
        names = list(opened.subject_ids)
        if where is not None and table is not None:
            chosen = subjects_with(table, where)
            names = [name for name in names if name in chosen]
        if len(names) < LEAST_SUBJECTS:
            raise UserError(
                f"{len(names)} usable subjects{f' with {where}' if where else ''} in the study {study} are too few to "
                f"say what is normal; a reference needs at least {LEAST_SUBJECTS}, and better {SMALL} or more."
            )
        names, notes = at_most(names, seed)
        for note in notes:
            account.note(note)
        features = _regions(opened, network, names, progress)
        groups = None
        if group is not None and table is not None:
            numbers = dict(zip(table["subject_id"], group_numbers(table, group).tolist(), strict=True))
            groups = np.array([numbers[name] for name in names], dtype=np.int64)
        calibrated = calibrate(fit_normative(features), cross_measure(features, groups, seed))
        who = of or (f"subjects with {where}" if where else "subjects")
        about = {"model": network.digest, "release": network.release, "atlas_hash": opened.atlas.hash,
                 "subjects": len(names), "where": where, "of": who,
                 "make_up": {} if table is None else make_up(table[table["subject_id"].isin(names)])}  # fmt: skip
        save_reference(path, calibrated, about)
        account.output(path)
        saved = load_reference(path)
        account.result(subjects=len(names), landmarks=features.shape[1], reference=str(saved))
    return Reference(path, saved, account)


def make_up(table: pd.DataFrame) -> dict[str, str]:
    """Age, sex and site of subjects as counts, where the table has these columns; nothing that identifies one."""
    found: dict[str, str] = {}
    for column in table.columns:
        name, values = str(column).lower(), table[column].dropna()
        if name == "age" and pd.api.types.is_numeric_dtype(values) and len(values):
            found["age"] = f"{values.min():.0f} to {values.max():.0f}, median {values.median():.0f}"
        elif name in ("sex", "site") and 0 < values.nunique() <= _MOST_VALUES:
            counts = values.astype(str).value_counts().sort_index()
            found[name] = ", ".join(f"{value} {count}" for value, count in counts.items())
    return found


def _table(study: Study, cohort: str | Path | None, needed: bool) -> pd.DataFrame | None:
    """The cohort table; None where it cannot be found and nothing depends on it."""
    if cohort is not None:
        return read_cohort(cohort).table
    try:
        return read_cohort(table_of_study(study)).table
    except UserError:
        if needed:
            raise
        return None


def _regions(
    study: Study, model: Model, names: list[str], progress: Callable[[str, int, int], None] | None
) -> NDArray[np.float32]:
    """(n, N, F) h' of subjects before the model's whitening."""
    source = StudySource(study, model)
    unwhiten = None if model.whitening is None else np.linalg.inv(model.whitening.cpu().numpy().astype(np.float64))
    found: list[NDArray[Any]] = []
    for name, one in embed_stream(model, ahead(map(source.load, names))):
        found.append(one.nodes if unwhiten is None else (one.nodes @ unwhiten).astype(np.float32))
        if progress:
            progress(name, len(found), len(names))
    return np.stack(found)
