"""A real dask cluster of several processes: workers killed, the scheduler restarted; and job scripts for Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any
from urllib.error import ContentTooShortError

import pytest

from anatograph import cli
from anatograph.anatomy.atlas import Atlas, save_atlas
from anatograph.errors import UserError
from anatograph.execution.dask_pool import on_dask
from anatograph.execution.scheduling import Workplace, run_tasks
from anatograph.execution.slurm import SlurmJob, job_script
from anatograph.execution.tasks import SchedulerGoneError, WorkerLost
from fixtures.processes import Cluster, assert_whole, kill, start, there, until

divmod_of = methodcaller("__divmod__", 2)
EVERYBODY = {f"p{number:02d}" for number in range(6)}
needs_dask = pytest.mark.skipif(
    __import__("importlib.util", fromlist=["util"]).find_spec("distributed") is None,
    reason="the extra 'dask' is not installed",
)


def claimed_by(study: Path) -> set[int]:
    found = set()
    for file in (study / ".claims").glob("*.claim"):
        try:
            found.add(int(json.loads(file.read_text(encoding="utf-8"))["pid"]))
        except (OSError, ValueError, KeyError):
            continue
    return found


@needs_dask
def test_a_worker_is_killed_and_the_scheduler_restarted_and_all_is_done_once(
    cohort: Path, atlas: Atlas, tmp_path: Path
) -> None:
    save_atlas(atlas, tmp_path / "atlas")
    study = tmp_path / "study"
    cluster = Cluster(tmp_path)
    try:
        doomed = cluster.add_worker()
        cluster.add_worker()
        words = ("-m", "anatograph", "preprocess", cohort, study, "--atlas", tmp_path / "atlas")
        run = start(*words, "--scheduler", cluster.address, log=tmp_path / "run.log")
        until(lambda: doomed.pid in claimed_by(study), run)
        kill(doomed)
        until(lambda: len(there(study)) >= 2, run)
        kill(cluster.scheduler)
        done = there(study)
        cluster.start_scheduler()
        for _ in range(2):
            cluster.add_worker()
        assert run.wait(timeout=900) == 0, (tmp_path / "run.log").read_text(encoding="utf-8")
        assert_whole(study, EVERYBODY)
        assert {name: there(study)[name] for name in done} == done  # nothing was done twice
        assert (study / "failures.csv").read_text(encoding="utf-8") == "subject_id,stage,reason\n"
        results = json.loads((study / "preprocess.run.json").read_text(encoding="utf-8"))["results"]
        assert results["done"] + results["done_by_other_runs"] == 6
        assert results["failed"] == results["not_tried"] == 0
    finally:
        cluster.close()


@needs_dask
def test_tasks_come_back_from_one_thread_and_a_lost_scheduler_is_reported() -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=40, memory_limit=0
    ) as cluster:
        address = cluster.scheduler_address
        place = Workplace.choose(1, address, 3)
        assert dict(run_tasks(divmod_of, [7, 9], place)) == {7: (3, 1), 9: (4, 1)}
    with pytest.raises(UserError, match="cannot be reached"):
        list(run_tasks(divmod_of, [1], Workplace(scheduler="tcp://127.0.0.1:9")))
    with pytest.raises(UserError, match="cannot be reached"):
        list(run_tasks(divmod_of, [1], Workplace(scheduler="no-such-file.json")))


@needs_dask
def test_a_scheduler_that_does_not_come_back(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)  # it has no workers, so nothing is ever done
    said: list[str] = []

    def say(sentence: str) -> None:
        said.append(sentence)
        if "has 0 worker threads" in sentence:
            kill(cluster.scheduler)

    try:
        with pytest.raises(SchedulerGoneError, match="did not come back"):
            list(on_dask(divmod_of, [1, 2], cluster.address, say, patience=1.0))
        assert any("waiting for workers" in sentence for sentence in said)
        assert any("cannot be reached; its 2 open tasks" in sentence for sentence in said)
    finally:
        cluster.close()


@needs_dask
def test_a_scheduler_that_goes_while_a_result_is_handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import Future

    cluster = Cluster(tmp_path)
    said: list[str] = []
    killed: list[str] = []
    fetch = Future.result

    def result(future: Future, *words: Any, **options: Any) -> Any:
        if not killed:  # the task is done and its result still lies with the worker
            killed.append(future.status)
            kill(cluster.scheduler)
            cluster.start_scheduler()
            cluster.add_worker()
        return fetch(future, *words, **options)

    monkeypatch.setattr(Future, "result", result)
    try:
        cluster.add_worker()
        results = dict(on_dask(divmod_of, [7, 9], cluster.address, said.append))
        assert results == {7: (3, 1), 9: (4, 1)}
        assert killed == ["finished"]
        assert any("cannot be reached; its 2 open tasks" in sentence for sentence in said)
    finally:
        cluster.close()


@needs_dask
def test_a_result_that_cannot_be_read_is_reported_for_its_task_alone(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        cluster.add_worker()
        one = partial(int, "1")
        unreadable = partial(
            ContentTooShortError, "made with two words", b""
        )  # and pickled with one, which is a fault of it
        results = dict(on_dask(methodcaller("__call__"), [one, unreadable], cluster.address, print))
        lost = results[unreadable]
        assert results[one] == 1
        assert isinstance(lost, WorkerLost)
        assert "lost on the cluster: TypeError" in lost.reason
    finally:
        cluster.close()


def test_job_scripts_are_bash_and_ask_for_what_was_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = ["cluster", "--workers", "64", "--memory", "4", "--hours", "1.5", "--partition", "long", "--account", "x"]
    assert cli.main([*line, "--sbatch=--qos=low", "--", "preprocess", "my cohort.csv", "study"]) == 0
    script = capsys.readouterr().out
    for option in ("--ntasks=64", "--cpus-per-task=1", "--mem-per-cpu=4096M", "--time=01:30:00", "--partition=long",
                   "--account=x", "--qos=low", "--requeue"):  # fmt: skip
        assert f"#SBATCH {option}\n" in script
    assert "-m anatograph preprocess 'my cohort.csv' study --scheduler" in script
    assert "--memory-limit 4000MB" in script
    assert "@" not in script.replace("${SLURM", "")
    assert cli.main(["cluster", "--workers", "8", "--array", "20", "--", "embed", "s", "o", "--model", "m"]) == 0
    array = capsys.readouterr().out
    assert "#SBATCH --array=1-20\n" in array
    assert "#SBATCH --cpus-per-task=8\n" in array
    assert "-m anatograph embed s o --model m --workers 8 --worker-memory 3\n" in array
    for text in (script, array):
        checked = subprocess.run(["bash", "-n"], input=text, encoding="utf-8", capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_job_scripts_that_are_refused() -> None:
    with pytest.raises(UserError, match="is for `preprocess` or `embed`"):
        job_script(SlurmJob(2), ["pretrain", "study", "run"])
    with pytest.raises(UserError, match="--scheduler=x out of the command"):
        job_script(SlurmJob(2), ["preprocess", "c", "s", "--scheduler=x"])
    for wrong in ({"workers": 0}, {"hours": 0.0}, {"partition": "a\nb"}, {"extra": ("qos=low",)}):
        with pytest.raises(UserError):
            SlurmJob(**{"workers": 1, **wrong})  # type: ignore[arg-type]


SRUN = """#!/bin/bash
# As Slurm's srun starts a command on each task, with --ntasks=N as its first word.
for number in $(seq "${1#--ntasks=}"); do
    "${@:4}" &
done
wait
"""


@needs_dask
@pytest.mark.skipif(not Path("/usr/bin/openssl").exists(), reason="there is no openssl")
def test_the_job_script_runs_a_cluster_with_a_key_of_its_own(cohort: Path, atlas: Atlas, tmp_path: Path) -> None:
    """On the loopback device, with an srun that starts the tasks here."""
    save_atlas(atlas, tmp_path / "atlas")
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    lines = cohort.read_text(encoding="utf-8").splitlines()[:3]
    rows = [line.split(",") for line in lines[1:]]
    table = [lines[0], *(f"{n},{cohort.parent / i},{cohort.parent / m},{a}" for n, i, m, a in rows)]
    (tmp_path / "two people.csv").write_text("\n".join(table) + "\n")
    command = ["preprocess", "two people.csv", "study", "--atlas", "atlas"]
    (tmp_path / "job.sh").write_text(job_script(SlurmJob(2, python=sys.executable), command))
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ANATOGRAPH_HOST": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "job.sh"], cwd=tmp_path, env=env, capture_output=True, encoding="utf-8", timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "The scheduler at tls://127.0.0.1" in done.stderr
    assert_whole(tmp_path / "study", {"p00", "p01"})
    assert not list(tmp_path.glob(".anatograph-job-*"))
