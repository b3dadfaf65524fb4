"""Embedding a study and single scans: the same vector, honest about what is missing, refusing what does not fit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

import anatograph
from anatograph import cli
from anatograph.anatomy.atlas import build_atlas
from anatograph.embedding.api import embed
from anatograph.embedding.partial import PartialEmbeddings
from anatograph.embedding.regions import Regions
from anatograph.embedding.stream import Item, embed_stream
from anatograph.embedding.table import read_embeddings
from anatograph.embedding.worker import Block, embed_block
from anatograph.errors import UserError
from anatograph.execution.claims import claim
from anatograph.execution.scheduling import Workplace, run_tasks
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
    assert result.regions.shape == (1, len(small.atlas), 32)
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


def test_people_whom_the_study_lacks_are_named(small: Small, tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match="another atlas"):
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


def test_a_graph_tells_in_the_embedding(small: Small) -> None:
    """The untrained network already mixes neighbours: without edges the vectors differ."""
    subject = Study.open(small.study).subject("p00")
    network = load_model(small.model)
    with_edges = network.embed(subject.patches, subject.edges, subject.present)
    without = network.embed(subject.patches, np.zeros((0, 2), np.int32), subject.present)
    assert not np.allclose(with_edges.subject, without.subject)
    np.testing.assert_array_equal(with_edges.patch_features, without.patch_features)


class Interrupted:
    """Interrupts the network at its n-th batch, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.at, self.batches = at, 0
        original = Model.patch_features

        def counted(model: Model, *inputs: torch.Tensor) -> torch.Tensor:
            self.batches += 1
            if self.batches == self.at:
                raise KeyboardInterrupt
            return original(model, *inputs)

        monkeypatch.setattr(Model, "patch_features", counted)


def test_interrupted_before_anybody_is_done_it_leaves_nothing(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Interrupted(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        embed(small.study, tmp_path / "emb", model=small.model)
    assert [path.name for path in tmp_path.iterdir()] == ["emb.run.json"]
    assert json.loads((tmp_path / "emb.run.json").read_text(encoding="utf-8"))["status"] == "interrupted"


def test_interrupted_in_the_middle_it_goes_on_from_there_with_the_same_bits(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small.study, tmp_path / "study")
    shutil.copytree(small.model, tmp_path / "model")
    whole = embed(tmp_path / "study", tmp_path / "whole", model=tmp_path / "model", patch_features=True)
    patches = {name: int(Study.open(small.study).subject(name).present.sum()) for name in whole.subject_ids}
    stop = Interrupted(monkeypatch, sum(patches.values()) // 64 // 2)
    out = tmp_path / "emb"
    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path / "study", out, model=tmp_path / "model", patch_features=True)
    assert not out.with_suffix(".parquet").exists()
    done = {path.stem for path in (tmp_path / ".emb.embed" / "done").glob("*.npy")}
    assert 0 < len(done) < 12
    # A subject that is made anew meanwhile is embedded anew, and one that came later is embedded too.
    first = tmp_path / "study" / "subjects" / "p00"
    (first / "subject.json").touch()
    shutil.copytree(first, tmp_path / "study" / "subjects" / "a-new-one")
    stop.batches, stop.at = 0, -1
    again = embed(tmp_path / "study", out, model=tmp_path / "model", patch_features=True)
    open_still = sum(count for name, count in patches.items() if name not in done or name == "p00") + patches["p00"]
    assert stop.batches <= open_still // 64 + 1  # those that were done were not done again
    assert again.subject_ids == ["a-new-one", *whole.subject_ids]
    np.testing.assert_array_equal(again.features[1:], whole.features)
    for kind in ("regions", "patches"):
        there, all_at_once = (Regions(tmp_path / f"{name}.{kind}.zarr") for name in ("emb", "whole"))
        for name in whole.subject_ids:
            np.testing.assert_array_equal(there.of(name), all_at_once.of(name))
        np.testing.assert_array_equal(there.of("a-new-one"), there.of("p00"))
    assert not list(tmp_path.glob(".emb*"))


def test_a_finished_run_again_embeds_only_what_is_new(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small.study, tmp_path / "study")
    names = [f"p{number:02d}" for number in range(12)]
    late = tmp_path / "study" / "subjects" / "p03"
    late.rename(tmp_path / "p03")
    first = embed(tmp_path / "study", tmp_path / "emb", model=small.model)
    assert first.subject_ids == [name for name in names if name != "p03"]
    table = (tmp_path / "emb.parquet").read_bytes()
    count = Interrupted(monkeypatch, -1)
    again = embed(tmp_path / "study", tmp_path / "emb", model=small.model)
    assert count.batches == 0
    assert again.account is not None
    assert again.account.results["embedded_before"] == 11
    assert (tmp_path / "emb.parquet").read_bytes() == table
    assert again.subject_ids == first.subject_ids

    (tmp_path / "p03").rename(late)  # one more, one made anew, one whose row is lost
    (tmp_path / "study" / "subjects" / "p05" / "subject.json").touch()
    (tmp_path / "emb.regions.zarr" / "c" / "0" / "0" / "0").unlink()
    patches = {name: int(Study.open(small.study).subject(name).present.sum()) for name in ("p00", "p03", "p05")}
    embed(tmp_path / "study", tmp_path / "emb", model=small.model)
    assert count.batches == -(-sum(patches.values()) // 64)
    count.batches = 0
    whole = embed(small.study, model=small.model)
    written, regions = read_embeddings(tmp_path / "emb.parquet"), Regions(tmp_path / "emb.regions.zarr")
    assert written.subject_ids == names
    np.testing.assert_array_equal(written.features.astype(np.float32), whole.features)
    assert whole.regions is not None
    for name, expected in zip(names, whole.regions, strict=True):
        np.testing.assert_array_equal(regions.of(name), expected)

    # Another model, or a store that was not there, and all is embedded.
    for model, options in ((small.model, {"patch_features": True}), (_other(small.model, tmp_path), {})):
        count.batches = 0
        embed(tmp_path / "study", tmp_path / "emb", model=model, **options)
        assert count.batches > sum(patches.values()) // 64 + 1
    assert "study" not in (tmp_path / "emb.regions.zarr" / "zarr.json").read_text(encoding="utf-8")


def _other(model: Path, place: Path) -> Path:
    network = load_model(model)
    with torch.no_grad():
        next(network.parameters()).mul_(1.5)
    save_model(network, place / "other")
    return place / "other"


def test_workers_give_the_same_bits_and_two_runs_share_the_work(small: Small, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "anatograph", "embed", str(small.study), str(tmp_path / "emb")]
    runs = [
        subprocess.Popen(
            [*line, "--model", str(small.model), "--workers", "2"], stderr=subprocess.PIPE, encoding="utf-8"
        )
        for _ in range(2)
    ]
    for run in runs:
        told = run.communicate(timeout=900)[1]
        assert run.returncode == 0, told
        assert "embed: 12 of 12" in told or "Another run is working on" in told  # who comes last finds all done
    alone = embed(small.study, model=small.model)
    written = read_embeddings(tmp_path / "emb.parquet")
    assert written.subject_ids == alone.subject_ids
    np.testing.assert_array_equal(written.features.astype(np.float32), alone.features)
    regions = Regions(tmp_path / "emb.regions.zarr")
    assert regions.shape == alone.regions.shape
    np.testing.assert_array_equal(regions.of("p07"), alone.regions[7])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emb.parquet", "emb.regions.zarr", "emb.run.json"]


def test_another_model_starts_anew_and_is_refused_while_the_first_works(small: Small, tmp_path: Path) -> None:
    kinds, shape, ids = ["regions"], (len(small.atlas), 32), ["p00", "p01"]
    work = PartialEmbeddings.start(tmp_path / "emb.parquet", {"model": "a"}, ids, shape, kinds, len)
    held = claim(work.path / "claims", "p00.claim")
    assert held is not None
    with pytest.raises(UserError, match="Another run is writing"):
        PartialEmbeddings.start(tmp_path / "emb.parquet", {"model": "b"}, ids, shape, kinds, len)
    held.release()
    (work.path / "done" / "p00.npy").write_bytes(b"of a")
    work = PartialEmbeddings.start(tmp_path / "emb.parquet", {"model": "b"}, ids, shape, kinds, len)
    assert not list((work.path / "done").iterdir())


def loads_of_the_model(blocks: tuple[Block, ...]) -> int:
    """How often a worker reads the weights for its blocks."""
    seen: list[str] = []
    sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event == "open" else None)
    for block in blocks:
        assert [result.kind for result in embed_block(block)] == ["done"]
    return sum(name.endswith("model.safetensors") for name in seen)


def test_a_worker_loads_the_model_once(small: Small, tmp_path: Path) -> None:
    table = tmp_path / "emb.parquet"
    PartialEmbeddings.start(table, {}, ["p00", "p01", "p02"], (len(small.atlas), 32), ["regions"], len)
    blocks = tuple(Block(small.study, small.model, table, (f"p0{k}",), 64, "cpu", 0.0) for k in range(3))
    ((_, loads),) = run_tasks(loads_of_the_model, [blocks], Workplace(2))
    assert loads == 1


def test_batches_across_subjects_give_the_bits_of_each_alone(small: Small) -> None:
    network = load_model(small.model)
    study = Study.open(small.study)
    items = []
    for name in study.subject_ids[:5]:
        subject = study.subject(name)
        present = subject.present.copy()
        present[: len(items) * 3] = False  # so that subjects end anywhere in a batch
        items.append(Item(name, subject.load_patches(), subject.edges, present))
    together = dict(embed_stream(network, items, batch_size=48))
    for item in items:
        alone = network.embed(item.patches, item.edges, item.present, batch_size=48)
        np.testing.assert_array_equal(together[item.key].subject, alone.subject)
        np.testing.assert_array_equal(together[item.key].nodes, alone.nodes)
        other = network.embed(item.patches, item.edges, item.present, batch_size=7)
        np.testing.assert_allclose(other.subject, alone.subject, atol=1e-6)


def test_requests_for_workers_that_are_wrong(small: Small, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="for a study"):
        embed(small.folder / "0.nii.gz", tmp_path / "x", model=small.model, workers=2)
    with pytest.raises(UserError, match="for a study, with OUT and a model folder"):
        embed(small.study, model=small.model, workers=2)
    with pytest.raises(UserError, match="cannot be reached"):
        embed(small.study, tmp_path / "x", model=small.model, scheduler="tcp://127.0.0.1:9")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said(small: Small) -> None:
    with pytest.raises(UserError, match="no usable GPU"):
        embed(small.study, model=small.model, device="cuda")
