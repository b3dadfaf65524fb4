"""The training engine end to end, and the rules it keeps."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_study import SmallStudy, begun, small

from anatograph.errors import UserError
from anatograph.learning.api import train
from anatograph.learning.data.cohort import read_cohort, read_groups
from anatograph.learning.model.folder import load_model
from anatograph.learning.model.whitening import whitening
from anatograph.learning.monitoring.diagnostics import collapse, effective_rank, uniformity
from anatograph.learning.monitoring.metrics import COLUMNS, MetricsFile, read_metrics
from anatograph.learning.monitoring.online_probe import probe_labels, probe_score
from anatograph.learning.training.bank import Bank, build_bank
from anatograph.learning.training.graph_stage import graph_update, region_nodes
from anatograph.learning.training.schedule import Schedule, learning_rate
from anatograph.learning.training.settings import PretrainSettings
from anatograph.learning.training.state import TrainState


@pytest.mark.parametrize("graph", ["true", "false"])
def test_the_exported_model_whitens_the_nodes_of_its_cohort(tmp_path: Path, graph: str) -> None:
    """The matrix is that of the nodes of all subjects' stored patches, without augmentation."""
    study, run = SmallStudy(absent=0.2), tmp_path / "run"
    settings = small("model.whiten=0.5", f"model.graph={graph}", "precision=fp32", "bank_draws=1")
    train(study, run, settings, progress=False)
    model = load_model(run / "model")
    assert model.whitening is not None
    cohort = read_cohort(study)
    subjects = np.arange(len(cohort.ids))
    bank = build_bank(model, cohort, subjects, 1, None, ())
    nodes = region_nodes(model, bank.gathered[:, 0].float(), bank.present).numpy()
    np.testing.assert_allclose(model.whitening.numpy(), whitening(nodes, 0.5), rtol=1e-3, atol=1e-3)
    assert not np.allclose(model.whitening.numpy(), np.eye(16), atol=0.1)


def test_a_study_becomes_a_run_with_a_model(tmp_path: Path) -> None:
    study, run = SmallStudy(absent=0.2), tmp_path / "run"
    account = train(study, run, small(), progress=False)
    assert account.results["updates"] == 7
    rows = read_metrics(run / "metrics.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [row["level"] for row in rows] == ["patch", "patch", "graph", "graph"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert rows[0]["effective_rank"]
    assert list((run / "tensorboard").glob("events*"))
    account_file = json.loads((run / "pretrain.run.json").read_text(encoding="utf-8"))
    assert account_file["status"] == "done"
    assert account_file["settings"]["patch_steps"] == 4
    model = load_model(run / "model")
    assert model.landmarks == len(study.atlas)
    inside = study.read_inside(study.subject_ids[:1] * len(study.patches[0]), range(len(study.patches[0])))
    embedding = model.embed(study.patches[0], study.edges, study.present[0], inside, -860.0)
    assert np.isfinite(embedding.subject).all()
    assert model.atlas is not None
    assert model.atlas.hash == study.atlas.hash
    again = train(study, run, None, resume=True, progress=False)
    assert "finished" in again.notes[0]


def test_fewer_subjects_than_a_batch_or_a_queue(tmp_path: Path) -> None:
    train(SmallStudy(2), tmp_path / "two", small("patch_batch=64"), progress=False)
    rows = read_metrics(tmp_path / "two" / "metrics.csv")
    assert float(rows[-1]["negatives"]) >= 1
    with pytest.raises(UserError, match="needs at least 2"):
        train(SmallStudy(1), tmp_path / "one", small(), progress=False)


def test_the_number_of_loader_workers_changes_no_bit_of_a_run(tmp_path: Path) -> None:
    study = SmallStudy(6)
    for workers in (0, 2):
        train(study, tmp_path / str(workers), small(f"workers={workers}"), progress=False)
    one, two = (read_metrics(tmp_path / str(w) / "metrics.csv") for w in (0, 2))
    assert [row["loss"] for row in one] == [row["loss"] for row in two]
    files = [(tmp_path / str(w) / "model" / "model.safetensors").read_bytes() for w in (0, 2)]
    assert files[0] == files[1]


def test_one_cosine_for_each_level_over_the_whole_run() -> None:
    """The published code's graph level runs through five cosines; here each rate rises once and falls once."""
    schedule = Schedule(epochs=30, patch_updates=7, graph_updates=20)
    rates: dict[str, list[float]] = {"patch": [], "graph": []}
    for update in range(schedule.total):
        place = schedule.place(update)
        rates[place.level].append(learning_rate(place.update, schedule.of_level(place.level), 0.03, 0.0))
    for level, updates in (("patch", 210), ("graph", 600)):
        seen = np.array(rates[level])
        assert len(seen) == updates
        np.testing.assert_allclose(seen, 0.03 * 0.5 * (1 + np.cos(np.pi * np.arange(updates) / updates)))
        assert (np.diff(seen) < 0).all()
    warm = [learning_rate(u, 100, 1.0, 0.1) for u in range(100)]
    np.testing.assert_allclose(warm[:10], np.arange(1, 11) / 10)
    assert max(warm) == warm[9] == warm[10]
    assert warm[-1] < 0.01
    levels = "".join(schedule.place(u).level[0] for u in range(54))
    assert levels == ("p" * 7 + "g" * 20) * 2


def test_many_updates_that_are_not_finite_stop_the_run(tmp_path: Path) -> None:
    study = SmallStudy(6)
    wild = replace(small("patch_steps=60", "warmup=0"), learning_rate=1e30, gradient_clip=0.0)
    with pytest.raises(UserError, match=r"diverges: 11 of the last \d+ updates"):
        train(study, tmp_path / "wild", wild, progress=False)
    assert json.loads((tmp_path / "wild" / "pretrain.run.json").read_text(encoding="utf-8"))["status"] == "failed"


def test_other_ways_of_training_run(tmp_path: Path) -> None:
    ways: tuple[tuple[str, ...], ...] = (
        ("key_norm=shuffle", "bank_views=0", "in_batch=no", "landmarks_per_batch=1", "optimiser=adam"),
        ("symmetric=yes", "optimiser=adamw", "model.graph=no", "model.norm=group"),
    )
    for number, way in enumerate(ways):
        train(SmallStudy(4), tmp_path / str(number), small(*way), progress=False)
        assert (tmp_path / str(number) / "model" / "model.safetensors").is_file()


def test_groups_come_from_a_column_of_the_cohort_table(tmp_path: Path) -> None:
    table = tmp_path / "cohort.csv"
    table.write_text("subject_id,image,person\na,a.nii,p1\nb,b.nii,p1\nc,c.nii,\nd,d.nii,p2\n")
    assert read_groups(table, "person", ["a", "b", "c"]) == {"a": "p1", "b": "p1"}
    with pytest.raises(UserError, match="did you mean 'person'"):
        read_groups(table, "persn", ["a"])
    with pytest.raises(UserError, match="no value for any subject"):
        read_groups(table, "person", ["c"])


def test_only_subjects_of_one_scanner_are_contrasted_where_a_column_says_so(tmp_path: Path) -> None:
    study = SmallStudy(6)
    sites = dict(zip(study.subject_ids, "ABABAB", strict=True))
    cohort = read_cohort(study, {"s000": "p", "s001": "p", "s002": "p"}, strata=sites)
    assert cohort.groups.tolist() == [0, 1, 0, 2, 3, 4], "the scans of p at A are one owner, that at B another"
    assert cohort.strata is not None
    assert cohort.strata[cohort.groups].tolist() == [0, 1, 0, 1, 0, 1]
    table = tmp_path / "cohort.csv"

    def negatives(run: str, column: str, *more: str) -> tuple[list[float], bytes, list[str]]:
        lines = [f"{name},{name}.nii,{site},x,{name}" for name, site in sites.items()]
        table.write_text("\n".join(["subject_id,image,site,same,own", *lines, ""]))
        within = (f"negatives_within={column}",) if column else ()
        settings = small("log_every=1", *within, f"group_table={table}", *more)
        account = train(study, tmp_path / run, settings, progress=False)
        found = [float(row["negatives"]) for row in read_metrics(tmp_path / run / "metrics.csv")]
        return found, (tmp_path / run / "model" / "model.safetensors").read_bytes(), account.notes

    everyone, weights, _ = negatives("all", "")
    same, same_weights, _ = negatives("same", "same")
    assert (same, same_weights) == (everyone, weights), "one scanner for all is no restriction"
    within, other_weights, notes = negatives("site", "site")
    assert other_weights != weights
    assert all(few < many for few, many in zip(within, everyone, strict=True))
    assert "Negatives come from the same site alone; subjects by site: A 3, B 3." in notes
    with pytest.raises(UserError, match="no two subjects have the same own"):
        negatives("own", "own")
    sites["s000"] = "C"
    assert "Alone in its site, and so contrasted with no other subject: C." in negatives("alone", "site")[2]
    with pytest.raises(UserError, match="negatives_within names a column"):
        train(study, tmp_path / "none", small("negatives_within=site"), progress=False)
    assert not (tmp_path / "none").exists()


def test_a_run_is_not_continued_under_other_values_of_its_columns(tmp_path: Path) -> None:
    """The queues of its checkpoints hold keys whose owners were numbered by the old ones."""
    study, table, run = SmallStudy(6), tmp_path / "cohort.csv", tmp_path / "run"

    def write(sites: str) -> None:
        lines = [f"{name},{name}.nii,{site}" for name, site in zip(study.subject_ids, sites, strict=True)]
        table.write_text("\n".join(["subject_id,image,site", *lines, ""]))

    write("ABABAB")
    settings = small("negatives_within=site", f"group_table={table}")
    train(study, run, settings, progress=False)
    write("ABBBAB")
    with pytest.raises(UserError, match=r"other values of site in .*cohort.csv \(1 subject: s002 had A, now B\)"):
        train(study, run, settings, progress=False)
    write("ABABAB")
    train(study, run, settings, progress=False)
    table.write_text("subject_id,image,site\ns000,a.nii,A\n")
    with pytest.raises(UserError, match=r"does not list 5 subjects of the study \(s001, s002, s003\), whose site"):
        train(study, tmp_path / "other", settings, progress=False)


def test_without_negatives_from_the_batch_queues_start_with_random_keys(tmp_path: Path) -> None:
    """As published: the first visit to a landmark has something to learn from."""
    settings = small("in_batch=no", "log_every=1", "key_norm=shuffle")
    train(SmallStudy(6), tmp_path / "run", settings, progress=False)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert all(float(row["loss"]) > 0.02 for row in rows)
    state, _, _ = begun(SmallStudy(6), settings)
    assert float(rows[0]["negatives"]) == state.patch_queue.length
    norms = state.patch_queue.keys.float().norm(dim=2)
    torch.testing.assert_close(norms, torch.ones_like(norms), atol=2e-3, rtol=0)


def test_gs_teacher_starts_from_statistics_of_its_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def look(state: TrainState, settings: PretrainSettings, bank: Bank, *rest: Any) -> Any:
        if not seen:
            assert state.key.graph is not None
            x = torch.nn.functional.linear(bank.gathered[:, 0].float(), state.key.graph.weight, state.key.graph.bias)
            variance = state.key.graph.norm.running_var
            seen.append(float((x.flatten(0, 1).var(dim=0) / variance).log().abs().mean().exp()))
        return graph_update(state, settings, bank, *rest)

    monkeypatch.setattr("anatograph.learning.training.trainer.graph_update", look)
    train(SmallStudy(6), tmp_path / "run", small("precision=fp32", "bank_draws=1"), progress=False)
    assert seen[0] < 1.05


def test_rows_after_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path, 0)
    for step in (5, 10, 15):
        metrics.write({"step": step, "epoch": 0, "level": "patch", "loss": 1 / step})
    metrics.close()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("20,0,patch,0.0")  # a kill while writing
    MetricsFile(tmp_path, 10).close()
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [(row["step"], float(row["loss"])) for row in rows] == [("5", 1 / 5), ("10", 1 / 10)]


def test_a_collapse_is_said() -> None:
    def look(x: torch.Tensor) -> str:
        return collapse(effective_rank(x), uniformity(x), len(x))

    one_point = torch.ones(32, 16) + 1e-3 * torch.randn(32, 16)
    one_line = torch.randn(32, 1) * torch.ones(1, 16)
    assert "collapsed" in look(one_point)
    assert "collapsed" in look(one_line)
    assert look(torch.randn(32, 16)) == ""


def test_the_online_probe_separates_signal_from_noise(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    features: Any = random.normal(size=(60, 5)).astype(np.float32)
    ids = [f"s{i}" for i in range(60)]
    lines = ["sep=,", "subject_id,image,number,group,chance"]
    lines += [
        f'{n},x.nii,"{str(f[0] * 2 + 0.1 * f[1]).replace(".", ",")}",{"ab"[int(f[2] > 0)]},{random.normal()}'
        for n, f in zip(ids, features, strict=True)
    ]
    table = tmp_path / "cohort.csv"
    table.write_text("\n".join([*lines, "s60,x.nii,na,,?"]))
    labels = {name: probe_labels(table, name).reindex(ids) for name in ("number", "group", "chance")}
    assert probe_score(features, labels["number"]) > 0.95  # decimal commas are read as the cohort reader reads them
    assert probe_score(features, labels["group"]) > 0.85
    assert probe_score(features, labels["chance"]) < 0.2
    assert math.isnan(probe_score(features[:5], labels["number"][:5]))
    with pytest.raises(UserError, match=r"no column 'numbr'; did you mean 'number'"):
        probe_labels(table, "numbr")


def test_a_wrong_probe_table_is_refused_before_training(tmp_path: Path) -> None:
    settings = PretrainSettings(probe_target="age", probe_table=str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match="does not exist"):
        train(SmallStudy(), tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
