"""The work of a run on a study, decided before anything is computed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from anatograph.choices import Redo
from anatograph.errors import UserError
from anatograph.study.cohort import Cohort, CohortRow
from anatograph.study.source import has_changed
from anatograph.study.store import Study
from anatograph.study.versions import VERSIONS, outdated

_READERS = 16
"""Threads that check subjects; on a network file system a check is waiting, not work."""
_NAMED = 5
"""How many subjects a sentence names."""


@dataclass(frozen=True)
class Pending:
    """The work that is left."""

    subject_ids: frozenset[str]
    """Subjects that are missing, failed or to be redone."""
    redo: tuple[Redo, ...] = ()
    """Reasons to redo a subject that the study already holds."""
    notes: tuple[str, ...] = ()
    """Sentences for the user."""


def find_pending(study: Study, cohort: Cohort, redo: Sequence[Redo] = (), mixed: bool = False) -> Pending:
    """Compare the cohort with the study.

    The subjects of the table are looked at (``subject.json``, and the size and time of the image); all others only
    where another version of a step made the study.

    Raises:
        UserError: when subjects are missing in a study that an older version made, unless ``mixed`` or they are redone;
            when a newer version made it.
    """
    there = study.whole(cohort.subject_ids)
    missing = {row.subject_id for row in cohort.rows if row.subject_id not in there}
    old = _outdated(study)
    newer = [step for step, numbers in study.step_versions.items() if max(numbers) > VERSIONS.get(step, 0)]
    if newer and missing:
        raise UserError(
            f"The study {study.path} was made by a newer anatograph ({', '.join(newer)}); install it to add subjects."
        )
    notes: list[str] = []
    redone: set[str] = set()
    if old and "outdated" in redo:
        redone |= old.keys() & there
    elif old:
        steps = ", ".join(sorted({step for steps in old.values() for step in steps}))
        sentence = (
            f"{len(old)} subjects of the study {study.path} were made by an older version: {steps}; "
            "--redo outdated reprocesses them"
        )
        if missing and not mixed:
            raise UserError(
                f"{sentence}, --mixed adds the {len(missing)} that are missing beside them (they are not comparable "
                "where these steps matter)."
            )
        notes.append(f"{sentence}.")
    changed = _changed(study, [row for row in cohort.rows if row.subject_id in there])
    if changed and "changed" in redo:
        redone |= set(changed)
    elif changed:
        notes.append(
            f"The image of {_some(changed)} changed since it was preprocessed; the study holds the earlier one. "
            "--redo changed reprocesses it."
        )
    for note in notes:
        print(note, file=sys.stderr)
    if not old:
        _set(study, _now())
    elif missing or redone:  # both versions are in it until the run ends, or for good if it is killed
        _set(study, {step: sorted({*study.step_versions[step], number}) for step, number in VERSIONS.items()})
    return Pending(frozenset(missing | redone), tuple(redo), tuple(notes))


def settle_versions(study: Study) -> None:
    """Record in the study the step versions of its subjects, when a run has ended."""
    study.refresh()
    if not _outdated(study):
        _set(study, _now())


def _outdated(study: Study) -> dict[str, list[str]]:
    """Subjects made by another version, and the steps; read only where the study may hold any."""
    if study.step_versions == _now():
        return {}
    names = study.subject_ids
    with ThreadPoolExecutor(_READERS) as threads:
        found = zip(names, threads.map(lambda name: _steps(study, name), names), strict=True)
        return {name: steps for name, steps in found if steps}


def _steps(study: Study, name: str) -> list[str]:
    try:
        return outdated(study.subject(name).step_versions)
    except UserError:
        return ["a subject.json that cannot be read"]


def _changed(study: Study, rows: Sequence[CohortRow]) -> list[str]:
    """Subjects whose image differs from the one that the study's patches were cut from."""

    def look(row: CohortRow) -> bool:
        try:
            return has_changed(row.image, study.subject(row.subject_id).about.get("source", {}))
        except (UserError, OSError):  # reported when the subject is used
            return False

    with ThreadPoolExecutor(_READERS) as threads:
        return [row.subject_id for row, other in zip(rows, threads.map(look, rows), strict=True) if other]


def _set(study: Study, numbers: dict[str, list[int]]) -> None:
    if study.step_versions != numbers:
        study.set_step_versions(numbers)


def _now() -> dict[str, list[int]]:
    return {step: [number] for step, number in VERSIONS.items()}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
