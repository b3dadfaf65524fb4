"""Rules of the training engine: what an update may change, and which scans are contrasted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_study import SmallStudy, begun, small, weights

from anatograph.learning.api import train
from anatograph.learning.data.cohort import read_cohort
from anatograph.learning.data.loader import read_updates
from anatograph.learning.data.sampler import PatchSampler
from anatograph.learning.training.bank import build_bank
from anatograph.learning.training.graph_stage import graph_update, pairs
from anatograph.learning.training.patch_stage import patch_update
from anatograph.learning.training.state import TrainState, frozen_copy, make_optimiser, patch_part


def test_absent_landmarks_are_neither_query_nor_key() -> None:
    study, settings = SmallStudy(6, absent=0.5, seed=3), small()
    assert 5 < (~study.present).sum() < 40
    study.patches[~study.present] = 30000  # would shine through anywhere
    state, augmenter, _ = begun(study, settings)
    sampler = PatchSampler(study.present, 8, 4, 0)
    for number, batch in enumerate(read_updates(read_cohort(study), sampler, range(12))):
        patch_update(state, settings, augmenter, batch, number, 0.01)
    held = state.patch_queue.owner.numpy()
    for landmark in range(study.present.shape[1]):
        owners = held[landmark][held[landmark] >= 0]
        assert study.present[owners, landmark].all()
    cohort = read_cohort(study)
    bank = build_bank(frozen_copy(state.model), cohort, np.arange(6), 2, augmenter, (0, 4, 0))
    assert (bank.gathered.numpy()[~study.present.repeat(2, 0).reshape(6, 2, -1)] == 0).all()
    assert torch.isfinite(bank.gathered).all()


def test_the_graph_level_leaves_e_unchanged_and_the_patch_level_g() -> None:
    study, settings = SmallStudy(6), small()
    state, augmenter, batch = begun(study, settings)
    before = weights(state.model), weights(state.key)
    patch_update(state, settings, augmenter, batch, 0, 0.05)
    patch_update(state, settings, augmenter, batch, 1, 0.05)
    after = weights(state.model), weights(state.key)
    for old, new in zip(before, after, strict=True):
        changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
        assert changed == {"encoder", "projection"}
    bank = build_bank(frozen_copy(state.model), read_cohort(study), np.arange(6), 2, augmenter, (0, 4, 0))
    for update in (0, 1):
        graph_update(state, settings, bank, np.arange(4), update, 0.05)
    last = weights(state.model), weights(state.key)
    for old, new in zip(after, last, strict=True):
        changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
        assert changed == {"graph", "graph_projection"}


def test_a_batch_cannot_leak_through_batchnorm_into_its_keys() -> None:
    """A teacher's key does not depend on the rest of its batch; in training mode it does."""
    study, settings = SmallStudy(6), small()
    state, _, batch = begun(study, settings)
    x = batch.patches.float() / 1000
    codes = state.model.location_codes[batch.landmarks]
    others = x.flip(0) * 0.2 + 0.5
    from anatograph.learning.contrast.keys import key_forward

    for norm, same in (("teacher", True), ("shuffle", False)):
        state.key.encoder.train(norm == "shuffle")
        keys = [
            key_forward(state.key.contrast_features, [torch.cat([x[:4], rest]), codes], norm, (0,))
            for rest in (x[4:], others[4:])
        ]
        assert torch.allclose(keys[0][:4], keys[1][:4], atol=1e-5) is same


@pytest.mark.parametrize("norm", ["teacher", "shuffle"])
def test_a_teachers_first_keys_are_normalised_by_statistics_of_patches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norm: str
) -> None:
    """Not by mean 0 and variance 1, with which BatchNorm is born: they are far from those of any patch."""
    study, settings = SmallStudy(6), small(f"key_norm={norm}", "precision=fp32")
    spread: list[float] = []

    def look(state: TrainState, *rest: Any) -> Any:
        if not spread:
            hu = study.read_patches(study.subject_ids, np.zeros(6, dtype=np.int64))
            first = state.key.encoder.stages[0][0]  # type: ignore[index]
            with torch.no_grad():
                maps = first.conv(state.key.windowed(torch.from_numpy(hu)))
            found = maps.var(dim=(0, 2, 3, 4)) / first.norm.running_var
            spread.append(float(found.log().abs().mean().exp()))
        return patch_update(state, *rest)

    monkeypatch.setattr("anatograph.learning.training.trainer.patch_update", look)
    train(study, tmp_path / "run", settings, progress=False)
    assert (spread[0] < 1.5) is (norm == "teacher"), spread


def test_shuffled_keys_share_a_part_with_their_queries_no_more_often_than_by_chance() -> None:
    """A part's statistics mark all its rows; a query's key must not be found by that mark."""
    from anatograph.learning.contrast.keys import key_forward, query_forward

    rows, shared = 16, []
    bits = 2.0 ** torch.arange(rows, dtype=torch.float64)[:, None]

    def part_of(x: torch.Tensor) -> torch.Tensor:
        return x.sum(0, keepdim=True).expand(len(x), 1)  # which rows were normalised together, as a number

    def members(number: float) -> set[int]:
        return {row for row in range(rows) if int(number) >> row & 1}

    for update in range(200):
        queries = query_forward(part_of, [bits], "shuffle")[:, 0]
        keys = key_forward(part_of, [bits], "shuffle", (0, update))[:, 0]
        for row in range(rows):
            own, other = members(float(queries[row])), members(float(keys[row]))
            assert row in own
            assert row in other
            assert len(own) == len(other) == rows // 2
            shared.append(len((own & other) - {row}) / (len(own) - 1))
    chance = (rows // 2 - 1) / (rows - 1)
    assert abs(float(np.mean(shared)) - chance) < 0.02


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("gated", [False, True])
def test_updates_that_are_not_finite_change_no_weight(gated: bool, optimiser: str) -> None:
    """Neither where the CPU decides, nor where the decision stays on the device, as on a GPU."""
    study, settings = SmallStudy(6), small(f"optimiser={optimiser}")
    state, augmenter, batch = begun(study, settings)
    state._gated = gated
    state.patch_optimiser = make_optimiser(patch_part(state.model), settings, fused=gated)
    assert patch_update(state, settings, augmenter, batch, 0, 0.05).read().finite
    with torch.no_grad():
        state.model.projection.layers[0].weight[0, 0] = math.inf
    parts = state.model, state.key
    before = [weights(part) for part in parts]
    assert not patch_update(state, settings, augmenter, batch, 1, 0.05).read().finite
    for old, module in zip(before, parts, strict=True):
        assert all(torch.equal(old[n], v) for n, v in module.state_dict().items())


def test_a_decision_on_the_device_trains_as_one_of_the_cpu() -> None:
    study, settings = SmallStudy(6), small("precision=fp32", "optimiser=sgd")
    found = []
    for gated in (False, True):
        state, augmenter, batch = begun(study, settings)
        state._gated = gated
        state.patch_optimiser = make_optimiser(patch_part(state.model), settings, fused=gated)
        losses = [patch_update(state, settings, augmenter, batch, u, 0.01).read().loss for u in range(4)]
        found.append((losses, weights(state.key)))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4)
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], value, rtol=1e-3, atol=1e-4)


def test_pairs_are_of_two_different_views_and_all_pairs_occur() -> None:
    drawn = [pairs(0, update, 16, 4) for update in range(40)]
    first, second = (np.concatenate([d[i] for d in drawn]) for i in (0, 1))
    assert (first != second).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 12


def test_scans_of_one_person_are_never_contrasted() -> None:
    """Neither at patch level nor at graph level, in a queue or in the batch."""
    study, settings = SmallStudy(6), small("bank_draws=1")
    state, augmenter, _ = begun(study, settings)
    persons = {"s000": "a", "s001": "a", "s002": "b", "s003": "b", "s004": "b"}  # s005 is on its own
    cohort = read_cohort(study, persons)
    assert [len(set(cohort.groups[g])) for g in ([0, 1], [2, 3, 4], [1, 2, 5])] == [1, 1, 3]
    sampler = PatchSampler(study.present, 8 * 6, 8, 0)
    batch = next(read_updates(cohort, sampler, range(1)))
    found = patch_update(state, settings, augmenter, batch, 0, 0.01).read()
    assert found.negatives == pytest.approx((2 * 4 + 3 * 3 + 5) / 6)
    bank = build_bank(frozen_copy(state.model), cohort, np.arange(6), 2, augmenter, (0, 4, 0))
    found = graph_update(state, settings, bank, np.arange(6), 0, 0.05).read()
    assert found.negatives == pytest.approx((2 * 4 + 3 * 3 + 5) / 6)
