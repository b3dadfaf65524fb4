"""The settings of preprocessing and pretraining, and the versions they were made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anatograph.reporting.redaction import WITHHELD, Discretion
from anatograph.reporting.sections.tables import read_json
from anatograph.study.store import Study


def settings(study: Study, run: Path | None, discretion: Discretion) -> str:
    """As indented JSON, without paths."""
    shown: dict[str, Any] = {"atlas hash": study.atlas.hash, "preprocessing": study.settings.to_dict()}
    account = read_json(study.path / "preprocess.run.json")
    if account:
        shown["versions"] = {k: v for k, v in account.get("versions", {}).items() if k != "platform"}
    if run is not None:
        known = read_json(run / "settings.json") or {}
        shown["pretraining"] = {key: value for key, value in known.items() if key != "probe_table"}
    if not discretion.identities:
        shown = {part: _without_paths(values) if isinstance(values, dict) else values for part, values in shown.items()}
    return json.dumps(shown, indent=2)


def _without_paths(values: dict[str, Any]) -> dict[str, Any]:
    return {key: WITHHELD if isinstance(v, str) and ("/" in v or "\\" in v) else v for key, v in values.items()}
