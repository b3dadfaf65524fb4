"""Alignment, uniformity and effective rank on cases with known answers; momentum; BatchNorm's statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.contrast.momentum import key_copy, momentum_update
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.networks import PatchEncoder
from anatograph.learning.monitoring.diagnostics import alignment, effective_rank, uniformity


def test_alignment_of_known_pairs() -> None:
    x = torch.randn(20, 8)
    assert alignment(x, 3 * x) == pytest.approx(0, abs=1e-6)
    assert alignment(x, -x) == pytest.approx(4, abs=1e-5)
    assert alignment(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])) == pytest.approx(2, abs=1e-6)


def test_uniformity_of_known_sets() -> None:
    assert uniformity(torch.ones(9, 4)) == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.tensor([[1.0, 0.0], [-5.0, 0.0]])) == pytest.approx(-8, abs=1e-5)
    # Three at right angles: every pair at squared distance 2.
    assert uniformity(torch.eye(3)) == pytest.approx(-4, abs=1e-5)
    assert math.isnan(uniformity(torch.ones(1, 4)))
    x = F.normalize(torch.randn(30, 6, dtype=torch.float64), dim=1).numpy()
    pairs = [math.exp(-2 * float(((x[i] - x[j]) ** 2).sum())) for i in range(30) for j in range(i)]
    assert uniformity(torch.from_numpy(x)) == pytest.approx(math.log(np.mean(pairs)), abs=1e-5)


def test_effective_rank_of_known_matrices() -> None:
    line = torch.outer(torch.linspace(-1, 1, 20), torch.tensor([1.0, 2.0, 3.0]))
    assert effective_rank(line) == pytest.approx(1, abs=1e-5)
    assert effective_rank(torch.eye(7), centre=False) == pytest.approx(7, abs=1e-6)
    assert effective_rank(torch.eye(7)) == pytest.approx(6, abs=1e-6)
    assert effective_rank(torch.full((10, 4), 0.3)) == 0
    # Two directions, one three times the other: exp of the entropy of (3/4, 1/4).
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0])), centre=False) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("statistics", ["average", "copy", "own"])
def test_momentum_update_is_the_formula(statistics: str) -> None:
    query = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    key = key_copy(query)
    assert not any(p.requires_grad for p in key.parameters())
    with torch.no_grad():
        for value in query.state_dict().values():
            value.add_(1)
    before = {name: value.clone() for name, value in key.state_dict().items()}
    momentum_update(key, query, 0.9, statistics)  # type: ignore[arg-type]
    for name, value in key.state_dict().items():
        new, old = query.state_dict()[name], before[name]
        share = (
            0.1 if "running" not in name and "num" not in name else {"average": 0.1, "copy": 1, "own": 0}[statistics]
        )
        if "num" in name and statistics == "average":
            share = 1  # a count has no average
        torch.testing.assert_close(value.double(), (1 - share) * old.double() + share * new.double())
    assert next(key.parameters()).data_ptr() != next(query.parameters()).data_ptr()


def landmark_patches(landmark: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Landmarks differ in density and texture, as apex, hilum and base do."""
    level, spread = (-0.9, 0.05), (0.3, 0.4)
    share = landmark / 7
    mean = level[0] + share * (spread[0] - level[0])
    scale = level[1] + share * (spread[1] - level[1])
    return mean + scale * torch.randn(count, 1, 16, 16, 16, generator=generator)


def test_recalibration_corrects_statistics_that_followed_the_last_landmarks() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    encoder = PatchEncoder(ModelConfig(patch_size=16)).train()
    with torch.no_grad():
        for landmark in [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]:  # one landmark a batch, as published
            encoder(landmark_patches(landmark, 16, generator))
        mixed = [torch.cat([landmark_patches(i, 8, generator) for i in range(8)]) for _ in range(4)]
        wanted = encoder(mixed[0].clone())  # by the batch's own statistics: what training looks at

        def off(features: torch.Tensor) -> float:
            return float((features - wanted).norm() / wanted.norm())

        # That forward moved the running statistics by one step of ten towards the mixture, in the fault's favour.
        before = off(encoder.eval()(mixed[0]))
        encoder.train()
        encoder.stages[0].eval()
        modes = [m.training for m in encoder.modules()]
        assert recalibrate_batchnorm(encoder, mixed[1:]) == 3
        assert [m.training for m in encoder.modules()] == modes
        others = off(encoder.eval()(mixed[0]))
        recalibrate_batchnorm(encoder, mixed[:1])
        same = off(encoder(mixed[0]))
        assert before > 0.5
        # Random patches of other subjects: what remains is the variation between batches of 64.
        assert others < before / 2
        # The very batch: what is left is n against n - 1 in the variance.
        assert same < 0.03


def test_recalibrated_statistics_are_those_of_all_batches_together() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(3)
    batches = [torch.randn(rows, 3) * 3 + rows for rows in (4, 9, 30)]
    recalibrate_batchnorm(norm, batches)
    together = torch.cat(batches)
    torch.testing.assert_close(norm.running_mean, together.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.running_var, together.var(0), atol=1e-4, rtol=1e-5)
    assert norm.momentum == 0.1
    with pytest.raises(ValueError, match="no batch"):
        recalibrate_batchnorm(norm, [])
