"""A run that is killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from anatograph.learning.monitoring.metrics import TIMED

DRIVER = Path(__file__).with_name("kill_driver.py")


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMED} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_killed_many_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    path = os.pathsep.join([str(DRIVER.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path)],
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        env={"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["whole"] == 0
    assert outcome["killed"] == 0
    assert outcome["kills"]["anywhere"] >= 2
    assert outcome["kills"]["while writing"] >= 2

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert rows(whole) == rows(killed)
    assert len(rows(whole)) == 3 + 2 + 3 + 3  # every third update of a level, and the last of an epoch
    one, two = (load_file(run / "model" / "model.safetensors") for run in (whole, killed))
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name
    # Queues, key networks, optimisers and counts as well: the last checkpoints are the same state.
    last = [sorted((run / "checkpoints").glob("*.safetensors")) for run in (whole, killed)]
    assert [p.name for p in last[0]] == [p.name for p in last[1]]
    assert len(last[0]) == 2
    states = [load_file(paths[-1]) for paths in last]
    assert states[0].keys() == states[1].keys()
    assert {"patch_queue/keys", "graph_queue/keys", "key/encoder.stages.0.0.conv.weight"} <= states[0].keys()
    for name in states[0]:
        assert states[0][name].tobytes() == states[1][name].tobytes(), name
    assert not list((killed / "checkpoints").glob("*.part"))
    assert not any("queue" in name for name in one)
