"""Views as another scanner shows them: kernels and slices against scipy, noise of the size that was drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from anatograph.learning.contrast.augmentation import Augmenter, AugmentSettings
from anatograph.learning.contrast.scanner import DETAIL_MM, kernel, smoothing, through

SIDE = 24


def patch() -> torch.Tensor:
    return torch.randn(1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def blurred(x: np.ndarray, sigmas: tuple[float, float, float]) -> np.ndarray:
    return ndimage.gaussian_filter(x, sigmas, truncate=8)


def test_a_smooth_kernel_and_a_thick_slice_are_gaussians_of_their_axes() -> None:
    x = patch()
    found = through(x, kernel(torch.tensor([0.8]), SIDE, 1.5, 1.0), smoothing(torch.tensor([1.4]), SIDE))
    # Integrating over a voxel adds its variance of 1/12.
    wanted = blurred(x[0].numpy(), tuple(np.sqrt(s**2 + 1 / 12) for s in (1.4, 1.2, 1.2)))
    inside = (slice(7, -7),) * 3
    assert np.abs(found[0].numpy() - wanted)[inside].max() < 0.02 * wanted.std()


def test_a_sharp_kernel_adds_detail_in_the_plane_only() -> None:
    x = patch()
    identity = torch.eye(SIDE)[None]
    found = through(x, kernel(torch.tensor([-1.0]), SIDE, 1.0, 0.5), identity)[0].numpy()
    sigma = np.sqrt(DETAIL_MM**2 + 1 / 12)
    wanted = x[0].numpy()
    for axis in (1, 2):
        wanted = wanted + 0.5 * (wanted - ndimage.gaussian_filter1d(wanted, sigma, axis=axis, truncate=8))
    inside = (slice(None), slice(7, -7), slice(7, -7))
    assert np.abs(found - wanted)[inside].max() < 0.05


def test_strength_0_and_thickness_0_leave_the_patch_as_it_is() -> None:
    x = patch()
    found = through(x, kernel(torch.zeros(1), SIDE, 1.0, 1.0), smoothing(torch.zeros(1), SIDE))
    torch.testing.assert_close(found, x)


def test_a_uniform_patch_changes_by_gain_alone_and_air_not_at_all() -> None:
    settings = AugmentSettings(
        elastic_probability=0.0, noise_probability=0.0, gamma_probability=0.0, scanner_probability=1.0, gain=0.1
    )
    augmenter = Augmenter(settings, 8, window=(-1000.0, 1000.0))
    air, water = torch.full((40, 8, 8, 8), -1.0), torch.zeros(40, 8, 8, 8)
    torch.testing.assert_close(augmenter.views(air, (1,)), air, rtol=0, atol=1e-5)
    found = augmenter.views(water, (1,))
    assert float(found.flatten(1).std(dim=1).max()) < 1e-5
    spread = found[:, 0, 0, 0]
    assert 0.05 < float(spread.abs().max()) <= 0.1
    assert float(spread.min()) < 0 < float(spread.max())


@pytest.mark.parametrize("together", [False, True])
def test_noise_has_the_size_that_was_drawn_and_a_grain(together: bool) -> None:
    quiet = {"elastic_probability": 0.0, "gamma_probability": 0.0, "gain": 0.0, "noise_probability": 1.0}
    white = Augmenter(AugmentSettings(**quiet), 32)
    grained = Augmenter(AugmentSettings(**quiet, scanner_probability=1.0, smooth_kernel=1.5), 32)
    x = torch.zeros(30, 32, 32, 32)
    views = [(a.subject_view if together else a.views)(x, (4, 2))[:, 10:-10, 10:-10, 10:-10] for a in (white, grained)]
    sizes = [v.flatten(1).std(dim=1) for v in views]
    torch.testing.assert_close(sizes[1], sizes[0], rtol=0.25, atol=0)
    z = [float((v[:, 1:] * v[:, :-1]).sum() / (v**2).sum()) for v in views]  # neighbours along the body's axis
    assert abs(z[0]) < 0.03
    assert z[1] > 0.2
