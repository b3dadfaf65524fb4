"""Runs of `embed`: interrupted, continued, shared between workers and processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from anatograph.embedding.api import embed
from anatograph.embedding.partial import PartialEmbeddings
from anatograph.embedding.regions import Regions
from anatograph.embedding.sources import item_of
from anatograph.embedding.stream import embed_stream
from anatograph.embedding.table import read_embeddings
from anatograph.embedding.worker import Block, embed_block
from anatograph.errors import UserError
from anatograph.execution.claims import claim
from anatograph.execution.scheduling import Workplace, run_tasks
from anatograph.learning.model.embedding_model import Model
from anatograph.learning.model.folder import load_model, save_model
from anatograph.study.cohort.origin import record_table
from anatograph.study.store import Study
from fixtures.small import Small


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


def test_interrupted_before_any_subject_is_done_it_leaves_nothing(
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
    (tmp_path / "more.csv").write_text("subject_id,image\na-new-one,scan.nii.gz\n", encoding="utf-8")
    record_table(Study.open(tmp_path / "study"), tmp_path / "more.csv")
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
        messages = run.communicate(timeout=900)[1]
        assert run.returncode == 0, messages
        assert "embed: 12 of 12" in messages or "Another run is working on" in messages  # who comes last finds all done
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
        items.append(item_of(subject, network.config)._replace(present=present))
    together = dict(embed_stream(network, items, batch_size=48))
    for item in items:
        alone = network.embed(*item[1:], batch_size=48)
        np.testing.assert_array_equal(together[item.key].subject, alone.subject)
        np.testing.assert_array_equal(together[item.key].nodes, alone.nodes)
        other = network.embed(*item[1:], batch_size=7)
        np.testing.assert_allclose(other.subject, alone.subject, atol=1e-6)


def test_requests_for_workers_that_are_wrong(small: Small, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="for a study"):
        embed(small.folder / "0.nii.gz", tmp_path / "x", model=small.model, workers=2)
    with pytest.raises(UserError, match="for a study or a cohort, with OUT and a model folder"):
        embed(small.study, model=small.model, workers=2)
    with pytest.raises(UserError, match="cannot be reached"):
        embed(small.study, tmp_path / "x", model=small.model, scheduler="tcp://127.0.0.1:9")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said(small: Small) -> None:
    with pytest.raises(UserError, match="no usable GPU"):
        embed(small.study, model=small.model, device="cuda")
