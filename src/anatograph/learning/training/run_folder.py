"""A run's folder: its settings and study, and whether a request to continue fits them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anatograph.errors import UserError, counted
from anatograph.execution.files import write_text
from anatograph.execution.folders import refuse_foreign
from anatograph.learning.training.checkpoint import checkpoints
from anatograph.learning.training.settings import PretrainSettings

SETTINGS, STUDY, CHECKPOINTS, MODEL = "settings.json", "study.json", "checkpoints", "model"
FREE = (
    "workers",
    "threads",
    "checkpoint_minutes",
    "keep_checkpoints",
    "max_skipped",
    "probe_target",
    "probe_table",
)
"""Settings that may change on a resume, as the result does not depend on them."""
PLANNED = ("epochs", "patch_steps", "graph_rounds")
"""Settings that `plan` derives from ``minutes`` when a run is begun."""


def saved_settings(run: Path) -> PretrainSettings | None:
    """The settings a run was started with, None where there are none."""
    path = run / SETTINGS
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    return PretrainSettings.from_dict(values, str(path))


def check_run(run: Path, settings: PretrainSettings | None, resume: bool, study: dict[str, Any]) -> PretrainSettings:
    """Settings to start or continue with in a folder that is new or fits; nothing is written.

    A run that is there is continued where settings and study are the same. ``settings`` None means the run's own with
    ``resume``, and the default otherwise. ``study`` describes the study's atlas and subjects. Raises ``UserError``
    where the folder holds something else, or a run with other settings or on another study.
    """
    saved = saved_settings(run)
    if saved is None:
        begun = resume and not checkpoints(run / CHECKPOINTS)  # stopped before its settings were written
        refuse_foreign(run, "a pretraining run", lambda entry: begun)
        return settings or PretrainSettings()
    settings = settings or (saved if resume else PretrainSettings())
    if saved.minutes:  # its plan is no request
        settings = replace(settings, **{name: getattr(saved, name) for name in PLANNED})
    same = replace(settings, **{name: getattr(saved, name) for name in FREE})
    if same != saved:
        changed = _differences(saved.to_dict(), same.to_dict())
        raise UserError(
            f"{run} holds a run with other settings ({'; '.join(changed)}); --resume alone continues it with its "
            "own, another folder starts a new run."
        )
    began = json.loads((run / STUDY).read_text(encoding="utf-8")) if (run / STUDY).is_file() else study
    if began.get("atlas_hash") != study.get("atlas_hash"):
        raise UserError(f"{run} was started on a study with another atlas; start a new run.")
    if began.get("subjects") != study.get("subjects"):
        raise UserError(
            f"{run} was started on other subjects ({_changes(began.get('subjects', []), study.get('subjects', []))}); "
            "give the same --exclude, review.csv and cohort table to continue it, or start a new run in another folder."
        )
    return settings


def check_labels(run: Path, table: str, labels: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse to continue a run whose subjects have other values now: its queues hold keys under the old ones.

    ``labels`` are the values of each column by subject, as `begin_run` wrote them; runs of earlier versions name none.
    """
    began = json.loads((run / STUDY).read_text(encoding="utf-8")) if (run / STUDY).is_file() else {}
    for column, before in began.get("labels", {}).items():
        now = labels.get(column, {})
        if changed := [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]:
            name = changed[0]
            raise UserError(
                f"{run} was started with other values of {column} in {table} ({counted(len(changed), 'subject')}: "
                f"{name} had {before.get(name, 'none')}, now {now.get(name, 'none')}); restore them to continue it, or "
                "start a new run in another folder."
            )


def saved_exclusions(run: Path) -> list[str]:
    """The scans that the user left out of a run that was begun; empty where there is none."""
    try:
        named = json.loads((run / STUDY).read_text(encoding="utf-8")).get("excluded", [])
    except (OSError, ValueError, AttributeError):
        return []
    return [str(name) for name in named]


def begin_run(run: Path, settings: PretrainSettings, study: dict[str, Any]) -> None:
    """Make the folder and write its settings and study, unless they are there already."""
    if (run / SETTINGS).is_file():
        return
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / STUDY, json.dumps(study) + "\n")
    write_text(run / SETTINGS, settings.to_json())


def _changes(old: list[str], new: list[str]) -> str:
    """How many subjects are no longer there, and how many are new, with the first names."""
    before, after = set(old), set(new)
    lost, added = [name for name in old if name not in after], [name for name in new if name not in before]
    parts = [(lost, "left out now"), (added, "new")]
    return "; ".join(f"{len(names)} {what}: {', '.join(names[:3])}" for names, what in parts if names)


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for name, value in new.items():
        if isinstance(value, dict):
            found += _differences(old[name], value, f"{prefix}{name}.")
        elif value != old[name]:
            found.append(f"{prefix}{name} was {old[name]}, now {value}")
    return found
