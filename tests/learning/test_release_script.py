"""tools/train_release_model.sh: every command in it is one that the command line accepts, at the release's sizes."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from anatograph.cli.app import parser
from anatograph.learning.model.folder import read_config
from anatograph.learning.releases.shipped import shipped_model
from anatograph.learning.training.presets import build_settings
from anatograph.learning.training.settings import PretrainSettings

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "train_release_model.sh"


def commands(tmp_path: Path, *arguments: str, **sizes: str) -> list[list[str]]:
    """The commands that the script runs, each a program and its arguments, with programs that only note them."""
    for program in ("anatograph", "python"):
        stub = tmp_path / "bin" / program
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f'#!/bin/sh\nprintf "%s\\t" {program} "$@" >> "{tmp_path}/log"; echo >> "{tmp_path}/log"\n')
        stub.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    (tmp_path / "log").unlink(missing_ok=True)
    subprocess.run(["bash", str(SCRIPT), *arguments], check=True, env={**os.environ, "PATH": path, **sizes}, timeout=60)
    return [line.split("\t")[:-1] for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]


def test_every_command_of_the_script_is_accepted(tmp_path: Path) -> None:
    work = str(tmp_path / "a folder")
    found = commands(tmp_path, work, "anatograph-ct-9")
    steps = ["phantom", "phantom", "preprocess", "preprocess", "pretrain", "reference", "models", "embed", "evaluate"]
    assert [line[1] for line in found[:-1]] == steps
    parsed = [parser().parse_args(line[1:]) for line in found[:-1]]
    assert [one.subjects for one in parsed[:2]] == [160, 60]
    assert (parsed[0].spacing, parsed[1].spacing) == (None, 1.5)
    settings = build_settings(None, None, parsed[4].overrides)
    training = read_config(shipped_model())["training"]
    # As a run that is continued reads them: settings that are newer than the release have their defaults.
    released = PretrainSettings.from_dict(training["settings"], "the release")
    assert settings == replace(released, seed=settings.seed, checkpoint_minutes=settings.checkpoint_minutes)
    assert parsed[4].seed == training["settings"]["seed"]
    assert str(parsed[7].model) == str(parsed[5].model) == f"{work}/run/model"
    ship = found[-1]
    assert ship[0] == "python"
    assert Path(ship[1]).is_file()
    assert ship[2:4] == [f"{work}/run/model", "anatograph-ct-9"]
    options = Path(ship[1]).read_text(encoding="utf-8")
    assert not [word for word in ship if word.startswith("--") and f'"{word}"' not in options]


def test_sizes_come_from_the_environment_and_nothing_is_shipped_without_a_name(tmp_path: Path) -> None:
    sizes = {"SUBJECTS": "40", "HELD_OUT": "12", "SPACING": "4", "EPOCHS": "1", "PATCH_STEPS": "8", "GRAPH_ROUNDS": "2"}
    found = commands(tmp_path, str(tmp_path / "work"), **sizes)
    assert {line[0] for line in found} == {"anatograph"}
    assert [parser().parse_args(line[1:]).subjects for line in found[:2]] == [40, 12]
    assert [parser().parse_args(line[1:]).spacing for line in found[:2]] == [4, 4]
    assert {"epochs=1", "patch_steps=8", "graph_rounds=2"} <= set(parser().parse_args(found[4][1:]).overrides)
    with pytest.raises(subprocess.CalledProcessError):
        commands(tmp_path)
