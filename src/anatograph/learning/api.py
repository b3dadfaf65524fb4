"""The commands ``pretrain`` and ``import-reference`` as functions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anatograph.errors import UserError, counted
from anatograph.execution.account import RunAccount

if TYPE_CHECKING:
    from anatograph.anatomy.atlas import Atlas
    from anatograph.learning.data.cohort import TrainingStudy
    from anatograph.learning.training.settings import PretrainSettings
    from anatograph.study.store import Study


def pretrain(
    study: str | Path,
    run: str | Path,
    preset: str | None = None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    include_flagged: bool = False,
    progress: bool = True,
    group: str | None = None,
    negatives_within: str | None = None,
    cohort: str | Path | None = None,
    minutes: float | None = None,
    exclude: Sequence[str] = (),
) -> RunAccount:
    """Pretrain on a study and leave the model in ``run/model``.

    ``preset`` is paper, reference, quick or default; ``config`` a TOML or JSON file over it; ``overrides`` texts such
    as "epochs=5" over both.  The same call continues a run that was stopped; with ``resume`` and nothing else it
    continues with its own settings.  ``minutes`` plans a shorter run for this machine (``minutes=M`` of the settings).
    Scans that ``exclude`` names, that ``review.csv`` excludes or that the cohort table no longer lists are left out,
    and those at level ``reject`` unless ``include_flagged``.  With ``resume`` and no ``exclude`` the run's own applies.

    ``group`` is a column of the cohort table, such as the patient, whose scans are not contrasted with each other, and
    ``negatives_within`` one, such as the scanner, of which only scans with the same value are; ``cohort`` is that
    table, by default the one that the study was last preprocessed from. They must list all subjects that are used.

    Raises:
        UserError: settings or folders that do not fit, fewer than two subjects, a run that diverges.
    """
    from anatograph.learning.training.run_folder import saved_exclusions
    from anatograph.study.quality.selection import usable
    from anatograph.study.store import Study

    if resume and not exclude:
        exclude = saved_exclusions(Path(run))
    opened, selection = usable(Study.open(study), include_flagged, exclude)
    if minutes is not None:
        overrides = [*overrides, f"minutes={minutes}"]
    for name, column in (("group", group), ("negatives_within", negatives_within)):
        if column is not None and not column.strip():
            raise UserError(f"{name} is empty: name a column of the cohort table, or leave it out.")
        overrides = overrides if column is None else [*overrides, f"{name}={column}"]
    given = preset is not None or config is not None or bool(overrides)
    settings = None if resume and not given else _settings(opened, preset, config, overrides, cohort)
    if settings is None and cohort is not None:
        raise UserError("a run is resumed with its own cohort table: leave the cohort out.")
    return train(opened, run, settings, resume, progress, selection.notes, list(exclude))


def _settings(
    study: Study, preset: str | None, config: str | Path | None, overrides: Sequence[str], cohort: str | Path | None
) -> PretrainSettings:
    """The settings asked for, with the table of the columns that they name.

    Raises:
        UserError: settings that do not fit, a cohort that nothing is taken from, or no table where one is needed.
    """
    from anatograph.learning.training.presets import build_settings
    from anatograph.study.cohort.origin import table_of_study

    settings = build_settings(preset, config, overrides)
    named = bool(settings.group or settings.negatives_within)
    if cohort is not None and not named:
        raise UserError(
            "a cohort table was given, but no column of it: name group or negatives_within, or leave it out."
        )
    if named and (cohort is not None or not settings.group_table):
        table = table_of_study(study) if cohort is None else Path(cohort)
        settings = replace(settings, group_table=str(table.resolve()))
    return settings


def train(
    study: TrainingStudy,
    run: str | Path,
    settings: PretrainSettings | None = None,
    resume: bool = False,
    progress: bool = True,
    notes: Sequence[str] = (),
    excluded: Sequence[str] = (),
) -> RunAccount:
    """Pretrain on an open study (Algorithm 1) and leave the model in ``run/model``.

    ``settings`` None: the run's own with ``resume``, else the default preset. A run that was stopped in any way
    continues from its last checkpoint and ends with the bits of one that was not stopped. ``notes`` go to the account,
    and ``excluded``, the scans that the user left out, to its settings.
    Under ``torchrun`` every process calls this and takes a share of the work.

    Returns the account of the run, which is also written to ``run/pretrain.run.json``. Raises ``UserError`` as
    `pretrain` does.
    """
    from anatograph.learning import collectives
    from anatograph.learning.memory import keep_memory
    from anatograph.learning.monitoring.online_probe import probe_labels
    from anatograph.learning.training.launch import launched
    from anatograph.learning.training.plan import LEAST_UPDATES, plan
    from anatograph.learning.training.run_folder import begin_run, check_labels, check_run, saved_settings
    from anatograph.learning.training.trainer import Trainer

    run = Path(run)
    ids = list(study.subject_ids)
    if len(ids) < 2:
        raise UserError(
            f"pretraining contrasts subjects with each other and needs at least 2; this study has {len(ids)}. "
            "Preprocess more subjects into it."
        )
    about: dict[str, Any] = {"atlas_hash": study.atlas.hash, "subjects": ids, "excluded": list(excluded)}
    chosen = check_run(run, settings, resume, about)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch then requests large pages, from its first array on
    keep_memory()
    if chosen.probe_target:
        probe_labels(Path(chosen.probe_table), chosen.probe_target)
    with launched(chosen) as compute:
        collectives.barrier()  # every process has looked at the folder before anything is written there
        account = RunAccount("pretrain", chosen.to_dict() | {"exclude": list(excluded)}, run)
        for note in notes:
            account.note(note)
        first = collectives.rank() == 0
        groups = _groups(study, chosen, account)
        labels = groups, _strata(study, chosen, groups, account)
        columns = zip((chosen.group, chosen.negatives_within), labels, strict=True)
        values = {column: found for column, found in columns if column}
        check_labels(run, chosen.group_table, values)
        about["labels"] = values
        trainer = Trainer(compute, study, run, chosen, account, progress, *labels)
        begun = saved_settings(run) is not None
        if not begun and (chosen.minutes or (progress and trainer.schedule.total >= LEAST_UPDATES)):
            chosen, expected = plan(trainer)
            account.note(expected)
            account.settings |= chosen.to_dict()
            if progress and first:
                trainer.monitor.progress.say(expected)
            del trainer  # its networks have seen a few updates, and its queues take memory
            trainer = Trainer(compute, study, run, chosen, account, progress, *labels)
        collectives.barrier()  # every process has seen that the run is new
        if first:
            begin_run(run, chosen, about)
        with account if first else nullcontext():
            trainer.fit()
    return account


def _groups(study: TrainingStudy, settings: PretrainSettings, account: RunAccount) -> dict[str, str]:
    """The group of each subject that has one, with a note on those that do not."""
    from anatograph.learning.data.cohort import read_groups

    if not settings.group:
        return {}
    _need_table(settings.group_table, "group")
    groups = read_groups(Path(settings.group_table), settings.group, study.subject_ids)
    alone = len(study.subject_ids) - len(groups)
    if alone:
        account.note(f"Without a value of {settings.group}, and so groups of their own: {counted(alone, 'subject')}.")
    account.note(
        f"{counted(len(groups), 'subject')} in {counted(len(set(groups.values())), 'group')} by {settings.group}."
    )
    return groups


def _strata(
    study: TrainingStudy, settings: PretrainSettings, groups: Mapping[str, str], account: RunAccount
) -> dict[str, str]:
    """The stratum of each subject that has one, with a note on how many subjects, or groups of them, each has.

    Raises:
        UserError: no two of them share one, so that nothing would be contrasted.
    """
    from anatograph.learning.data.cohort import read_groups

    column = settings.negatives_within
    if not column:
        return {}
    _need_table(settings.group_table, "negatives_within")
    strata = read_groups(Path(settings.group_table), column, study.subject_ids)
    owners = {(groups.get(name), None if name in groups else name, strata.get(name)) for name in study.subject_ids}
    sizes = sorted(Counter(stratum or "none given" for *_, stratum in owners).items())
    one, several = (settings.group, f"values of {settings.group}") if settings.group else ("subject", "subjects")
    if settings.mask_same_subject and settings.in_batch and all(size < 2 for _, size in sizes):
        raise UserError(
            f"negatives_within={column}: no two {several} have the same {column}, so there is nothing to contrast them "
            "with. Name a column whose values several share, such as the scanner, or none."
        )
    account.note(
        f"Negatives come from the same {column} alone; {several} by {column}: "
        f"{', '.join(f'{name} {size}' for name, size in sizes)}."
    )
    if alone := [name for name, size in sizes if size < 2]:
        account.note(f"Alone in its {column}, and so contrasted with no other {one}: {', '.join(alone)}.")
    return strata


def _need_table(table: str, name: str) -> None:
    if not table:
        raise UserError(f"{name} names a column of the cohort table: give that table as group_table.")


def import_reference(
    patch_checkpoint: str | Path, graph_checkpoint: str | Path, model: str | Path, atlas: str | Path | Atlas
) -> Path:
    """Write the published checkpoints, trained on ``atlas``, as a model folder and return it.

    Raises:
        UserError: files that are not these checkpoints, or not a checkpoint that can be read safely.
    """
    from anatograph.anatomy.atlas import load_atlas
    from anatograph.learning.model.published import import_checkpoints

    chosen = load_atlas(atlas) if isinstance(atlas, str | Path) else atlas
    settings = {"patch_checkpoint": str(patch_checkpoint), "graph_checkpoint": str(graph_checkpoint)}
    with RunAccount("import-reference", {**settings, "atlas_hash": chosen.hash}, model) as account:
        folder = import_checkpoints(patch_checkpoint, graph_checkpoint, model, chosen)
        account.output(folder)
    return folder
