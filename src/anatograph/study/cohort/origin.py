"""The cohort tables from which a study was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from anatograph.errors import UserError
from anatograph.execution.claims import alone
from anatograph.execution.files import write_text
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


def tables_of_study(study: Study) -> list[Path]:
    """All cohort tables that a study was filled from; empty where it does not say, as of earlier versions."""
    named = study.about.get("tables", [])
    return [Path(name) for name in named if isinstance(name, str)] if isinstance(named, list) else []


def record_table(study: Study, table: Path) -> None:
    """Say in ``study.json`` that the study is filled from this cohort table too."""
    table = table.resolve()
    if table in tables_of_study(study):
        return
    with alone(study.path / ".claims", "study.lock"):
        file = study.path / "study.json"
        study.about = json.loads(file.read_text(encoding="utf-8"))
        study.about["tables"] = list(dict.fromkeys([*map(str, tables_of_study(study)), str(table)]))
        write_text(file, json.dumps(study.about, indent=2) + "\n")
