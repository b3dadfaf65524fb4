"""Scans without a study: a cohort table, a folder of scans, one CT in memory; the same vectors as through a study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anatograph import cli
from anatograph.embedding.api import embed
from anatograph.embedding.regions import Regions
from anatograph.embedding.table import read_embeddings
from anatograph.errors import UserError
from anatograph.learning.model.folder import load_model
from anatograph.study.cohort.scan_folders import scans_in
from anatograph.study.store import Study
from fixtures.chest import SeriesWriter, chest_array
from fixtures.small import Small


@pytest.fixture(scope="module")
def folder(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans of the small cohort with their masks, and a file that is not a scan."""
    place = tmp_path_factory.mktemp("folder")
    for name in ("2.nii.gz", "2_lungs.nii.gz", "4.nii.gz", "4_lungs.nii.gz"):
        shutil.copy(small.folder / name, place)
    (place / "broken.nii.gz").write_bytes(b"nothing")
    (place / "notes.txt").write_text("of the radiologist")
    return place


def test_a_folder_of_scans_becomes_a_study_and_vectors(
    small: Small, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["embed", str(folder), str(tmp_path / "emb"), "--model", str(small.model)]
    assert cli.main(line) == 1
    messages = capsys.readouterr().err
    assert "failed: broken at read" in messages
    assert f"the study is {tmp_path / 'emb.study'}; --no-study" in messages
    whole = embed(small.study, model=small.model)
    assert whole.regions is not None
    written = read_embeddings(tmp_path / "emb")
    assert written.subject_ids == ["2", "4"]
    for name, row in (("2", 2), ("4", 4)):
        np.testing.assert_array_equal(written.only([name])[0].astype(np.float32), whole.features[row])
        np.testing.assert_array_equal(Regions(tmp_path / "emb.regions.zarr").of(name), whole.regions[row])
    assert Study.open(tmp_path / "emb.study").subject_ids == ["2", "4"]
    assert pd.read_csv(tmp_path / "emb.cohort.csv")["image"].tolist()[1] == str(folder / "4.nii.gz")
    account = json.loads((tmp_path / "emb.run.json").read_text(encoding="utf-8"))
    assert account["settings"]["study"] == str(tmp_path / "emb.study")


def test_a_cohort_without_a_study_keeps_nothing_but_vectors(small: Small, tmp_path: Path) -> None:
    table = small.table()[:2]
    table.to_csv(tmp_path / "cohort.csv", index=False)
    done = embed(tmp_path / "cohort.csv", tmp_path / "out" / "emb", model=small.model, no_study=True)
    assert done.study is None
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "emb.parquet", "emb.regions.zarr", "emb.run.json",
    ]  # fmt: skip
    whole = embed(small.study, model=small.model)
    np.testing.assert_array_equal(done.features, whole.features[:2])
    np.testing.assert_array_equal(embed(tmp_path / "cohort.csv", model=small.model).features, done.features)


def test_no_scan_of_a_folder_works(small: Small, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"No scan of .* could be used; the first reason: "):
        embed(tmp_path / "scans", tmp_path / "emb", model=small.model)
    with pytest.raises(UserError, match=r"subject_id is for a single CT; .* is a cohort of scans"):
        embed(tmp_path / "scans", tmp_path / "emb", model=small.model, subject_id="x")


def test_one_ct_in_memory(small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    lungs = small.folder / "3_lungs.nii.gz"
    one = embed(small.folder / "3.nii.gz", model=load_model(small.model), lung_mask=lungs)
    assert one.subject.shape == (32,)
    assert one.regions is not None
    assert one.regions.shape == (len(small.atlas), 32)
    np.testing.assert_allclose(one.landmarks, Study.open(small.study).subject("p03").landmarks, atol=1e-9)
    assert one.quality is not None
    assert one.quality.figures["landmarks"] == len(small.atlas)
    assert {str(concern) for concern in one.quality.concerns} <= set(one.notes)
    assert list(tmp_path.iterdir()) == []


def test_what_a_folder_holds(tmp_path: Path) -> None:
    def series(name: str, **tags: str | list[str]) -> None:
        SeriesWriter(chest_array((3, 8, 8)), tags=tags).write(tmp_path / name)

    series("one exam/thin", StudyInstanceUID="1.1")
    series("one exam/thick", StudyInstanceUID="1.1")
    assert scans_in(tmp_path / "one exam") == []  # series of one study: the reader chooses
    series("exported/ct", StudyInstanceUID="1.1")
    series("exported/scout", StudyInstanceUID="1.2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series("exported/segmentation", StudyInstanceUID="1.3", Modality="SEG")
    assert scans_in(tmp_path / "exported") == []  # what is no CT is no scan of its own
    series("patients/A", PatientID="A", StudyInstanceUID="1.1")
    series("patients/B/deep/er", PatientID="B", StudyInstanceUID="1.2")
    assert [row.subject_id for row in scans_in(tmp_path / "patients")] == ["A", "B"]
    (tmp_path / "patients" / "A" / "converted.nii.gz").write_bytes(b"")
    assert scans_in(tmp_path / "patients" / "A") == []  # DICOM files themselves
    for name in ("p 1.nii.gz", "p 1_lungs.nrrd", "q_lungs.nii"):
        (tmp_path / "patients" / name).write_bytes(b"")
    rows = scans_in(tmp_path / "patients")
    assert [row.subject_id for row in rows] == ["A", "B", "p_1", "q_lungs"]
    assert rows[2].lungs == tmp_path / "patients" / "p 1_lungs.nrrd"
    (tmp_path / "patients" / "p_1.mha").write_bytes(b"")
    with pytest.raises(UserError, match=r"p 1.nii.gz and p_1.mha would both be called p_1"):
        scans_in(tmp_path / "patients")
