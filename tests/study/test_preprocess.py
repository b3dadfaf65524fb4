"""From a cohort to a study: resuming, failing, being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anatograph.anatomy.atlas import Atlas, save_atlas
from anatograph.errors import UserError
from anatograph.imaging.reading import read_volume
from anatograph.imaging.volume import Mask, Volume
from anatograph.study.prepare import prepare_subject
from anatograph.study.preprocess import preprocess
from anatograph.study.settings import PreprocessSettings
from anatograph.study.store import Study
from fixtures.processes import WHOLE

Scan = Callable[..., tuple[Volume, Mask]]


def part_of(cohort: Path, folder: Path, subjects: list[str]) -> Path:
    """A table with some subjects of a cohort, in another folder."""
    lines = cohort.read_text(encoding="utf-8").splitlines()
    chosen = [line.split(",") for line in lines[1:] if line.split(",")[0] in subjects]
    rows = [f"{name},{cohort.parent / image},{cohort.parent / mask},{age}" for name, image, mask, age in chosen]
    path = folder / "part.csv"
    path.write_text("\n".join([lines[0], *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def done(cohort: Path, atlas: Atlas, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two subjects, made in this process."""
    folder = tmp_path_factory.mktemp("done")
    table = part_of(cohort, folder, ["p00", "p01"])
    account = preprocess(table, folder / "study", atlas, progress=False)
    assert account.exit_status == 0
    return folder / "study"


def assert_whole(study: Study) -> None:
    for name in study.subject_ids:
        assert {file.name for file in (study.path / "subjects" / name).iterdir()} == WHOLE
        stored = study.subject(name)
        assert stored.patches.shape == (len(study.atlas), 16, 16, 16)
        assert stored.about["subject_id"] == name
        _ = stored.map(), stored.lungs(), stored.edges, stored.present


def test_a_cohort_becomes_a_study(done: Path) -> None:
    study = Study.open(done)
    assert study.subject_ids == ["p00", "p01"]
    assert_whole(study)
    assert study.failures() == []
    account = json.loads((done / "preprocess.run.json").read_text(encoding="utf-8"))
    assert account["status"] == "done"
    assert account["results"]["done"] == 2
    assert {"read", "lungs", "register", "patches", "graph", "write"} <= set(account["timings"])
    about = study.subject("p00").about
    assert about["lungs_from"] == "given"
    assert "auto used the given mask" in about["notes"]
    assert {"read", "lungs", "register", "patches", "graph"} <= set(about["timings"])
    quality = study.subject("p00").quality
    for name in ("lungs_volume_ml", "registration_dice", "landmarks_outside_lungs", "edges", "isolated_nodes"):
        assert name in quality


def test_one_scan_in_memory_gives_what_the_study_holds(done: Path, cohort: Path) -> None:
    study = Study.open(done)
    mask = cohort.parent / "1_lungs.nii.gz"
    alone = prepare_subject(read_volume(cohort.parent / "1.nii.gz"), mask, study.atlas, study.settings)
    stored = study.subject("p01")
    np.testing.assert_array_equal(alone.patches, stored.patches)
    np.testing.assert_array_equal(alone.landmarks, stored.landmarks)
    np.testing.assert_array_equal(alone.edges, stored.edges)


def test_landmarks_move_with_the_person_and_the_frame_is_lps(done: Path, scan: Scan) -> None:
    """The right lung's landmarks of the atlas come to lie in the right lung of the subject, at smaller x."""
    study = Study.open(done)
    mask = scan(0)[1]
    landmarks = study.subject("p00").landmarks
    index = np.rint(mask.frame.to_index(landmarks)).astype(int)
    labels = mask.array[tuple(np.clip(index, 0, np.array(mask.frame.shape[::-1]) - 1).T[::-1])]
    assert landmarks[labels == Mask.RIGHT, 0].max() < landmarks[labels == Mask.LEFT, 0].min()
    patches = study.subject("p00").patches
    centre = patches[labels > 0][:, 6:10, 6:10, 6:10].mean(axis=(1, 2, 3))
    assert (centre < -500).mean() > 0.95  # lung where the mask says lung


def test_a_second_run_does_only_what_is_missing_or_failed(
    cohort: Path, atlas: Atlas, done: Path, tmp_path: Path
) -> None:
    table = part_of(cohort, tmp_path, ["p00", "p01", "p02"])
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not an image")
    with table.open("a") as file:
        file.write(f"bad,{broken},,1\nlost,nowhere.nii.gz,,2\n")
    before = {file: file.stat().st_mtime_ns for file in (done / "subjects").rglob("*")}
    account = preprocess(table, done, atlas, workers=2, progress=False)
    assert account.exit_status == 1
    assert account.results["already_there"] == 2
    assert account.results["done"] == 1
    assert {(failure.subject_id, failure.stage) for failure in account.failures} == {("bad", "read"), ("lost", "read")}
    study = Study.open(done)
    assert {failure.subject_id for failure in study.failures()} == {"bad", "lost"}
    assert study.subject_ids == ["p00", "p01", "p02"]
    assert_whole(study)
    assert all(file.stat().st_mtime_ns == before[file] for file in before)
    broken.write_bytes((cohort.parent / "3.nii.gz").read_bytes())
    table.write_text(table.read_text(encoding="utf-8").replace(",,1", f",{cohort.parent / '3_lungs.nii.gz'},1"))
    account = preprocess(table, done, atlas, progress=False)
    assert account.results["done"] == 1
    assert [failure.subject_id for failure in Study.open(done).failures()] == ["lost"]
    assert Study.open(done).subject_ids == ["bad", "p00", "p01", "p02"]


def test_processes_and_this_process_give_the_same_bits(cohort: Path, atlas: Atlas, done: Path, tmp_path: Path) -> None:
    preprocess(part_of(cohort, tmp_path, ["p01"]), tmp_path / "study", atlas, workers=2, progress=False)
    for file in ("patches.npy", "landmarks.npy", "edges.npy", "transform.h5"):
        here = (tmp_path / "study" / "subjects" / "p01" / file).read_bytes()
        assert here == (done / "subjects" / "p01" / file).read_bytes()


def test_an_image_that_changed_is_mentioned(
    cohort: Path, atlas: Atlas, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = part_of(cohort, tmp_path, ["p04"])
    image = tmp_path / "own.nii.gz"
    image.write_bytes((cohort.parent / "4.nii.gz").read_bytes())
    table.write_text(table.read_text(encoding="utf-8").replace(str(cohort.parent / "4.nii.gz"), str(image)))
    preprocess(table, tmp_path / "study", atlas, progress=False)
    os.utime(image)  # touched, but the same
    assert preprocess(table, tmp_path / "study", atlas, progress=False).notes == []
    image.write_bytes((cohort.parent / "5.nii.gz").read_bytes())
    account = preprocess(table, tmp_path / "study", atlas, progress=False)
    assert "p04 changed" in account.notes[0]
    assert "p04 changed" in capsys.readouterr().err


def test_requests_that_are_wrong(cohort: Path, atlas: Atlas, done: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lungs is auto there and threshold now"):
        preprocess(cohort, done, atlas, lungs="threshold", progress=False)
    with pytest.raises(UserError, match="no lungs method"):
        preprocess(cohort, tmp_path / "s", atlas, lungs="magic", progress=False)
    table = tmp_path / "c.csv"
    table.write_text("subject_id,image\na,x.nii\nb,y.nii\n")
    with pytest.raises(UserError, match="None of the 2 images"):
        preprocess(table, tmp_path / "s", atlas, progress=False)
    table.write_text(f"subject_id,image\na,{cohort.parent / '0.nii.gz'}\n")
    with pytest.raises(UserError, match="names no mask"):
        preprocess(table, tmp_path / "s", atlas, lungs="given", progress=False)
    assert not (tmp_path / "s").exists()


def test_killed_at_any_moment_a_study_holds_whole_subjects_only(cohort: Path, atlas: Atlas, tmp_path: Path) -> None:
    """SIGKILL to the command and not to its workers: they must go too, and must not finish half a subject."""
    save_atlas(atlas, tmp_path / "atlas")
    study = tmp_path / "study"
    script = (
        "from anatograph.study.preprocess import preprocess\n"
        "if __name__ == '__main__':\n"
        f"    preprocess({str(cohort)!r}, {str(study)!r}, {str(tmp_path / 'atlas')!r}, workers=2, progress=False)\n"
    )
    (tmp_path / "run.py").write_text(script)
    seen = 0
    for kill in range(4):
        process = subprocess.Popen([sys.executable, str(tmp_path / "run.py")], start_new_session=True)
        deadline = time.monotonic() + 240
        # Kill a different moment after the run begins to write: while it makes the study, or while subjects arrive.
        while time.monotonic() < deadline and process.poll() is None:
            unfinished = list((study / ".unfinished").glob("p*")) if study.exists() else []
            if (kill == 0 and study.exists()) or (kill > 0 and unfinished):
                break
            time.sleep(0.002)
        time.sleep(0.01 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (study / "study.json").exists():
            opened = Study.open(study)
            assert_whole(opened)
            assert len(opened) >= seen
            seen = len(opened)
    account = preprocess(cohort, study, tmp_path / "atlas", workers=2, progress=False)
    assert account.exit_status == 0
    opened = Study.open(study)
    assert opened.subject_ids == [f"p{number:02d}" for number in range(6)]
    assert_whole(opened)
    assert not list((study / ".unfinished").iterdir())
    assert opened.settings == PreprocessSettings()


def test_eq_3_and_its_rho_reach_the_subjects_graph(cohort: Path, atlas: Atlas, tmp_path: Path) -> None:
    table = part_of(cohort, tmp_path, ["p00"])
    preprocess(table, tmp_path / "study", atlas, graph="distance", rho=46.0, progress=False)
    study = Study.open(tmp_path / "study")
    assert (study.settings.graph_rule, study.settings.rho) == ("distance", 46.0)
    subject = study.subject("p00")
    apart = np.linalg.norm(subject.landmarks[:, None] - subject.landmarks[None], axis=2)
    expected = np.argwhere(np.triu((apart < 46.0) & subject.present & subject.present[:, None], 1))
    assert sorted(map(tuple, subject.edges.tolist())) == sorted(map(tuple, expected.tolist()))
