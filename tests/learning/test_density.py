"""Shares of densities in a patch: against a histogram, in the model's feature, and through both precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anatograph.errors import UserError
from anatograph.learning.contrast.batchnorm import recalibrate_batchnorm
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.density import RAMP, THRESHOLDS, CumulativeHistogram
from anatograph.learning.model.networks import PatchEncoder
from anatograph.learning.model.windowing import HU_WINDOW, window

COUNT = len(THRESHOLDS)


def lungs(count: int, seed: int = 0) -> torch.Tensor:
    """(count, 1, 16, 16, 16) int16 HU: lung, with a part of it, other in each patch, at -970 HU."""
    random = np.random.default_rng(seed)
    hu = random.normal(-860, 30, (count, 1, 16, 16, 16))
    dark = random.random(hu.shape) < np.linspace(0, 0.6, count)[:, None, None, None, None]
    hu[dark] = random.normal(-970, 10, int(dark.sum()))
    return torch.from_numpy(np.clip(hu, *HU_WINDOW).astype(np.int16))


def test_shares_are_those_of_numpys_histogram_but_for_the_ramp() -> None:
    hu = lungs(6)
    shares = CumulativeHistogram(*HU_WINDOW).fractions(window(hu, *HU_WINDOW)).numpy()
    flat = hu.numpy().reshape(6, -1).astype(np.float64)
    for column, threshold in enumerate(THRESHOLDS):
        least, most = ((flat < threshold + shift).mean(axis=1) for shift in (-RAMP, RAMP))
        assert (shares[:, column] >= least - 1e-6).all()
        assert (shares[:, column] <= most + 1e-6).all()
        counts = [np.histogram(row, bins=[-2000, threshold, 2000])[0][0] / row.size for row in flat]
        np.testing.assert_allclose(shares[:, column], counts, atol=0.06)


def test_a_ramp_of_densities_is_shared_out_exactly() -> None:
    hu = torch.linspace(-1024.0, 240.0, 16**3).reshape(1, 1, 16, 16, 16)
    shares = CumulativeHistogram(*HU_WINDOW).fractions(window(hu, *HU_WINDOW)).numpy()[0]
    np.testing.assert_allclose(shares, (np.array(THRESHOLDS) + 1024) / 1264, atol=2e-4)


def test_the_end_of_a_feature_is_the_shares_and_nothing_learnt_changes_them() -> None:
    torch.manual_seed(0)
    encoder = PatchEncoder(ModelConfig(pooling="multiscale", density=True, patch_size=16))
    x = window(lungs(32), *HU_WINDOW)
    recalibrate_batchnorm(encoder, [x])
    assert encoder.density is not None
    with torch.no_grad():
        features = encoder.eval()(x)
        shares = encoder.density.fractions(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder(x)
    assert features.shape == (32, 128)
    varied = shares.std(dim=0) > 0.01
    assert int(varied.sum()) >= 5
    expected = (shares - shares.mean(dim=0)) / torch.sqrt(shares.var(dim=0) + 1e-5)
    torch.testing.assert_close(features[:, -COUNT:][:, varied], expected[:, varied], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rough[:, -COUNT:].float(), features[:, -COUNT:], atol=2e-2, rtol=1e-2)
    # The dark share that was put in is read off by one number; in float32 whatever the precision of the rest.
    truth = np.linspace(0, 0.6, 32)
    assert np.corrcoef(truth, features[:, 128 - COUNT + THRESHOLDS.index(-925)])[0, 1] > 0.99


def test_a_feature_that_has_no_room_is_refused() -> None:
    with pytest.raises(UserError, match="feature_size must be above 14"):
        ModelConfig(density=True, feature_size=14)
