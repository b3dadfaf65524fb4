"""One scan in memory: whose lungs, which figures, which flags; and the QC picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.errors import UserError
from anatograph.imaging.reading import write_mask
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.study.prepare import Stages, prepare_subject
from anatograph.study.quality.levels import Concern
from anatograph.study.quality.picture import draw_qc
from anatograph.study.settings import PreprocessSettings
from anatograph.study.source import fingerprint, has_changed
from anatograph.study.subject import PreparedSubject

Scan = Callable[..., tuple[Volume, Mask]]


@pytest.fixture(scope="module")
def prepared(scan: Scan, atlas: Atlas) -> PreparedSubject:
    volume, mask = scan(2)
    return prepare_subject(volume, mask, atlas, subject_id="p")


def test_whose_lungs(scan: Scan, atlas: Atlas, prepared: PreparedSubject, tmp_path: Path) -> None:
    volume, mask = scan(2)
    assert prepared.lung_method == "given"
    write_mask(tmp_path / "m.nii.gz", mask)
    from_file = prepare_subject(volume, tmp_path / "m.nii.gz", atlas, PreprocessSettings(lungs="given"))
    np.testing.assert_array_equal(from_file.patches, prepared.patches)
    with pytest.raises(UserError, match="names no mask"):
        prepare_subject(volume, None, atlas, PreprocessSettings(lungs="given"))
    ignored = prepare_subject(volume, mask, atlas, PreprocessSettings(lungs="threshold"))
    assert ignored.lung_method == "threshold"
    assert any("was not used" in note for note in ignored.notes)
    found = prepare_subject(volume, None, atlas)
    assert found.lung_method == "threshold"
    overlap = (found.lungs.lungs & mask.lungs).sum() * 2 / (found.lungs.lungs.sum() + mask.lungs.sum())
    assert overlap > 0.95


def test_a_mask_on_another_grid(scan: Scan, atlas: Atlas, prepared: PreparedSubject) -> None:
    volume, mask = scan(2)
    padded = Frame(tuple(n + 4 for n in mask.frame.shape), mask.frame.spacing, tuple(mask.frame.to_lps([-2, -2, -2])))
    moved = prepare_subject(volume, Mask(np.pad(mask.array, 2), padded), atlas)
    np.testing.assert_array_equal(moved.lungs.array, mask.array)
    np.testing.assert_allclose(moved.landmarks, prepared.landmarks, atol=1e-6)


def test_figures_agree_with_what_they_count(prepared: PreparedSubject, atlas: Atlas) -> None:
    quality = prepared.quality
    assert quality["landmarks"] == len(atlas) == len(prepared.patches)
    assert quality["edges"] == len(prepared.edges)
    index = np.rint(prepared.lungs.frame.to_index(prepared.landmarks)).astype(int)
    outside = sum(prepared.lungs.array[z, y, x] == 0 for x, y, z in index)
    assert quality["landmarks_outside_lungs"] == outside
    voxels = prepared.lungs.lungs.sum() * prepared.lungs.frame.voxel_volume / 1000
    assert quality["lungs_volume_ml"] == pytest.approx(voxels)
    assert prepared.flags == ()
    assert set(prepared.timings) == {"align", "lungs", "register", "patches", "graph"}


def test_a_cut_scan_is_flagged_and_its_landmarks_absent(scan: Scan, atlas: Atlas) -> None:
    volume, mask = scan(2)
    cut = slice(0, 28)  # the upper part of the lungs is missing
    frame = replace(volume.frame, shape=(28, *volume.frame.shape[1:]))
    subject = prepare_subject(Volume(volume.array[cut], frame), Mask(mask.array[cut], frame), atlas)
    assert any("top of the lungs" in flag for flag in subject.flags)
    assert (subject.patches[~subject.present] == -1024).all()


def test_a_failure_is_reported_with_its_stage(scan: Scan, atlas: Atlas) -> None:
    volume, _ = scan(2)
    stages = Stages()
    air = Volume(np.full(volume.array.shape, -1000, np.int16), volume.frame)
    with pytest.raises(UserError):
        prepare_subject(air, None, atlas, PreprocessSettings(lungs="threshold"), stages=stages)
    assert stages.current == "lungs"
    assert set(stages.timings) == {"align", "lungs"}


def test_an_oblique_scan(scan: Scan, atlas: Atlas, prepared: PreparedSubject) -> None:
    """Turned by 10 degrees about the patient's long axis: landmarks turn along to within a voxel of 4 mm."""
    volume, mask = scan(2)
    angle = np.radians(10.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    origin = turn @ np.asarray(volume.frame.origin)
    frame = Frame(volume.frame.shape, volume.frame.spacing, tuple(origin.tolist()), turn)
    turned = prepare_subject(Volume(volume.array, frame), Mask(mask.array, frame), atlas)
    assert turned.volume.frame.is_axis_aligned
    error = np.linalg.norm(turned.landmarks - prepared.landmarks @ turn.T, axis=1)
    assert error.mean() < 4.0


def picture(path: Path) -> NDArray[np.float64]:
    return np.asarray(matplotlib.image.imread(path), dtype=np.float64)[..., :3]


def test_the_picture_shows_mask_atlas_and_landmarks_and_marks_flagged(
    prepared: PreparedSubject, atlas: Atlas, tmp_path: Path
) -> None:
    draw_qc(prepared, atlas, tmp_path / "good.png")
    draw_qc(
        replace(prepared, concerns=(Concern("check", "the top of the lungs is not in the scan"),)),
        atlas,
        tmp_path / "bad.png",
    )
    good, bad = picture(tmp_path / "good.png"), picture(tmp_path / "bad.png")
    assert good.shape == bad.shape

    def count(image: NDArray[np.float64], colour: str) -> int:
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return int((np.abs(image - wanted).max(axis=-1) < 0.15).sum())

    for colour in ("#ffd400", "#00d5ff", "#ff5fa2"):
        assert count(good, colour) > 100
    assert count(good, "#c00000") == 0
    assert count(bad, "#c00000") > 5000  # the frame
    assert (tmp_path / "good.png").stat().st_size < 400_000


def test_a_file_or_folder_that_changed_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"one")
    known = fingerprint(folder)
    assert known["files"] == 1
    assert known["bytes"] == 3
    assert not has_changed(folder, known)
    (folder / "1.dcm").write_bytes(b"one")
    assert not has_changed(folder, known)
    (folder / "1.dcm").write_bytes(b"eno")
    assert has_changed(folder, known)
    assert not has_changed(tmp_path / "gone", known)
