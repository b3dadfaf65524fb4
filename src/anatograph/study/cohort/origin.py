"""The cohort table from which a study was made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anatograph.errors import UserError
from anatograph.limits import read_json

if TYPE_CHECKING:
    from anatograph.study.store import Study


def table_of_study(study: Study) -> Path:
    """The cohort table that a study was last preprocessed from.

    Raises:
        UserError: the study does not name it, or it no longer exists.
    """
    try:
        account = read_json(study.path / "preprocess.run.json")
        table = Path(account["settings"]["cohort"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{study.path} does not say which cohort table it was made from; give --cohort.") from error
    if not table.is_file():
        raise UserError(f"The cohort table {table}, from which {study.path} was made, does not exist; give --cohort.")
    return table
