"""Several runs on one study, killed and continued; a disk that fills up; inputs that vanish."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anatograph import cli
from anatograph.anatomy.atlas import Atlas, save_atlas
from anatograph.execution.claims import holder
from anatograph.imaging.volume import Mask
from fixtures.processes import assert_whole, kill, start, there, until

EVERYBODY = {f"p{number:02d}" for number in range(6)}


@pytest.fixture
def place(atlas: Atlas, tmp_path: Path) -> Path:
    save_atlas(atlas, tmp_path / "atlas")
    return tmp_path


def line(cohort: Path, place: Path, study: Path, workers: int) -> list[str]:
    return ["preprocess", str(cohort), str(study), "--atlas", str(place / "atlas"), "--workers", str(workers)]


def failures(study: Path) -> dict[str, str]:
    with (study / "failures.csv").open(encoding="utf-8", newline="") as file:
        return {row["subject_id"]: row["stage"] for row in csv.DictReader(file)}


def test_two_runs_share_a_study_and_one_that_is_killed_is_taken_over(cohort: Path, place: Path) -> None:
    study = place / "study"
    words = ("-m", "anatograph", *line(cohort, place, study, 2))
    first = start(*words, log=place / "first.log")
    second = start(*words, log=place / "second.log")
    claims = study / ".claims"

    def first_is_at_work() -> bool:
        children = ["pgrep", "-P", str(first.pid)]
        found = subprocess.run(children, capture_output=True, encoding="utf-8", check=False)
        workers = [int(w) for w in found.stdout.split()]
        held = [
            json.loads(file.read_text(encoding="utf-8") or "{}").get("pid")
            for file in claims.glob("*.claim")
            if file.exists()
        ]
        return bool(set(workers) & set(held))

    def at_work() -> bool:
        try:
            return first_is_at_work()
        except (OSError, ValueError):  # a claim that is released just now
            return False

    until(at_work, first)
    kill(first)
    done = there(study)
    assert second.wait(timeout=900) == 0, (place / "second.log").read_text(encoding="utf-8")
    assert_whole(study, EVERYBODY)
    assert {name: there(study)[name] for name in done} == done  # nothing was done twice
    assert failures(study) == {}
    assert not list((study / ".unfinished").iterdir())
    assert not list(claims.iterdir())
    account = json.loads((study / "preprocess.run.json").read_text(encoding="utf-8"))
    results = account["results"]
    assert account["status"] == "done"
    assert results["done"] + results["done_by_other_runs"] + results["already_there"] == 6
    assert results["not_tried"] == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 7 MB: two subjects at once fit, four do not."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_full_disk_stops_the_run_and_one_with_room_goes_on(
    cohort: Path, place: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = disk / "study"
    own = place / "scans"
    shutil.copytree(cohort.parent, own)
    asked = line(own / "cohort.csv", place, study, 2)
    assert cli.main(asked) == 1
    said = capsys.readouterr().err
    assert "is full" in said
    assert "the same command continues from there" in said
    done = there(study)
    assert 1 <= len(done) < 6
    assert_whole(study)
    assert failures(study) == {}, (study / "failures.csv").read_text(encoding="utf-8")  # nobody's scan is to blame
    assert not list((study / ".unfinished").iterdir())
    assert cli.main(asked) == 1  # still full
    (own / "5.nii.gz").unlink()  # and an input vanishes
    subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
    assert cli.main(asked) == 1
    assert failures(study) == {"p05": "read"}
    assert_whole(study, EVERYBODY - {"p05"})
    assert {name: there(study)[name] for name in done} == done
    shutil.copy(cohort.parent / "5.nii.gz", own)
    assert cli.main(asked) == 0
    assert failures(study) == {}
    assert_whole(study, EVERYBODY)


def test_what_itk_does_not_write_whole_on_a_full_disk_is_noticed(disk: Path, cohort: Path, place: Path) -> None:
    """ITK says nothing when a disk fills up; a mask cut short must not become part of a study."""
    from anatograph.imaging.reading import read_mask, write_mask
    from anatograph.study.subject import check_written

    mask = read_mask(cohort.parent / "0_lungs.nii.gz")
    noise = np.random.default_rng(0).integers(0, 3, mask.array.shape).astype(np.uint8)  # some 50 KB when compressed
    mask = Mask(noise, mask.frame)
    write_mask(disk / "mask.nii.gz", mask)
    size = (disk / "mask.nii.gz").stat().st_size
    transform = disk / "t.tfm"
    import SimpleITK as sitk

    sitk.WriteTransform(sitk.AffineTransform(3), str(transform))
    check_written(disk / "mask.nii.gz", transform)
    (disk / "mask.nii.gz").unlink()
    page = os.sysconf("SC_PAGE_SIZE")
    free = shutil.disk_usage(disk).free
    (disk / "ballast").write_bytes(b"0" * (free - max(page, size // 2 // page * page)))
    write_mask(disk / "mask.nii.gz", mask)
    with pytest.raises(OSError, match="No space left"):
        check_written(disk / "mask.nii.gz", transform)


def test_a_subject_that_another_run_holds_is_waited_for(cohort: Path, place: Path) -> None:
    """Somebody else is at p00 and dies without a word; the run takes it over and ends with all."""
    study = place / "study"
    table = place / "part.csv"
    lines = cohort.read_text(encoding="utf-8").splitlines()[:2]
    header, row = lines
    name, image, mask, age = row.split(",")
    table.write_text(f"{header}\n{name},{cohort.parent / image},{cohort.parent / mask},{age}\n")
    (study / ".claims").mkdir(parents=True)
    code = "import sys, time\nfrom pathlib import Path\nfrom anatograph.execution.claims import claim\n"
    code += f"c = claim(Path({str(study / '.claims')!r}), 'p00.claim')\ntime.sleep(300)\n"
    other = start("-c", code, log=place / "other.log")
    until(lambda: holder(study / ".claims", "p00.claim") is not None)
    run = start("-m", "anatograph", *line(table, place, study, 1), log=place / "run.log")
    until(lambda: "Another run is working on 1 subject;" in (place / "run.log").read_text(encoding="utf-8"), run)
    assert run.poll() is None
    kill(other)
    assert run.wait(timeout=900) == 0, (place / "run.log").read_text(encoding="utf-8")
    assert_whole(study, {"p00"})
