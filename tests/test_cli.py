"""The commands: quick help, one line for a mistake, and the documented exit status."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest

import anatograph
from anatograph import __version__, cli
from anatograph.cli.command import Command, inputs
from anatograph.cli.commands import COMMANDS
from anatograph.cli.parsing import shape_of
from anatograph.errors import UserError

NAMES = [command.name() for command in COMMANDS]
HEAVY = ("numpy", "torch", "SimpleITK", "pandas", "scipy", "sklearn", "matplotlib", "zarr", "pyarrow", "tqdm")


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "anatograph", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=False)


def test_help_imports_nothing_heavy() -> None:
    done = run(
        code=f"""
import sys
from anatograph.cli.app import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print("LOADED", loaded)
"""
    )
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout
    for command in NAMES:
        assert command in done.stdout


def test_importing_the_package_is_light_and_it_has_every_command() -> None:
    done = run(
        code=f"""
import sys, anatograph
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules])
missing = [name for name in anatograph.__all__ if getattr(anatograph, name, None) is None]
print("MISSING", missing, [n for n in anatograph.__all__ if n not in dir(anatograph)])
"""
    )
    assert "LOADED []" in done.stdout, done.stderr
    assert "MISSING [] []" in done.stdout, done.stderr


@pytest.mark.parametrize("command", NAMES)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "exit status" in printed
    assert f"anatograph {command}" in printed


ONLY_PYTHON = {"account", "progress", "say", "settings", "options", "training", "step", "most_bytes"}
"""Parameters of public functions that are no options: callbacks, objects, and what only the tests set."""


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.function_name()], ids=lambda c: c.name())
def test_options_are_the_parameters_of_the_function(command: type[Command]) -> None:
    function = getattr(anatograph, str(command.function_name()))
    parameters = inspect.signature(function).parameters
    hints, given = get_type_hints(command), inputs(command)
    for name, (how, field) in given.items():
        if not how.passed:
            continue
        assert name in parameters, f"{command.name()}: {function.__name__} has no parameter {name}"
        default, expected = field.default, parameters[name].default
        if default is dataclasses.MISSING:
            assert expected in (inspect.Parameter.empty, None), f"{name} may be left out in Python"
        else:
            assert (default == expected) or (default == () and not expected), name
        if choices := shape_of(hints[name]).choices:
            allowed = literals(eval(parameters[name].annotation, function.__globals__))
            assert set(choices) == set(allowed), f"{name}: the function's type allows {allowed}"
    missing = set(parameters) - set(given) - ONLY_PYTHON
    assert not missing, f"parameters of {function.__name__} that the command line cannot give"


def literals(hint: Any) -> list[str]:
    """All words of the Literals in a type."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [word for part in get_args(hint) for word in literals(part)]


def test_the_page_of_commands_is_current() -> None:
    tool = Path(__file__).resolve().parents[1] / "tools" / "command_reference.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"anatograph {__version__}\n"


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["nonsense"],
        ["phantom", "out", "--subjects", "0"],
        ["phantom", "out", "--subjects", "3", "--format", "jpeg"],
        ["preprocess", "cohort.csv"],
        ["preprocess", "cohort.csv", "study", "--redo", "everything"],
        ["cluster", "--", "preprocess", "cohort.csv", "study"],
        ["cluster", "--system", "abacus", "--workers", "2", "--", "preprocess", "cohort.csv", "study"],
        ["preprocess", "cohort.csv", "study", "--lungs", "magic"],
        ["embed", "study"],
        ["evaluate", "e.parquet", "c.csv"],
        ["benchmark", "study", "c.csv", "--target", "x"],
        ["cohort", "lidc", "folder", "out.csv"],
        ["explain", "s", "e", "c", "--target", "t", "--subject", "x"],
        ["report", "study"],
        ["import-reference", "a", "b", "c"],
    ],
)
def test_a_wrong_line_exits_with_status_2(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(line)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        ["phantom", "out"],
        ["phantom", "out", "--subjects", "2", "--onto", "none.csv"],
        ["phantom", "out", "--onto", "none.csv"],
        ["preprocess", "none.csv", "study"],
        ["cluster", "--workers", "2", "--", "evaluate", "e", "c"],
        ["cluster", "--workers", "2", "--", "embed", "s", "o", "--workers=3"],
        ["pretrain", "no-study", "run"],
        ["pretrain", "no-study", "run", "--preset", "quik"],
        ["embed", "no-study", "out", "--model", "no-model"],
        ["evaluate", "none.parquet", "none.csv", "--target", "x"],
        ["benchmark", "no-study", "none.csv", "--target", "x", "--out", "out"],
        ["benchmark", "no-study", "none.csv", "--target", "x", "--out", "out", "--methods", "mocco"],
        ["benchmark", "no-study", "none.csv", "--target", "x", "--out", "out", "--weights", "medicalnet"],
        ["cohort", "mosmeddata", "none", "out.csv"],
        ["explain", "no-study", "e", "c", "--target", "t", "--subject", "x", "--out", "o"],
        ["report", "no-study", "--out", "page.html"],
        ["atlas", "none.nii.gz", "atlas"],
        ["import-reference", "a.pth.tar", "b.pth.tar", "model", "--atlas", "no-atlas"],
        ["doctor", "none.csv"],
        ["export", "none.parquet", "out", "--to", "csv"],
    ],
)
def test_missing_inputs_are_reported_in_one_line(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(line) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1, printed
    assert printed.startswith(f"anatograph {line[0]}: ")
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["--debug", "report"], ["report", "--debug"]):
        assert cli.main([*line, str(tmp_path / "none"), "--out", str(tmp_path / "p.html")]) == 2
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (RuntimeError("oh"), 70), (UserError("no"), 2)]
)
def test_exit_status_of_errors(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(anatograph, "report", fail)
    assert cli.main(["report", "study", "--out", "page.html"]) == status
    printed = capsys.readouterr().err
    assert ("Traceback" in printed) == (status == 70)


def test_evaluate_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(30)]
    x = random.normal(0, 1, (30, 4))
    table = pd.DataFrame({"subject_id": ids, **{f"feature_{k:03d}": x[:, k] for k in range(4)}})
    table.to_parquet(tmp_path / "e.parquet")
    cohort = pd.DataFrame({"subject_id": ids, "image": ids, "y": x[:, 0], "z": [i % 2 for i in range(30)]})
    cohort.to_csv(tmp_path / "c.csv", index=False)
    places = [str(tmp_path / "e.parquet"), str(tmp_path / "c.csv")]
    line = ["evaluate", *places, "--target", "y", "z", "--folds", "3", "--out", str(tmp_path / "out")]
    assert cli.main(line) == 0
    results = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(results["target"]) == {"y", "z"}
    assert (tmp_path / "out" / "evaluate.run.json").is_file()
    assert str(tmp_path / "out") in capsys.readouterr().out
    assert cli.main([*line[:-2], "--task", "z=regression"]) == 0
    assert cli.main([*line[:-2], "--task", "q=regression"]) == 2


def test_doctor_reports_a_cohort_s_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import SimpleITK as sitk

    good = sitk.GetImageFromArray(np.full((20, 16, 16), -800, dtype=np.int16))
    sitk.WriteImage(good, str(tmp_path / "good.nii.gz"))
    sitk.WriteImage(good[:, :, :3], str(tmp_path / "flat.nii.gz"))
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    rows = [("a", "good.nii.gz"), ("b", "flat.nii.gz"), ("c", "broken.nii.gz"), ("d", "gone.nii.gz")]
    pd.DataFrame(rows, columns=["subject_id", "image"]).to_csv(tmp_path / "cohort.csv", index=False)
    assert cli.main(["doctor", str(tmp_path / "cohort.csv")]) == 1
    printed = capsys.readouterr().out
    for words in (
        "flat.nii.gz: only 3 slices",
        "broken.nii.gz: cannot be read",
        "gone.nii.gz does not exist",
        "read/write self-test",
    ):
        assert words in printed
    assert "look   a: " not in printed
    assert cli.main(["doctor"]) in (0, 1)
