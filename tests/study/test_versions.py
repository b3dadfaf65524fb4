"""Studies of older versions: noticed, named, not mixed unless requested, updated by one option."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from anatograph.anatomy.atlas import Atlas
from anatograph.errors import UserError
from anatograph.execution.scheduling import Workplace, run_tasks
from anatograph.study import versions
from anatograph.study.cohort import CohortRow
from anatograph.study.preprocess import preprocess
from anatograph.study.settings import PreprocessSettings
from anatograph.study.store import Study
from anatograph.study.worker import Job, process_subject


def table_of(cohort: Path, folder: Path, subjects: int) -> Path:
    lines = cohort.read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines[1 : subjects + 1]]
    table = folder / f"{subjects}.csv"
    table.write_text(
        "\n".join([lines[0], *(f"{n},{cohort.parent / i},{cohort.parent / m},{a}" for n, i, m, a in rows)]) + "\n"
    )
    return table


def as_written_before(study: Path) -> None:
    """Take out what older versions did not write."""
    for file in (study / "study.json", *(study / "subjects").glob("*/subject.json")):
        about = json.loads(file.read_text(encoding="utf-8"))
        del about["recipe"]
        file.write_text(json.dumps(about))


def test_a_study_of_an_older_version_is_noticed_and_updated(
    cohort: Path, atlas: Atlas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    one, two = (table_of(cohort, tmp_path, n) for n in (1, 2))
    preprocess(one, study, atlas, progress=False)
    assert Study.open(study).subject("p00").step_versions == {
        "read": 1,
        "lungs:given": 1,
        "register:deformable": 1,
        "patches": 1,
        "graph": 1,
    }
    as_written_before(study)
    before = (study / "subjects" / "p00").stat().st_ino
    assert preprocess(one, study, atlas, progress=False).notes == []  # version 1 of everything, as now
    assert Study.open(study).subject("p00").step_versions["register:deformable"] == 1

    monkeypatch.setitem(versions.VERSIONS, "lungs:threshold", 2)  # a step that nobody there went through
    assert preprocess(one, study, atlas, progress=False).notes == []
    assert Study.open(study).step_versions["lungs:threshold"] == [2]

    monkeypatch.setitem(versions.VERSIONS, "register:deformable", 2)
    notes = preprocess(one, study, atlas, progress=False).notes
    assert "1 subjects" in notes[0]
    assert "register:deformable (version 1, now 2)" in notes[0]
    assert "--redo outdated" in notes[0]
    with pytest.raises(UserError, match=r"made by an older version: register:deformable .*--redo outdated.*--mixed"):
        preprocess(two, study, atlas, progress=False)
    assert Study.open(study).subject_ids == ["p00"]
    assert (study / "subjects" / "p00").stat().st_ino == before

    preprocess(two, study, atlas, mixed=True, progress=False)
    assert Study.open(study).subject_ids == ["p00", "p01"]
    assert "register:deformable 1 and 2" in Study.open(study).mixed

    account = preprocess(two, study, atlas, redo=["outdated"], progress=False)
    assert account.results["done"] == 1  # p01 was of the new version already
    opened = Study.open(study)
    assert opened.mixed == ""
    assert opened.step_versions["register:deformable"] == [2]
    assert opened.subject("p00").step_versions["register:deformable"] == 2

    monkeypatch.setitem(versions.VERSIONS, "register:deformable", 1)  # an older program meets the newer study
    with pytest.raises(UserError, match="made by a newer anatograph"):
        preprocess(table_of(cohort, tmp_path, 3), study, atlas, progress=False)


def test_an_image_that_changed_is_done_anew_on_request(cohort: Path, atlas: Atlas, tmp_path: Path) -> None:
    table = table_of(cohort, tmp_path, 1)
    own = tmp_path / "own.nii.gz"
    own.write_bytes((cohort.parent / "0.nii.gz").read_bytes())
    table.write_text(table.read_text(encoding="utf-8").replace(str(cohort.parent / "0.nii.gz"), str(own)))
    study = tmp_path / "study"
    preprocess(table, study, atlas, progress=False)
    own.write_bytes((cohort.parent / "1.nii.gz").read_bytes())
    assert "--redo changed reprocesses it" in preprocess(table, study, atlas, progress=False).notes[0]
    before = Study.open(study).subject("p00").load_patches()
    account = preprocess(table, study, atlas, redo=["changed"], progress=False)
    assert account.results["done"] == 1
    assert (Study.open(study).subject("p00").load_patches() != before).any()
    assert preprocess(table, study, atlas, redo=["changed"], progress=False).results["done"] == 0


def test_a_worker_of_another_version_does_nothing(cohort: Path, atlas: Atlas, tmp_path: Path) -> None:
    Study.create(tmp_path / "study", atlas, PreprocessSettings())
    row = CohortRow("p00", cohort.parent / "0.nii.gz", cohort.parent / "0_lungs.nii.gz")
    outcome = process_subject(Job(row, tmp_path / "study", None, versions={"read": 0}))
    assert outcome.kind == "stop"
    assert "different version" in outcome.reason
    assert Study.open(tmp_path / "study").subject_ids == []


def loads_of_the_atlas(jobs: tuple[Job, ...]) -> tuple[int, list[str]]:
    """In a worker: how often the atlas is read for a number of subjects, and how each ended."""
    seen: list[str] = []
    sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event == "open" else None)
    kinds = [process_subject(job).kind for job in jobs]
    return sum(name.endswith("study/atlas/atlas.json") for name in seen), kinds


def test_a_worker_loads_the_atlas_once(cohort: Path, atlas: Atlas, tmp_path: Path) -> None:
    study = Study.create(tmp_path / "study", atlas, PreprocessSettings())
    jobs = tuple(
        Job(CohortRow(f"p0{k}", cohort.parent / f"{k}.nii.gz", cohort.parent / f"{k}_lungs.nii.gz"), study.path, None)
        for k in range(2)
    )
    assert list(run_tasks(loads_of_the_atlas, [jobs], Workplace(2))) == [(jobs, (1, ["done", "done"]))]
