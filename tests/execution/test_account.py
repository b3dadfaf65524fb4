"""The account of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from anatograph.errors import UserError
from anatograph.execution.account import RunAccount


@dataclass(frozen=True)
class Settings:
    step: int = 26
    where: Path = Path("here")


def test_account_holds_settings_versions_timings_failures_and_outputs(tmp_path: Path) -> None:
    with RunAccount("preprocess", {"s": Settings(), "x": np.float32(0.5), "nan": float("nan")}, tmp_path / "s") as run:
        with run.stage("read"):
            pass
        with run.stage("read"):
            pass
        run.add_time("write", 2.0)
        run.fail("a", "read", "no such\n  file")
        run.output(tmp_path / "s")
        run.result(done=3)
    account = json.loads((tmp_path / "s" / "preprocess.run.json").read_text(encoding="utf-8"))
    assert account["status"] == "done"
    assert account["settings"] == {"s": {"step": 26, "where": "here"}, "x": 0.5, "nan": "nan"}
    assert account["timings"]["write"] == 2.0
    assert list(account["timings"]) == ["read", "write"]
    assert account["failures"] == [{"subject_id": "a", "stage": "read", "reason": "no such file"}]
    assert account["outputs"] == [str(tmp_path / "s")]
    assert account["results"] == {"done": 3}
    assert {"anatograph", "python", "numpy", "torch", "SimpleITK"} <= set(account["versions"])
    assert account["peak_memory_mb"] > 1
    assert run.exit_status == 1


@pytest.mark.parametrize(
    ("out", "expected"),
    [("out.parquet", "out.run.json"), ("heat.nii.gz", "heat.run.json"), ("study.v2", "study.v2/embed.run.json")],
)
def test_account_lies_beside_a_file_or_inside_a_folder(tmp_path: Path, out: str, expected: str) -> None:
    with RunAccount("embed", {}, tmp_path / out) as run:
        pass
    assert run.path == tmp_path / expected
    assert run.path.is_file()
    assert run.exit_status == 0


def test_account_of_a_run_that_broke_is_kept_and_the_error_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunAccount("embed", {}, tmp_path):
        _ = 1 / 0
    account = json.loads((tmp_path / "embed.run.json").read_text(encoding="utf-8"))
    assert account["status"] == "failed"
    assert "ZeroDivisionError" in account["error"]


def test_a_refused_request_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError), RunAccount("preprocess", {}, tmp_path / "new"):
        raise UserError("no such cohort")
    assert not (tmp_path / "new").exists()
