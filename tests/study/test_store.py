"""The study on disk: whole or absent, refused if it does not fit, and read piece by piece."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.anatomy.lung_tissue import Parenchyma
from anatograph.errors import UserError
from anatograph.execution.account import Failure
from anatograph.execution.claims import claim
from anatograph.execution.failures import forget, record, write_table
from anatograph.imaging.volume import Mask, Volume
from anatograph.study.prepare import prepare_subject
from anatograph.study.settings import PreprocessSettings
from anatograph.study.store import Study
from anatograph.study.subject import PreparedSubject

Scan = Callable[..., tuple[Volume, Mask]]


@pytest.fixture(scope="module")
def prepared(scan: Scan, atlas: Atlas) -> PreparedSubject:
    volume, mask = scan(0)
    return prepare_subject(volume, mask, atlas, subject_id="a")


@pytest.fixture
def study(tmp_path: Path, atlas: Atlas, prepared: PreparedSubject) -> Study:
    made = Study.create(tmp_path / "study", atlas, PreprocessSettings())
    for number, name in enumerate("abc"):
        made.write_subject(replace(prepared, subject_id=name, patches=prepared.patches + np.int16(number)))
    return made


def test_everything_comes_back(study: Study, prepared: PreparedSubject, atlas: Atlas) -> None:
    again = Study.open(study.path)
    assert again.subject_ids == ["a", "b", "c"]
    assert len(again) == 3
    assert "a" in again
    assert "z" not in again
    assert again.atlas.hash == atlas.hash
    assert again.settings == PreprocessSettings()
    stored = again.subject("a")
    np.testing.assert_array_equal(stored.patches, prepared.patches)
    assert isinstance(stored.patches, np.memmap)
    assert not stored.patches.flags.writeable
    np.testing.assert_array_equal(stored.landmarks, prepared.landmarks)
    np.testing.assert_array_equal(stored.edges, prepared.edges)
    np.testing.assert_array_equal(stored.present, prepared.present)
    assert again.present().shape == (3, len(atlas))
    np.testing.assert_array_equal(stored.lungs().lungs, prepared.lungs.lungs)
    np.testing.assert_allclose(stored.map().to_subject(atlas.landmarks), prepared.landmarks, atol=1e-6)
    assert stored.frame.same_grid(prepared.volume.frame)
    assert stored.quality["edges"] == len(prepared.edges)
    assert stored.quality["registration_dice"] > 0.9
    assert set(stored.about) >= {"timings", "source", "notes", "flags", "lungs_from", "stored_frame"}


def test_patches_of_one_landmark_and_of_one_subject(study: Study, prepared: PreparedSubject) -> None:
    batch = study.read_patches(["c", "a", "c"], 7)
    assert batch.dtype == np.int16
    np.testing.assert_array_equal(batch, [prepared.patches[7] + 2, prepared.patches[7], prepared.patches[7] + 2])
    rows = np.array([0, len(prepared.patches) - 1])
    np.testing.assert_array_equal(study.read_patches(["b", "b"], rows), prepared.patches[rows] + 1)
    assert study.read_patches([], []).shape == (0, 16, 16, 16)
    with pytest.raises(IndexError):
        study.read_patches(["a"], [len(prepared.patches)])
    with pytest.raises(IndexError):
        study.read_patches(["a"], [-1])


def test_which_voxels_of_the_patches_are_lung(study: Study, prepared: PreparedSubject) -> None:
    subject = study.subject("a")
    np.testing.assert_array_equal(subject.load_inside(), prepared.inside)
    assert 0.1 < prepared.inside.mean() < 0.95
    rows = [0, len(prepared.patches) - 1, 5]
    np.testing.assert_array_equal(study.read_inside(["c", "a", "c"], rows), prepared.inside[rows])
    np.testing.assert_array_equal(subject.parenchyma_hu, prepared.parenchyma_hu)
    sides = {prepared.quality[f"lungs_parenchyma_{side}_hu"] for side in ("right", "left")}
    assert set(subject.parenchyma_hu) == sides


def test_densities_of_the_lungs_that_are_no_numbers_are_measured_again(study: Study, prepared: PreparedSubject) -> None:
    about = study.path / "subjects" / "a" / "subject.json"
    text = json.loads(about.read_text(encoding="utf-8"))
    assert Parenchyma.from_figures(text["quality"]) is not None
    for figure in (None, "dense", float("inf"), float("nan")):
        text["quality"]["lungs_parenchyma_left_hu"] = figure
        assert Parenchyma.from_figures(text["quality"]) is None
    about.write_text(json.dumps(text), encoding="utf-8")  # NaN, as json writes it
    np.testing.assert_array_equal(study.subject("a").parenchyma_hu, prepared.parenchyma_hu)


def test_an_older_subject_has_them_from_its_mask(study: Study, prepared: PreparedSubject) -> None:
    (study.path / "subjects" / "a" / "inside.npy").unlink()
    about = study.path / "subjects" / "a" / "subject.json"
    text = json.loads(about.read_text(encoding="utf-8"))
    for side in ("right", "left"):
        del text["quality"][f"lungs_parenchyma_{side}_hu"]
    text["quality"]["lungs_parenchyma_hu"] = -600.0  # of both lungs, as it was
    about.write_text(json.dumps(text), encoding="utf-8")
    np.testing.assert_array_equal(study.read_inside(["a", "b"], [3, 4]), prepared.inside[[3, 4]])
    np.testing.assert_array_equal(study.subject("a").parenchyma_hu, prepared.parenchyma_hu)


def test_a_damaged_file_of_lung_voxels_is_refused(study: Study) -> None:
    file = study.path / "subjects" / "a" / "inside.npy"
    np.save(file, np.zeros((3, 3), np.uint8))
    for read in (lambda: study.read_inside(["a"], [0]), study.subject("a").load_inside):
        with pytest.raises(UserError, match=r"inside\.npy.*preprocess"):
            read()


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count the bytes that are read")
def test_reading_patches_touches_nothing_else(study: Study) -> None:
    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text(encoding="utf-8").split("rchar: ")[1].split()[0])

    study.read_patches(["a"], [0])
    before = bytes_read()
    own = bytes_read() - before  # what counting costs
    before = bytes_read()
    study.read_patches(["a", "b", "c"] * 40, 5)
    assert bytes_read() - before - own == 120 * 16**3 * 2


def _batch(study: Study) -> NDArray[np.int16]:
    return study.read_patches(["a", "b"], [3, 4])


def test_reading_in_forked_and_spawned_workers_and_in_threads(study: Study) -> None:
    expected = _batch(study)
    copied: Study = pickle.loads(pickle.dumps(study))
    np.testing.assert_array_equal(_batch(copied), expected)
    with get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(_batch, (study,)), expected)
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(lambda _: _batch(study), range(64)):
            np.testing.assert_array_equal(found, expected)


def test_no_file_stays_open(study: Study) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("the system does not list open files")
    before = len(list(Path("/proc/self/fd").iterdir()))
    study.read_patches(["a"] * 200, 0)
    total = sum(int(study.subject(name).patches.sum(dtype=np.int64)) for name in "abc" for _ in range(20))
    assert total != 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_subject_takes_less_than_45_mb_at_paper_settings() -> None:
    assert 581 * 32**3 * 2 < 39e6  # patches; the rest of a real subject is below 1 MB, see docs/study.md


def test_a_study_made_otherwise_is_refused_and_the_difference_named(study: Study, atlas: Atlas, scan: Scan) -> None:
    assert Study.create(study.path, atlas, PreprocessSettings()).subject_ids == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"lungs is auto there and threshold now.*rho is None there and 30"):
        Study.create(study.path, atlas, PreprocessSettings(lungs="threshold", rho=30.0))
    from anatograph.anatomy.atlas import build_atlas

    other = build_atlas(scan(3)[1], patch_size=16, step=20)
    with pytest.raises(UserError, match=f"the atlas has {len(atlas)} landmarks.* and {len(other)} "):
        Study.create(study.path, other, PreprocessSettings())


def test_folders_that_are_not_a_study(tmp_path: Path, atlas: Atlas) -> None:
    with pytest.raises(UserError, match=r"has no study\.json"):
        Study.open(tmp_path)
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(UserError, match="does not hold a study"):
        Study.create(tmp_path, atlas, PreprocessSettings())
    with pytest.raises(UserError, match="is a file"):
        Study.create(tmp_path / "thesis.docx", atlas, PreprocessSettings())


def test_a_run_killed_while_making_the_study_can_be_repeated(tmp_path: Path, atlas: Atlas) -> None:
    (tmp_path / ".unfinished" / "atlas-0123").mkdir(parents=True)
    (tmp_path / "atlas").mkdir()
    (tmp_path / "atlas" / "atlas.json").write_text("{")
    assert Study.create(tmp_path, atlas, PreprocessSettings()).atlas.hash == atlas.hash


def test_newer_and_damaged_formats(study: Study) -> None:
    file = study.path / "subjects" / "b" / "subject.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "format_version": 99}))
    with pytest.raises(UserError, match="format 99"):
        _ = study.subject("b").quality
    patches = study.path / "subjects" / "c" / "patches.npy"
    os.truncate(patches, patches.stat().st_size - 2)
    with pytest.raises(UserError, match="damaged"):
        study.read_patches(["c"], 0)
    file = study.path / "study.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**about, "format_version": 2}))
    with pytest.raises(UserError, match=r"format 2.*newer"):
        Study.open(study.path)
    file.write_text(json.dumps({**about, "settings": {**about["settings"], "colour": "blue"}}))
    with pytest.raises(UserError, match="colour"):
        Study.open(study.path)
    file.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Study.open(study.path)


def test_another_atlas_in_the_study_is_noticed(study: Study, scan: Scan) -> None:
    from anatograph.anatomy.atlas import build_atlas, save_atlas

    save_atlas(build_atlas(scan(2)[1], patch_size=16, step=20), study.path / "atlas")
    with pytest.raises(UserError, match="not the atlas"):
        _ = Study.open(study.path).atlas


def test_a_subject_that_breaks_while_written_is_absent(study: Study, prepared: PreparedSubject) -> None:
    def no_disk(path: Path) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        study.write_subject(replace(prepared, subject_id="d"), no_disk)
    assert study.subject_ids == ["a", "b", "c"]
    assert not (study.path / "subjects" / "d").exists()
    assert not list((study.path / ".unfinished").iterdir())


def test_what_a_killed_run_left_is_cleared_and_a_living_one_is_left_alone(study: Study) -> None:
    held = claim(study.path / ".claims", "e.claim")
    assert held is not None
    for name in ("d-0123", f"e-{held.token}", "e-0123"):
        left = study.path / ".unfinished" / name
        left.mkdir()
        (left / "patches.npy").write_bytes(b"half")
    assert "d" not in study
    study.clear_leftovers()
    assert [path.name for path in (study.path / ".unfinished").iterdir()] == [f"e-{held.token}"]
    held.release()
    study.clear_leftovers()
    assert not list((study.path / ".unfinished").iterdir())
    assert study.subject_ids == ["a", "b", "c"]


def test_a_folder_without_content_is_no_subject_to_a_writer(study: Study) -> None:
    (study.path / "subjects" / "d").mkdir()
    study.refresh()
    assert study.whole(["a", "d", "z"]) == {"a"}


def test_opening_a_study_looks_into_no_subject(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event in ("open", "os.scandir") and on else None)
    on = True
    opened = Study.open(study.path)
    assert len(opened) == 3
    assert "b" in opened
    on = False
    assert sorted(set(seen)) == [str(study.path / "study.json"), str(study.path / "subjects")]


def test_a_subject_can_be_replaced_and_removed(study: Study, prepared: PreparedSubject) -> None:
    study.write_subject(replace(prepared, subject_id="a", patches=prepared.patches + np.int16(9)))
    np.testing.assert_array_equal(study.read_patches(["a"], 1)[0], prepared.patches[1] + 9)
    study.remove_subject("a")
    assert study.subject_ids == ["b", "c"]
    with pytest.raises(UserError, match="no subject 'a'"):
        study.subject("a")
    with pytest.raises(UserError, match="cannot be read"):
        study.read_patches(["a"], 1)


def test_failures_come_back(study: Study) -> None:
    assert study.failures() == []
    failures = [Failure("007", "read", 'a "quoted", reason'), Failure("NA", "lungs", "none; found")]
    for failure in reversed(failures):
        record(study.path, failure)
    assert write_table(study.path, {"a"}) == failures
    assert study.failures() == failures
    assert (study.path / "failures.csv").read_text(encoding="utf-8").startswith("subject_id,stage,reason\n")
    forget(study.path, "007")
    assert write_table(study.path, {"007"}) == failures[1:]  # it is there now


def test_a_table_of_failures_by_an_older_version_is_kept(study: Study) -> None:
    (study.path / "failures.csv").write_text("subject_id,stage,reason\nold,read,gone\na,read,now there\n")
    record(study.path, Failure("new", "lungs", "none"))
    assert [failure.subject_id for failure in write_table(study.path, {"a"})] == ["new", "old"]


def test_settings_are_checked() -> None:
    for wrong in ({"lungs": "x"}, {"registration": "x"}, {"interpolation": "x"}, {"graph_rule": "x"}, {"rho": 0.0}):
        with pytest.raises(UserError):
            PreprocessSettings.from_dict(wrong)
    settings = PreprocessSettings(rho=30.0, seed=4)
    assert PreprocessSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
