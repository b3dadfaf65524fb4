"""Rows that train: what they find, what they must not see, and that chance is named."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from small_cohort import SUBJECTS

from anatograph.baselines.method import Scans, SupervisedMethod
from anatograph.baselines.methods.cnn2d import SliceCNN
from anatograph.baselines.methods.cnn3d import VolumeCNN
from anatograph.baselines.methods.moco import MoCo
from anatograph.baselines.methods.models_genesis import ModelsGenesis
from anatograph.baselines.methods.subject2vec import SETTINGS, SetNetwork, Subject2Vec
from anatograph.baselines.networks.genesis_corruptions import (
    corrupted,
    in_painted,
    locally_shuffled,
    nonlinear_intensity,
    out_painted,
)
from anatograph.baselines.networks.heads import Heads
from anatograph.baselines.options import MethodOptions
from anatograph.baselines.registry import METHODS, make_method
from anatograph.errors import UserError
from anatograph.evaluation.targets import Target, read_target

Folds = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
Probe = Callable[[NDArray[np.float64], NDArray[np.float64], Folds], NDArray[np.float64]]
CHANCE = 0.68
"""Correlation that 18 unrelated pairs exceed once in a thousand."""
SUPERVISED: tuple[type[SupervisedMethod], ...] = (SliceCNN, VolumeCNN, Subject2Vec)


def targets(scans: Scans) -> list[Target]:
    return [read_target(scans.table, name) for name in ("holes", "sick", "patchy")]


# Without labels


def test_models_genesis_finds_the_holes(scans: Scans, folds: Folds, held_out: Probe) -> None:
    features = ModelsGenesis(progress=False).embed(scans)
    assert features.shape == (SUBJECTS, 64)
    truth = scans.table["holes"].to_numpy()
    assert np.corrcoef(held_out(features, truth, folds), truth)[0, 1] > CHANCE


def test_moco_gives_every_subject_a_different_vector(scans: Scans) -> None:
    """Twenty updates on eighteen subjects are too few to assert that it learns anything."""
    features = MoCo(progress=False).embed(scans)
    assert features.shape == (SUBJECTS, 16)
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == SUBJECTS
    note = (scans.work / "moco" / "trained" / "made_from.json").stat().st_mtime_ns
    np.testing.assert_array_equal(MoCo(progress=False).embed(scans), features)
    assert (scans.work / "moco" / "trained" / "made_from.json").stat().st_mtime_ns == note


def test_trained_networks_are_cached_by_seed(scans: Scans) -> None:
    first = ModelsGenesis(progress=False).embed(scans)
    note = scans.work / "models-genesis" / "trained" / "made_from.json"
    made = note.stat().st_mtime_ns
    np.testing.assert_array_equal(ModelsGenesis(progress=False).embed(scans), first)
    assert note.stat().st_mtime_ns == made
    other = replace(scans, seed=1)
    assert not np.array_equal(ModelsGenesis(progress=False).embed(other), first)
    np.testing.assert_array_equal(ModelsGenesis(progress=False).embed(scans), first)  # trained anew, the same bits
    assert note.stat().st_mtime_ns != made


def test_regions_of_models_genesis_are_patches_that_are_there(scans: Scans) -> None:
    regions = ModelsGenesis(progress=False).regions(scans)
    present = scans.study.present(scans.subject_ids)
    assert regions.shape[:2] == present.shape
    assert np.isnan(regions[~present]).all()
    looked_at = np.isfinite(regions[..., 0]).sum(axis=1)
    assert ((looked_at > 0) & (looked_at <= 12)).all()


def test_corruptions_do_what_the_paper_says() -> None:
    random = np.random.default_rng(0)
    volume = random.random((32, 32, 32), dtype=np.float32)
    for _ in range(20):
        changed = nonlinear_intensity(volume, random)
        order = np.argsort(volume, axis=None)
        steps = np.diff(changed.ravel()[order])
        assert (steps >= 0).all() or (steps <= 0).all()  # a monotone curve, up or down
        assert changed.min() >= 0
        assert changed.max() <= 1
    shuffled = locally_shuffled(volume, random)
    assert 0.1 < (shuffled != volume).mean() < 0.9
    assert np.isin(shuffled, volume).all()  # nothing new, only elsewhere
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32), (32, 32, 32)).copy()
    assert np.abs(locally_shuffled(ramp, random) - ramp).max() <= 2  # and never more than a tenth of a side away
    inner = np.mean([(in_painted(volume, random) == volume).mean() for _ in range(30)])
    outer = np.mean([(out_painted(volume, random) == volume).mean() for _ in range(30)])
    assert inner > 0.8
    assert 0.05 < outer < 0.5
    before = volume.copy()
    for _ in range(10):
        given, wanted = corrupted(volume, random)
        assert np.array_equal(np.sort(wanted, axis=None), np.sort(volume, axis=None))  # at most flipped
        assert given.dtype == wanted.dtype == np.float32
    np.testing.assert_array_equal(volume, before)


# With labels


@pytest.mark.parametrize("method", [SliceCNN, Subject2Vec])
def test_supervised_rows_find_the_holes_and_separate_classes(
    method: type[SupervisedMethod], scans: Scans, folds: Folds
) -> None:
    wanted = targets(scans)
    predicted = {target.name: np.full(SUBJECTS, np.nan) for target in wanted}
    for train, test in folds:
        found = method(progress=False).predict_many(scans, wanted, train, test)  # type: ignore[call-arg]
        for target, part in zip(wanted, found, strict=True):
            mine = test[np.isin(test, target.rows)]
            assert len(part) == len(mine)
            if target.classes:
                assert part.shape == (len(mine), 2)
                np.testing.assert_allclose(part.sum(axis=1), 1.0)
                part = part[:, target.classes.index("sick")]
            predicted[target.name][mine] = part
    truth = scans.table["holes"].to_numpy()
    assert np.corrcoef(predicted["holes"], truth)[0, 1] > CHANCE
    assert np.corrcoef(predicted["sick"], truth)[0, 1] > CHANCE
    assert np.array_equal(np.isnan(predicted["patchy"]), scans.table["patchy"].isna().to_numpy())


class Cubes(VolumeCNN):
    """The row on sixty cubes made of numbers: holes to a share, in lungs that differ in all else too.

    A volume network does not generalise from nine subjects, and more scans would take too long here.
    """

    def inputs(
        self, scans: Scans, rows: NDArray[np.int64], chance: tuple[int, ...] | None, device: torch.device
    ) -> torch.Tensor:
        found = []
        for row in rows:
            random = np.random.default_rng(int(row))
            cube = np.where(random.random((16, 16, 16)) < scans.table["holes"][int(row)], -1.0, -0.6)
            cube[: random.integers(2, 6)] = 0.6
            found.append(cube + random.normal(0, 0.05, cube.shape))
        return torch.from_numpy(np.stack(found).astype(np.float32)).to(device)


def test_the_volume_network_finds_the_share_of_holes(scans: Scans) -> None:
    shares = np.random.default_rng(0).permutation(np.linspace(0, 0.5, 60))
    table = pd.DataFrame({"subject_id": [f"n{k}" for k in range(60)], "holes": shares})
    many, rows = replace(scans, table=table), np.arange(60)
    predicted = Cubes(progress=False).predict(many, read_target(table, "holes"), rows[:42], rows[42:])
    assert np.corrcoef(predicted, shares[42:])[0, 1] > CHANCE


@pytest.mark.parametrize("method", SUPERVISED)
def test_supervised_rows_ignore_test_labels_and_batch_composition(
    method: type[SupervisedMethod], scans: Scans, folds: Folds
) -> None:
    train, test = folds[0]
    target = read_target(scans.table, "holes")
    first = method(progress=False).predict(scans, target, train, test)  # type: ignore[call-arg]
    other = target.values.copy()
    other[test] = 1e3
    changed = method(progress=False).predict(scans, replace(target, values=other), train, test)  # type: ignore[call-arg]
    np.testing.assert_array_equal(first, changed)  # and so it is deterministic
    few = method(progress=False).predict(scans, target, train, test[2:5])  # type: ignore[call-arg]
    np.testing.assert_allclose(few, first[2:5], atol=1e-5)
    assert abs(first - target.values[train].mean()).max() < 1.0  # on the scale of the values


def test_heads_standardise_on_training_subjects_and_skip_missing_values(scans: Scans) -> None:
    wanted = targets(scans)
    train, rows = np.arange(12), np.array([0, 1, 6, 7])
    heads = Heads(wanted, train, SUBJECTS)
    assert heads.outputs == 4
    values = wanted[0].values[train]
    assert heads.scales[0] == pytest.approx((values.mean(), values.std()))
    outputs = torch.randn(4, 4, dtype=torch.float64)
    known = np.isin(rows, wanted[2].rows)
    assert known.tolist() == [False, True, False, True]  # every sixth subject has no value
    third = wanted[2]
    scaled = (third.values - heads.scales[2][0]) / heads.scales[2][1]
    truth = torch.from_numpy(scaled[np.isin(third.rows, rows)])
    expected = ((outputs[known, 3] - truth) ** 2).mean()
    expected = (
        expected
        + ((outputs[:, 0] - torch.from_numpy((wanted[0].values[rows] - values.mean()) / values.std())) ** 2).mean()
    )
    labels = torch.from_numpy(wanted[1].values[rows]).long()
    expected = expected + torch.nn.functional.cross_entropy(outputs[:, 1:3], labels)
    assert float(heads.loss(outputs, rows)) == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(
        heads.predictions(outputs.numpy(), 0), outputs[:, 0].numpy() * values.std() + values.mean()
    )
    assert math.isclose(float(Heads([third], np.array([0]), SUBJECTS).loss(outputs[:, :1], np.array([0]))), 0.0)


def test_subject2vec_is_a_function_of_the_set_and_its_attention_adds_up() -> None:
    torch.manual_seed(0)
    network = SetNetwork(replace(SETTINGS["quick"], features=16), 2, 16).eval()
    patches = torch.randn(2, 6, 16, 16, 16)
    with torch.inference_mode():
        order = torch.tensor([3, 1, 5, 0, 2, 4])
        torch.testing.assert_close(network(patches[:, order]), network(patches), atol=1e-5, rtol=1e-4)
        alpha = network.attention(patches)
        torch.testing.assert_close(alpha.sum(dim=1), torch.ones(2))
        _, extra = network.losses(patches)
    drawn = network.decoder(network.encoder(patches.flatten(0, 1)[:, None]))
    small = torch.nn.functional.avg_pool3d(patches.flatten(0, 1)[:, None], 2)[:, 0]
    expected = 10 * ((drawn - small) ** 2).mean() + 1e-4 * torch.log(alpha + 1e-4).sum(dim=1).mean()
    assert float(extra) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("side", [16, 32])
def test_the_authors_sizes_are_built_for_any_patch(side: int) -> None:
    network = SetNetwork(SETTINGS["default"], 3, side)
    outputs, extra = network.losses(torch.randn(2, 3, side, side, side))
    assert outputs.shape == (2, 3)
    assert torch.isfinite(extra)


# The registry


def test_every_slug_makes_its_row() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, flags=re.MULTILINE)) == set(METHODS)
    titles = set()
    for slug in METHODS:
        method = make_method(slug, MethodOptions(allow_random=True, progress=False))
        assert method.slug == slug
        assert method.learns
        titles.add(method.title)
    assert len(titles) == len(METHODS)


def test_a_wrong_name_or_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'medicalnet'"):
        make_method("medicalnett")
    with pytest.raises(UserError, match=r"'moco' takes no weights; these do: medicalnet"):
        MethodOptions(weights={"moco": tmp_path})
    with pytest.raises(UserError, match=r"'kmeans' takes no model"):
        MethodOptions(models={"kmeans": tmp_path})


def test_ordinal_heads_are_proportional_odds() -> None:
    """Against the closed form, and starting at the frequencies of the training grades."""
    from anatograph.baselines.networks.heads import Thresholds

    counts = np.array([10.0, 30.0, 40.0, 20.0])
    thresholds = Thresholds(counts)
    chances = thresholds(torch.zeros(2))
    np.testing.assert_allclose(chances[0].detach().numpy(), (counts + 0.5) / (counts + 0.5).sum(), atol=1e-5)
    theta = torch.cat([thresholds.first, thresholds.first + torch.cumsum(thresholds.log_steps.exp(), 0)])
    at_two = thresholds(torch.tensor([2.0]))[0]
    expected = torch.sigmoid(theta - 2.0).diff(prepend=torch.zeros(1), append=torch.ones(1))
    torch.testing.assert_close(at_two, expected)
    assert (theta.diff() > 0).all()


def test_networks_learn_grades_in_their_order(scans: Scans) -> None:
    grade = pd.cut(scans.table["holes"], 3, labels=False)
    table = scans.table.assign(grade=grade)
    target = read_target(table, "grade", "ordinal")
    heads = Heads([target], np.arange(12), SUBJECTS)
    assert heads.outputs == 1
    x = torch.from_numpy(scans.table["holes"].to_numpy()).float()[:, None]
    network = torch.nn.Linear(1, 1)
    optimiser = torch.optim.Adam([*network.parameters(), *heads.parameters()], 0.1)
    for _ in range(300):
        optimiser.zero_grad()
        heads.loss(network(x[:12]), np.arange(12)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.inference_mode():
        found = heads.predictions(network(x).double().numpy(), 0)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found[12:].argmax(axis=1) == grade.to_numpy()[12:]).mean() > 0.8
