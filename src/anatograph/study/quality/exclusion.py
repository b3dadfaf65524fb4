"""Scans that the user names to be left out, and the identifiers that can be named."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from anatograph.errors import UserError, counted, plain
from anatograph.study.cohort.origin import tables_of_study
from anatograph.study.cohort.table import listed_ids
from anatograph.study.store import Study
from anatograph.typed_settings import nearest

_SHOWN = 10


def excluded_ids(exclude: Sequence[str], known: Collection[str], where: object) -> frozenset[str]:
    """The identifiers of ``--exclude``, each of which must be ``known``; ``where`` says in what, for the message.

    Raises:
        UserError: an identifier that is not known, with the nearest one that is.
    """
    if isinstance(exclude, str):  # its letters would be taken for identifiers
        raise UserError(f"The scans to exclude must be a list, not the text '{plain(exclude)[:64]}'; give [...].")
    names = list(dict.fromkeys(exclude))
    strange = [name for name in names if name not in known]
    if strange:
        said = [f"'{plain(name)[:64]}'{_hint(name, known)}" for name in strange[:_SHOWN]]
        more = f" and {len(strange) - _SHOWN} more" if len(strange) > _SHOWN else ""
        raise UserError(
            f"--exclude names {counted(len(strange), 'scan')} that {where} does not hold: {', '.join(said)}{more}. "
            "Correct the identifiers."
        )
    return frozenset(names)


def known_ids(study: Study) -> set[str]:
    """The scans of a study: those it holds, those that failed, and those that its cohort tables list."""
    found = {*study.subject_ids, *(failure.subject_id for failure in study.failures())}
    for table in tables_of_study(study):
        found |= listed_ids(table) or set()
    return found


def unlisted_ids(study: Study, subject_ids: Iterable[str]) -> list[str]:
    """Those of the subjects that no cohort table of the study lists any more.

    Empty where a table cannot be read, or where the study does not say which tables it was filled from: what such a
    table lists is unknown.
    """
    tables = [listed_ids(table) for table in tables_of_study(study)]
    listed: set[str] = set()
    for names in tables:
        if names is None:
            return []
        listed |= names
    return [name for name in subject_ids if name not in listed] if tables else []


def _hint(name: str, known: Collection[str]) -> str:
    return f" (did you mean '{nearest(name, sorted(known))}'?)" if known else ""
