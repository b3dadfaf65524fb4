"""Deviation, similar and change on disk; and one scan stored in every way, which gets one map."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

import anatograph
from anatograph import cli
from anatograph.anatomy.atlas import default_atlas
from anatograph.anatomy.places import in_lung, places, strongest
from anatograph.embedding.api import embed
from anatograph.errors import UserError
from anatograph.study.preprocess import preprocess
from fixtures.small import Small

SECRETS = ("Doe^Jane", "19570302", "1.2.826.0.1.3680043.2.1125.7", "PID-4711")


@dataclass(frozen=True)
class Extended:
    """The small cohort, and further scans of two of its subjects."""

    study: Path
    embeddings: Path
    cohort: Path


@pytest.fixture(scope="module")
def extended(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Extended:
    """p03 again with a dense left base (p03b), and p09 without a label as LPS, RAS, LAS and DICOM."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(small.study, folder / "study")
    table = small.table()
    table["person"] = table["subject_id"]
    rows = []
    scan, mask = of_person(small, 3)
    array, labels = sitk.GetArrayFromImage(scan), sitk.GetArrayFromImage(mask)
    low = np.zeros(labels.shape, dtype=bool)
    low[:14] = True
    array[low & (labels == 2)] += 350
    sick = sitk.GetImageFromArray(array)
    sick.CopyInformation(scan)
    sitk.WriteImage(sick, str(folder / "3b.nii.gz"))
    lungs = str(small.folder / "3_lungs.nii.gz")
    rows.append({"subject_id": "p03b", "image": str(folder / "3b.nii.gz"), "lungs": lungs, "person": "p03"})
    scan, mask = of_person(small, 9)
    for code in ("LPS", "RAS", "LAS"):
        sitk.WriteImage(sitk.DICOMOrient(scan, code), str(folder / f"{code}.nii.gz"))
    write_dicom(scan, folder / "dicom")
    lungs = str(folder / "9_lungs.nii.gz")
    sitk.WriteImage(mask, lungs)
    for code in ("LPS", "RAS", "LAS", "dicom"):
        image = folder / ("dicom" if code == "dicom" else f"{code}.nii.gz")
        rows.append({"subject_id": f"v{code}", "image": str(image), "lungs": lungs, "person": "p09"})
    pd.concat([table, pd.DataFrame(rows)]).to_csv(folder / "cohort.csv", index=False)
    account = preprocess(folder / "cohort.csv", folder / "study", small.atlas, "given", progress=False)
    assert not account.failures
    embed(folder / "study", folder / "emb", model=small.model)
    return Extended(folder / "study", folder / "emb.parquet", folder / "cohort.csv")


def of_person(small: Small, number: int) -> list[sitk.Image]:
    """A scan and its mask, turned to LPS."""
    files = (small.folder / f"{number}{end}" for end in (".nii.gz", "_lungs.nii.gz"))
    return [sitk.DICOMOrient(sitk.ReadImage(str(file)), "LPS") for file in files]


def write_dicom(image: sitk.Image, folder: Path) -> None:
    """A series with a name, a birth date and an identifier in it."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    name, date, uid, patient = SECRETS
    for number in range(image.GetSize()[2]):
        piece = image[:, :, number]
        place = image.TransformIndexToPhysicalPoint((0, 0, number))
        for tag, value in {
            "0008|0060": "CT", "0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0008|0018": f"{uid}.{number + 1}",
            "0010|0010": name, "0010|0020": patient, "0010|0030": date, "0008|0020": date,
            "0020|000d": uid, "0020|000e": f"{uid}.0", "0020|0013": str(number + 1),
            "0020|0032": "\\".join(f"{value:.6f}" for value in place), "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024", "0028|1053": "1", "0018|0050": str(image.GetSpacing()[2]),
        }.items():  # fmt: skip
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number:03d}.dcm"))
        writer.Execute(piece)


def test_a_scan_stored_in_every_way_gets_one_map(extended: Extended, tmp_path: Path) -> None:
    names = ["vLPS", "vRAS", "vLAS", "vdicom"]
    done = anatograph.explain(extended.study, extended.embeddings, extended.cohort, "density", names, tmp_path)
    table = pd.read_csv(extended.cohort, dtype=str).set_index("subject_id")
    first = None
    for path, name in zip(done.maps, names, strict=True):
        heat = sitk.ReadImage(str(path))
        if name != "vdicom":
            scan = sitk.ReadImage(table.loc[name, "image"])
            assert heat.GetSize() == scan.GetSize()
            np.testing.assert_allclose(heat.GetDirection(), scan.GetDirection(), atol=1e-6)
        turned = sitk.DICOMOrient(heat, "LPS")
        values = sitk.GetArrayFromImage(turned)
        first = first or (values, turned)
        np.testing.assert_allclose(turned.GetOrigin(), first[1].GetOrigin(), atol=1e-3)
        assert ((values > 0) == (first[0] > 0)).all()
        # Landmarks within 0.01 mm, features within 1e-3: a voxel at the edge of a patch may get another.
        assert np.quantile(np.abs(values - first[0]), 0.999) < 5e-3
        assert np.median(np.abs(values - first[0])[values > 0]) < 1e-3
    # Nothing of the patient goes out with the maps, nor the places of files.
    anatograph.deviation(extended.study, extended.embeddings, "vdicom", tmp_path)
    exported = [p for p in tmp_path.iterdir() if "run.json" not in p.name]
    assert len(exported) == 4 * 4 + 4
    for path in exported:
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
        for secret in (*SECRETS, str(extended.study.parent), "dcm"):
            assert secret.encode() not in content, path.name
        if path.suffix == ".png":
            assert b"tIME" not in content
            assert b"Software\0anatograph" in content


def test_deviation(extended: Extended, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The left base of p03b is dense as nobody else's: without a label it is the most unusual of its regions."""
    files = [str(extended.study), str(extended.embeddings), "--cohort", str(extended.cohort)]
    line = ["deviation", *files, "--subject", "p03b", "--out", str(tmp_path / "out"), "--group", "person"]
    assert cli.main(line) == 0
    printed = capsys.readouterr().out
    assert "of the regions are unusual" in printed
    about = json.loads((tmp_path / "out" / "p03b_deviation.json").read_text(encoding="utf-8"))
    assert (about["kind"], about["neutral"], about["low"], about["colours"]) == ("deviation", 0, None, "sequential")
    assert about["strongest"][0]["place"].startswith("left lower")
    assert about["score"]["reference_subjects"] == 15
    table = pd.read_csv(tmp_path / "out" / "p03b_deviation.regions.csv")
    base = table["place"].str.startswith("left lower")
    assert table.loc[base, "deviation"].median() > table.loc[~base, "deviation"].median() + 1
    heat = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "p03b_deviation.nii.gz")))
    assert heat.min() == 0
    assert heat.max() == pytest.approx(table["value"].max(), abs=1e-3)


def test_a_subject_is_never_in_its_own_reference(extended: Extended, tmp_path: Path) -> None:
    """With p09's other scans in the reference it is usual; without them (its group) it is less so."""
    alone = anatograph.deviation(extended.study, extended.embeddings, "p09", tmp_path)
    grouped = anatograph.deviation(
        extended.study, extended.embeddings, "p09", tmp_path, extended.cohort, group="person"
    )
    assert np.nanmean(grouped.found[0].values) > np.nanmean(alone.found[0].values)


def test_reference_that_cannot_be(extended: Extended, tmp_path: Path) -> None:
    study, embeddings, cohort = extended.study, extended.embeddings, extended.cohort
    for arguments, words in (
        ({"reference": "sick=well"}, "Give the cohort table too"),
        ({"cohort": cohort, "reference": "sick"}, "must be COLUMN=VALUE"),
        ({"cohort": cohort, "reference": "ill=yes"}, "no column 'ill'"),
        ({"cohort": cohort, "reference": "sick=maybe"}, "sick = maybe; it has: sick, well"),
        ({"cohort": cohort, "reference": "sick=sick"}, "subjects with sick=sick are too few"),
    ):
        with pytest.raises(UserError, match=words):
            anatograph.deviation(study, embeddings, "p00", tmp_path / "none", **arguments)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no subject 'nobody'"):
        anatograph.deviation(study, embeddings, "nobody", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_change(extended: Extended, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The left base of p03 became dense: that is where it moved, and where it is more unusual than before."""
    places_ = [str(extended.study), str(extended.embeddings)]
    line = ["change", *places_, "--before", "p03", "--after", "p03b", "--out", str(tmp_path), "--cohort",
            str(extended.cohort), "--group", "person"]  # fmt: skip
    assert cli.main(line) == 0
    assert "left lower" in capsys.readouterr().out.splitlines()[0]
    table = pd.read_csv(tmp_path / "p03_p03b_change.regions.csv")
    left_base = table["place"].str.startswith("left lower")
    right = table["place"].str.startswith("right")
    assert table.loc[left_base, "shift"].max() > 3 * table.loc[right, "shift"].max()
    assert table.loc[left_base, "deviation_change"].max() > 1
    for kind in ("change", "shift"):
        heat = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"p03_p03b_{kind}.nii.gz")))
        assert np.abs(heat).max() > 0.5
        assert json.loads((tmp_path / f"p03_p03b_{kind}.json").read_text(encoding="utf-8"))["kind"] == "change"
    same = anatograph.change(extended.study, extended.embeddings, "vLPS", "vRAS", tmp_path)
    assert np.nanmax(same.shift) < 0.1
    assert np.nanmax(np.abs(same.after - same.before)) < 0.1
    with pytest.raises(UserError, match="two different patients"):
        anatograph.change(extended.study, extended.embeddings, "p03", "p09", tmp_path, extended.cohort, group="person")
    few = [f"p{k:02d}" for k in (0, 1, 2, 4, 5, 6, 7, 8, 10, 11)]  # said before the reference, which is too small
    with pytest.raises(UserError, match="two different patients"):
        anatograph.change(
            extended.study, extended.embeddings, "p03", "p09", tmp_path, extended.cohort, group="person", exclude=few
        )
    with pytest.raises(UserError, match="too few to say what is usual"):
        anatograph.change(extended.study, extended.embeddings, "vLPS", "vRAS", tmp_path, exclude=few)
    assert any("was not checked" in note for note in same.account.notes)
    with pytest.raises(UserError, match="the same scan"):
        anatograph.change(extended.study, extended.embeddings, "p03", "p03", tmp_path)


def test_similar(extended: Extended, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places_ = [str(extended.embeddings), "--subject", "vLPS", "--out", str(tmp_path / "out")]
    assert cli.main(["similar", *places_, "-k", "3", "--study", str(extended.study), "--landmark", "2"]) == 0
    assert "1." in capsys.readouterr().out
    nearest = pd.read_csv(tmp_path / "out" / "vLPS_similar.csv")
    assert set(nearest["subject_id"].iloc[:3]) <= {"vRAS", "vLAS", "vdicom", "p09"}
    regions = pd.read_csv(tmp_path / "out" / "vLPS_similar_regions.csv")
    assert regions["landmark"].tolist() == [2, 2, 2]
    assert set(regions["subject_id"]) <= {"vRAS", "vLAS", "vdicom", "p09"}
    about = json.loads((tmp_path / "out" / "vLPS_similar.json").read_text(encoding="utf-8"))
    for key in ("picture", "regions_picture"):
        assert (tmp_path / "out" / about[key]).stat().st_size > 10_000
    # Without the person's own other scans; and without a study there are neither regions nor pictures.
    done = anatograph.similar(extended.embeddings, "vLPS", tmp_path / "two", cohort=extended.cohort, group="person")
    assert not set(done.subjects["subject_id"]) & {"vRAS", "vLAS", "vdicom", "p09"}
    assert done.regions is None
    assert (np.diff(done.subjects["distance"]) >= 0).all()
    for arguments, words in (
        ({"subject": "nobody"}, "no subject 'nobody'"),
        ({"subject": "p00", "k": 0}, "at least 1"),
        ({"subject": "p00", "landmarks": [3]}, "needs --study"),
        ({"subject": "p00", "landmarks": [9999], "study": extended.study}, "no landmark 9999"),
    ):
        with pytest.raises(UserError, match=words):
            anatograph.similar(extended.embeddings, out=tmp_path / "three", **arguments)  # type: ignore[arg-type]


def test_scans_that_the_reader_excludes_are_similar_to_nothing(extended: Extended, tmp_path: Path) -> None:
    review = extended.study / "review.csv"
    review.write_text("subject_id,verdict,comment\nvRAS,exclude,wrong patient\nvdicom,exclude,\np00,exclude,\n")
    try:
        found = anatograph.similar(extended.embeddings, "vLPS", tmp_path, k=50, study=extended.study, landmarks=[2])
        excluded = anatograph.similar(extended.embeddings, "p00", tmp_path / "asked", k=1)
    finally:
        review.unlink()
    assert found.regions is not None
    for table in (found.subjects, found.regions):
        assert set(table["subject_id"]).isdisjoint({"vRAS", "vdicom", "p00"})
        assert "vLAS" in set(table["subject_id"])
    assert any("3 subjects" in note and "left out" in note for note in found.account.notes)
    assert len(excluded.subjects) == 1  # an excluded scan may itself be asked about


def test_places_in_words() -> None:
    """L grows to the patient's left, P backwards, S upwards."""
    atlas = default_atlas()
    words = np.array(places(atlas))
    marks = atlas.landmarks
    signs = {
        "right": (0, -1),
        "left": (0, 1),
        "posterior": (1, 1),
        "anterior": (1, -1),
        "upper": (2, 1),
        "lower": (2, -1),
    }
    for word, (axis, sign) in signs.items():
        has = np.array([word in text for text in words])
        assert sign * (marks[has, axis].mean() - marks[~has, axis].mean()) > 20, word
    assert len(set(words)) == 12
    middle = np.median(marks[:, 0])
    far = np.abs(marks[:, 0] - middle) > 40
    assert [w.split()[0] for w in words[far]] == ["left" if x > middle else "right" for x in marks[far, 0]]
    height = np.arange(len(atlas), dtype=float)
    chosen = strongest(height, atlas, 4)
    assert in_lung(atlas)[list(chosen)].all()
    assert list(height[list(chosen)]) == sorted(height[list(chosen)], reverse=True)
    apart = np.linalg.norm(marks[list(chosen)][:, None] - marks[list(chosen)][None], axis=-1)
    assert apart[np.triu_indices(4, 1)].min() >= 1.5 * atlas.step


def test_change_against_repeat_scans(extended: Extended, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four pairs of one image and one of two patients: hardly any error, so p03's left base is beyond it."""
    table = pd.read_csv(extended.cohort, dtype=str)
    day = dict.fromkeys(("p09", "vLPS", "vRAS", "vLAS", "vdicom"), "p09") | {"p00": "x", "p01": "x"}
    table.assign(day=table["subject_id"].map(day)).to_csv(tmp_path / "cohort.csv", index=False)
    places_ = [str(extended.study), str(extended.embeddings), "--cohort", str(tmp_path / "cohort.csv")]
    line = ["change", *places_, "--before", "p03", "--after", "p03b", "--out", str(tmp_path / "out")]
    assert cli.main([*line, "--repeat-scans", "day"]) == 0
    said = capsys.readouterr()
    assert "beyond repeat scans" in said.out
    assert "5 pairs of repeat scans are few" in said.err
    error = pd.read_csv(tmp_path / "out" / "test_retest.csv")
    assert (error["pairs"] == 5).all()
    found = pd.read_csv(tmp_path / "out" / "p03_p03b_change.regions.csv")
    np.testing.assert_allclose(
        found["smallest_detectable_change"].to_numpy(), error["smallest_detectable_change"].to_numpy(), rtol=1e-3
    )
    left_base = found["place"].str.startswith("left lower")
    assert found.loc[left_base, "beyond_repeat"].max() == 1
    score = json.loads((tmp_path / "out" / "p03_p03b_change.json").read_text(encoding="utf-8"))["score"]
    assert score["repeat_pairs"] == 5
    assert score["volume_before_ml"] == score["volume_after_ml"]
    assert "shift_corrected" in found
