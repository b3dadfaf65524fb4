"""Embedding a study and single scans: the same vector, honest about what is missing, refusing what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

import anatograph
from anatograph import cli
from anatograph.anatomy.atlas import build_atlas
from anatograph.embedding.api import embed
from anatograph.embedding.previous import set_aside_other
from anatograph.embedding.regions import Regions
from anatograph.embedding.table import read_embeddings, write_embeddings
from anatograph.errors import UserError
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model, save_model
from anatograph.study.store import Study
from fixtures.small import Small


def test_what_lies_on_disk(small: Small, tmp_path: Path) -> None:
    done = embed(small.study, tmp_path / "emb", model=small.model, patch_features=True)
    table = pd.read_parquet(tmp_path / "emb.parquet")
    assert list(table.columns) == ["subject_id", *(f"feature_{k:03d}" for k in range(32))]
    assert table["subject_id"].tolist() == Study.open(small.study).subject_ids == done.subject_ids
    assert table.drop(columns="subject_id").dtypes.unique().tolist() == [np.dtype("float32")]
    array = zarr.open_array(str(tmp_path / "emb.regions.zarr"), mode="r")
    assert array.shape == (12, len(small.atlas), 32)
    assert array.attrs["subject_ids"] == done.subject_ids
    np.testing.assert_allclose(array.attrs["landmarks"], small.atlas.landmarks)
    nodes = array[:]
    present = Study.open(small.study).present()
    assert (np.isnan(nodes).all(axis=2) == ~present).all()
    # The subject's vector is the mean over its regions (eq. 7 without f_g).
    np.testing.assert_allclose(np.nanmean(nodes, axis=1), done.features, atol=1e-5)
    # The regions are what the model says of each subject, before and after the graph network.
    subject = Study.open(small.study).subject("p03")
    expected = load_model(small.model).embed(subject.patches, subject.edges, subject.present)
    np.testing.assert_array_equal(nodes[3], expected.nodes)
    before = zarr.open_array(str(tmp_path / "emb.patches.zarr"), mode="r")
    np.testing.assert_array_equal(before[3], expected.patch_features)
    account = json.loads((tmp_path / "emb.run.json").read_text(encoding="utf-8"))
    assert account["status"] == "done"
    assert account["results"]["subjects"] == 12
    again = embed(small.study, tmp_path / "again.parquet", model=small.model)
    assert (again.features == done.features).all()
    assert not (tmp_path / "again.patches.zarr").exists()


@pytest.mark.parametrize("number", [2, 4])
def test_one_scan_alone_has_the_vector_it_has_in_the_study(small: Small, tmp_path: Path, number: int) -> None:
    study = embed(small.study, model=small.model)
    alone = embed(
        small.folder / f"{number}.nii.gz",
        tmp_path / "one",
        model=small.model,
        lung_mask=small.folder / f"{number}_lungs.nii.gz",
    )
    assert alone.subject_ids == [str(number)]
    np.testing.assert_array_equal(alone.vector, study.features[study.subject_ids.index(f"p{number:02d}")])
    np.testing.assert_array_equal(Regions(tmp_path / "one.regions.zarr").of(str(number)), study.regions[number])


def test_the_embedding_of_another_scan_is_set_aside_and_said(small: Small, tmp_path: Path) -> None:
    first, second = small.folder / "3.nii.gz", small.folder / "4.nii.gz"
    options = {"model": small.model, "lung_mask": small.folder / "3_lungs.nii.gz"}
    embed(first, tmp_path / "one", **options)
    before = (tmp_path / "one.parquet").read_bytes()
    regions = Regions(tmp_path / "one.regions.zarr").of("3")
    done = embed(second, tmp_path / "one", **options)
    assert any("held the embedding of 3" in note and "one.3.parquet" in note for note in done.notes)
    assert read_embeddings(tmp_path / "one").subject_ids == ["4"]
    assert (tmp_path / "one.3.parquet").read_bytes() == before
    np.testing.assert_array_equal(Regions(tmp_path / "one.3.regions.zarr").of("3"), regions)
    embed(first, tmp_path / "one", subject_id="4", **options)  # another scan under the same id
    assert (tmp_path / "one.4.parquet").is_file()
    again = embed(first, tmp_path / "one", subject_id="4", **options)  # the same scan once more
    assert not any("held the embedding" in note for note in again.notes)
    np.testing.assert_array_equal(again.features, read_embeddings(tmp_path / "one").features.astype(np.float32))


def test_one_scan_does_not_replace_a_study(small: Small, tmp_path: Path) -> None:
    embed(small.study, tmp_path / "all", model=small.model)
    before = (tmp_path / "all.parquet").read_bytes()
    with pytest.raises(UserError, match=r"holds embeddings of \d+ subjects; give another OUT"):
        embed(small.folder / "3.nii.gz", tmp_path / "all", model=small.model)
    assert (tmp_path / "all.parquet").read_bytes() == before


def test_the_embeddings_of_another_study_are_set_aside_and_said(tmp_path: Path) -> None:
    def written(name: str, ids: list[str], **settings: str) -> Path:
        about = {"pooling": {"rule": "mean", "parts": ["all"], "learnt_per_part": 1}}
        table = write_embeddings(tmp_path / name, ids, np.eye(len(ids), 2, dtype=np.float32), about)
        (tmp_path / f"{name}.run.json").write_text(json.dumps({"settings": settings}), encoding="utf-8")
        (tmp_path / f"{name}.regions.zarr").mkdir()
        return table

    old, new = tmp_path / "old", tmp_path / "new"
    table = written("e", ["a", "b"], source=str(old), study=str(old))
    assert set_aside_other(table, old, old) is None
    assert set_aside_other(table, tmp_path / "cohort.csv", old) is None  # the cohort that this study was made from
    said = set_aside_other(table, new, new)
    assert said == f"{table} held the embeddings of 2 subjects of {old}; it is now {tmp_path / 'e.previous.parquet'}"
    assert not table.exists()
    assert {path.name for path in tmp_path.glob("e.*")} == {
        "e.previous.parquet", "e.previous.run.json", "e.previous.regions.zarr"
    }  # fmt: skip
    again = written("e", ["a"], source=str(tmp_path / "scan.nii.gz"))
    assert "e.previous-2.parquet" in str(set_aside_other(again, new, new))
    assert set_aside_other(again, new, new) is None  # nothing lies there any more


def test_a_model_of_an_unfinished_run_is_said(small: Small, tmp_path: Path) -> None:
    shutil.copytree(small.model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    config["training"] = {"epochs": 2, "settings": {"epochs": 10}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    heard: list[str] = []
    scan = small.folder / "3.nii.gz"
    done = embed(scan, model=tmp_path / "model", lung_mask=small.folder / "3_lungs.nii.gz", say=heard.append)
    assert "unfinished pretraining, epoch 2 of 10" in heard[0]
    assert heard[0] in done.notes
    assert not load_model(small.model).unfinished


def test_three_lines_from_a_ct_to_a_vector(small: Small) -> None:
    result = anatograph.embed(small.folder / "0.nii.gz", model=small.model, lung_mask=small.folder / "0_lungs.nii.gz")
    assert result.vector.shape == (32,)
    with pytest.raises(UserError, match="12 subjects"):
        _ = anatograph.embed(small.study, model=small.model).vector


def test_one_bad_subject_leaves_the_rest_usable(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(small.study, tmp_path / "study")
    (tmp_path / "study" / "subjects" / "p05" / "patches.npy").write_bytes(b"gone")
    line = ["embed", str(tmp_path / "study"), str(tmp_path / "emb"), "--model", str(small.model)]
    assert cli.main(line) == 1
    assert "p05" in capsys.readouterr().err
    table = pd.read_parquet(tmp_path / "emb.parquet")
    assert "p05" not in set(table["subject_id"])
    regions = Regions(tmp_path / "emb.regions.zarr")
    assert regions.subject_ids == table["subject_id"].tolist()
    assert regions.shape[0] == 11
    whole = embed(small.study, model=small.model)
    np.testing.assert_array_equal(regions.of("p06"), whole.regions[6])
    account = json.loads((tmp_path / "emb.run.json").read_text(encoding="utf-8"))
    assert [failure["subject_id"] for failure in account["failures"]] == ["p05"]


def test_subjects_missing_from_the_study_are_named(small: Small, tmp_path: Path) -> None:
    shutil.copytree(small.study, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "subjects" / "p01")
    (tmp_path / "study" / "failures.csv").write_text("subject_id,stage,reason\np01,read,it is a photograph\n")
    done = embed(tmp_path / "study", tmp_path / "emb", model=small.model)
    assert len(done.subject_ids) == 11
    assert "p01 is not in the study, failed at read: it is a photograph" in done.notes


def test_what_does_not_fit_is_refused(small: Small, tmp_path: Path) -> None:
    other = build_atlas(small.atlas.lungs, patch_size=16, step=40)
    model = Model(ModelConfig(patch_size=16, feature_size=32), other.location_codes)
    save_model(model, tmp_path / "other-atlas", other)
    with pytest.raises(UserError, match="a different atlas"):
        embed(small.study, model=tmp_path / "other-atlas")
    network = load_model(small.model)
    settings = Study.open(small.study).settings.to_dict()
    save_model(network, tmp_path / "linear", small.atlas, preprocessing={**settings, "interpolation": "linear"})
    with pytest.raises(UserError, match="interpolation is bspline there and linear"):
        embed(small.study, model=tmp_path / "linear")
    save_model(network, tmp_path / "rho", small.atlas, preprocessing={**settings, "rho": 50.0})
    with pytest.raises(UserError, match="rho"):
        embed(small.study, tmp_path / "none", model=tmp_path / "rho")
    with pytest.raises(UserError, match="is for a single CT"):
        embed(small.study, model=small.model, subject_id="x")
    with pytest.raises(UserError, match="does not exist"):
        embed(tmp_path / "nothing", model=small.model)
    with pytest.raises(UserError, match="subject-id"):
        embed(small.folder / "0.nii.gz", model=small.model, subject_id="../x")
    assert not list(tmp_path.glob("none*"))


def test_the_graph_changes_the_embedding(small: Small) -> None:
    """The network with random weights already mixes neighbours: without edges the vectors differ."""
    subject = Study.open(small.study).subject("p00")
    network = load_model(small.model)
    with_edges = network.embed(subject.patches, subject.edges, subject.present)
    without = network.embed(subject.patches, np.zeros((0, 2), np.int32), subject.present)
    assert not np.allclose(with_edges.subject, without.subject)
    np.testing.assert_array_equal(with_edges.patch_features, without.patch_features)
