"""Two processes under torchrun: the losses of one, whatever the cohort divides into."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DRIVER = Path(__file__).with_name("pair_driver.py")


def losses(run: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"patch": [], "graph": []}
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            found[row["level"]].append(float(row["loss"]))
    return found


def work(processes: int, run: Path, subjects: int, *overrides: str) -> dict[str, list[float]]:
    launch = [sys.executable]
    if processes > 1:
        launch += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    path = os.pathsep.join([str(DRIVER.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    command = [*launch, str(DRIVER), str(run), str(subjects), *overrides]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return losses(run)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["teacher", "shuffle"])
def test_two_processes_have_the_losses_of_one(tmp_path: Path, norm: str) -> None:
    # SGD at a gentle rate: rounding that differs is not blown up over 50 updates, as Adam's division would.
    # float32, since a sum over two processes is rounded elsewhere, which bfloat16 would then make large.
    settings = (f"key_norm={norm}", "precision=fp32", "optimiser=sgd", "learning_rate=0.01", "graph_learning_rate=0.01")
    one = work(1, tmp_path / "one", 8, *settings)
    two = work(2, tmp_path / "two", 8, *settings)
    assert len(one["patch"]) == 50
    assert len(one["graph"]) == 10
    assert max(one["patch"]) > 0.5
    for level in ("patch", "graph"):
        np.testing.assert_allclose(two[level], one[level], rtol=2e-4, atol=2e-4)


@pytest.mark.slow
def test_machines_keep_a_bank_each_and_subjects_need_not_divide_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same losses from one bank that two processes share, and from one in each of two machines."""
    settings = ("patch_steps=6", "graph_rounds=4", "patch_batch=15", "precision=fp32")
    shared = work(2, tmp_path / "shared", 5, *settings)
    monkeypatch.setenv("SEPARATE_MACHINES", "1")
    apart = work(2, tmp_path / "apart", 5, *settings)
    assert [len(apart[level]) for level in ("patch", "graph")] == [6, 4]
    assert shared == apart
    assert (tmp_path / "apart" / "model" / "model.safetensors").is_file()
    assert not list(Path("/dev/shm").glob(f"anatograph-{os.getuid()}-*"))
