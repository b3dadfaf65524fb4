"""Which people a model was pretrained on: those of the benchmark, or others."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from anatograph.study.store import Study


def told_of(model: Path, study: Study) -> str:
    """What a reader must know of a model folder that was given for people of ``study``; empty if these are its own."""
    training: dict[str, Any] = {}
    with suppress(OSError, ValueError, AttributeError):  # the row itself says what is wrong with the folder
        training = json.loads((model / "config.json").read_text(encoding="utf-8")).get("training", {})
    if training.get("cohort") == study.digest():
        return ""
    people = f", {training['subjects']} people" if "subjects" in training else ""
    if "cohort" in training:
        return f"pretrained on another cohort{people}"
    return f"given; which people it was pretrained on is not recorded{people}"
