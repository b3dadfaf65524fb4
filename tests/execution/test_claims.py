"""Claims on work: one holder, free again when the holder dies, taken over late where locks do not reach."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anatograph.execution import claims
from anatograph.execution.claims import alone, claim, holder

HOLD = """
import sys, time
from pathlib import Path
from anatograph.execution.claims import claim
held = claim(Path(sys.argv[1]), "a.claim")
print(held.token, flush=True)
time.sleep(300)
"""
TAKE = """
import sys, time
from pathlib import Path
from anatograph.execution.claims import claim
folder, start = Path(sys.argv[1]), float(sys.argv[2])
mine = []
time.sleep(max(0.0, start - time.time()))
for number in range(60):
    held = claim(folder, f"{number}.claim")
    if held is not None:
        mine.append(number)  # and is never released
print(*mine, flush=True)
sys.stdin.read()
"""


def hold(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first = claim(tmp_path, "a.claim")
    assert first is not None
    assert first.dead == ""
    assert holder(tmp_path, "a.claim") == first.token
    assert claim(tmp_path, "a.claim") is None
    assert claim(tmp_path, "b.claim") is not None
    first.release()
    assert holder(tmp_path, "a.claim") is None
    again = claim(tmp_path, "a.claim")
    assert again is not None
    again.release()
    assert [path.name for path in tmp_path.iterdir()] == ["b.claim"]


def test_the_claim_of_a_killed_process_is_free_at_once_and_names_what_it_left(tmp_path: Path) -> None:
    process, token = hold(tmp_path)
    assert holder(tmp_path, "a.claim") == token
    assert claim(tmp_path, "a.claim") is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "a.claim").exists()
    assert holder(tmp_path, "a.claim") is None
    taken = claim(tmp_path, "a.claim")
    assert taken is not None
    assert taken.dead == token
    assert claim(tmp_path, "a.claim") is None


def test_a_claim_from_another_machine_is_taken_over_only_when_it_is_old(tmp_path: Path) -> None:
    """There a lock may not reach, so a lock that can be had says nothing."""
    file = tmp_path / "a.claim"
    file.write_text(json.dumps({"token": "theirs", "machine": "another"}).ljust(512))
    assert claim(tmp_path, "a.claim") is None
    assert holder(tmp_path, "a.claim") == "theirs"
    old = time.time() - claims.STALE - 5
    os.utime(file, (old, old))
    assert holder(tmp_path, "a.claim") is None
    taken = claim(tmp_path, "a.claim")
    assert taken is not None
    assert taken.dead == "theirs"
    assert time.time() - file.stat().st_mtime < 60


def test_a_damaged_claim_is_taken_for_alive_until_it_is_old(tmp_path: Path) -> None:
    file = tmp_path / "a.claim"
    file.write_bytes(b"")
    assert claim(tmp_path, "a.claim") is None
    os.utime(file, (1, 1))
    assert claim(tmp_path, "a.claim") is not None


@pytest.mark.parametrize("what", ["no links", "no locks"])
def test_file_systems_without_links_or_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "no links":

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    else:
        import fcntl

        def no_locks(*_: object) -> None:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        monkeypatch.setattr(claims, "_unsupported", set())
    held = claim(tmp_path, "a.claim")
    assert held is not None
    assert claim(tmp_path, "a.claim") is None
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_a_held_claim_is_touched_while_python_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = claim(tmp_path, "a.claim")
    assert held is not None
    os.utime(held.path, (1, 1))
    held.touch()
    assert time.time() - held.path.stat().st_mtime < 60
    assert any(thread.name == "claims" and thread.daemon for thread in __import__("threading").enumerate())
    held.release()


def test_many_processes_share_the_work_and_nothing_is_given_twice(tmp_path: Path) -> None:
    start = str(time.time() + 3)
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([sys.executable, "-c", TAKE, str(tmp_path), start], stdin=pipe, stdout=pipe, encoding="utf-8")
        for _ in range(4)
    ]
    taken = [int(number) for p in processes if p.stdout is not None for number in p.stdout.readline().split()]
    assert sorted(taken) == list(range(60))
    for process in processes:
        process.communicate("")


def test_alone_waits(tmp_path: Path) -> None:
    with alone(tmp_path, "x.lock"), pytest.raises(TimeoutError), alone(tmp_path, "x.lock", patience=0.1):
        pass
    with alone(tmp_path, "x.lock"):
        pass
