"""What the page may show of a study and its table, and in words what it withholds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from anatograph.reporting.redaction import WITHHELD, Discretion, identifies, known_secrets
from anatograph.study.cohort import Cohort
from anatograph.study.quality.gallery import review_data
from anatograph.study.store import Study

_HOLDS = "holds a date, an identifier or a path"
_HOLD = "hold a date, an identifier or a path"


def discretion_of(study: Study, known: Cohort | None, identities: bool) -> tuple[Discretion, list[str], dict[str, str]]:
    """What may be shown, which columns of the table, and which not for what reason."""
    every_subject = dict.fromkeys(study.subject_ids)
    every_subject |= dict.fromkeys(failure.subject_id for failure in study.failures())
    paths: list[str] = [str(study.path), str(study.path.resolve())]
    for name in study.subject_ids:
        source = study.subject(name).about.get("source", {})
        paths += [str(source.get("path", "")), str(source.get("lungs", ""))]
    if known is not None:
        every_subject |= dict.fromkeys(known.subject_ids)
        paths.append(str(known.path))
        for row in known.rows:
            paths += [str(row.image), str(row.lungs or "")]
        for column in ("image", "lungs"):
            if column in known.table:
                paths += [str(value) for value in known.table[column].dropna()]
    plain = Discretion(identities, known_secrets(paths, every_subject), tuple(every_subject))
    if known is None:
        return plain, [], {}
    columns, withheld = plain.columns(known.table)
    words = frozenset(columns) | _classes(known.table, columns)
    return Discretion(identities, plain.secrets, plain.subject_ids, words), columns, withheld


def _classes(table: pd.DataFrame, columns: Iterable[str]) -> frozenset[str]:
    """Names of the classes in the columns that are shown."""
    texts = [name for name in columns if not pd.api.types.is_numeric_dtype(table[name])]
    return frozenset(str(value) for name in texts for value in table[name].dropna().unique())


def withheld_notices(withheld: dict[str, str], discretion: Discretion, texts: Iterable[str]) -> list[str]:
    """What is withheld from the page for privacy, and how to show it; ``texts`` are the page's messages."""
    notices = []
    if withheld:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in withheld.items())
        notices.append(f"columns that may identify a patient are withheld: {reasons}; --identities shows them")
    if discretion.renamed == 1:
        notices.append(f"one subject is called by its place in the study, as its name {_HOLDS}; --identities shows it")
    elif discretion.renamed:
        notices.append(
            f"{discretion.renamed} subjects are called by their place in the study, as their names {_HOLD}; "
            "--identities shows them"
        )
    if any(WITHHELD in text for text in texts):
        notices.append(f"what may identify a patient in a message is replaced by {WITHHELD}; --identities shows it")
    return notices


def reviewable(study: Study, discretion: Discretion) -> tuple[dict[str, Any] | None, str]:
    """What the page needs to take the reader's verdicts, or why it cannot.

    A ``review.csv`` exported from the page replaces the study's, so it must hold every subject and comment as they are.
    """
    known = review_data(study.path)
    texts = [(name, review["comment"]) for name, review in known["reviews"].items()]
    if not discretion.identities and (discretion.renamed or any(identifies(text) for pair in texts for text in pair)):
        return None, (
            "verdicts cannot be given on this page, as names or comments that may identify a patient are withheld; "
            "use `anatograph qc`, or --identities"
        )
    return known, ""
