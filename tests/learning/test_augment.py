"""Batched views against MONAI's transforms, drawn many times: the same distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.transforms import (
    AdjustContrast,
    AffineGrid,
    Rand3DElastic,
    RandAdjustContrast,
    RandAffineGrid,
    RandGaussianNoise,
    Resample,
)

from anatograph.errors import UserError
from anatograph.learning.contrast.augmentation import Augmenter, AugmentSettings, power
from anatograph.learning.contrast.deformation import Padding, affine, resample_together, smooth_bases
from anatograph.learning.model.windowing import window

PUBLISHED = AugmentSettings()
STILL = AugmentSettings(
    elastic_probability=0.0, noise_probability=0.0, gamma_probability=0.0, rotate=0.0, scale=0.0, shift=0.0
)


def changed(**values: float) -> AugmentSettings:
    from dataclasses import replace

    return replace(STILL, **values)  # type: ignore[arg-type]


def displacements(settings: AugmentSettings, count: int, side: int = 32) -> torch.Tensor:
    """(count, 3, P, P, P) source voxel minus own voxel, z y x, as `Augmenter` draws them."""
    grid, _ = Augmenter(settings, side)._grids((5, 3, 1), count, slice(0, count))
    voxels = grid.flip(-1).permute(0, 4, 1, 2, 3) * side / 2
    axis = torch.arange(side) - (side - 1) / 2
    return voxels - torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def monai_displacements(count: int) -> torch.Tensor:
    """The same from MONAI, elastic part only, the grid caught on its way to the resampler."""
    transform = Rand3DElastic(prob=1.0, sigma_range=(8, 12), magnitude_range=(632, 632))
    transform.set_random_state(0)
    seen: list[torch.Tensor] = []

    class Catch(Resample):
        def __call__(self, img, grid=None, **_):  # type: ignore[no-untyped-def]
            seen.append(torch.as_tensor(grid)[:3].float().clone())
            return img

    transform.resampler = Catch()
    for _ in range(count):
        transform(torch.zeros(1, 32, 32, 32))
    axis = torch.arange(32) - 15.5
    return torch.stack(seen) - torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def spread(field: torch.Tensor) -> torch.Tensor:
    """Standard deviation over draws at the centre, at the middle of a face, and in a corner."""
    places = [(15, 15, 15), (0, 15, 15), (0, 0, 0)]
    return torch.stack([field[:, :, z, y, x].square().mean().sqrt() for z, y, x in places])


def smoothness(field: torch.Tensor) -> torch.Tensor:
    """Correlation of displacements 4, 8 and 16 voxels apart."""
    f = field - field.mean(dim=0)
    middle = f[..., 8:24]
    return torch.stack(
        [
            (f[..., 8 - d // 2 : 24 - d // 2] * f[..., 8 + d // 2 : 24 + d // 2]).mean() / middle.square().mean()
            for d in (4, 8, 16)
        ]
    )


def test_elastic_displacements_spread_as_in_monai() -> None:
    ours = displacements(AugmentSettings(rotate=0, scale=0, shift=0, displacement_low=632, displacement_high=632), 800)
    theirs = monai_displacements(40)
    # 40 draws of three independent components: the standard error of a spread is 6.5 %.
    torch.testing.assert_close(spread(ours), spread(theirs), rtol=0.2, atol=0.0)
    torch.testing.assert_close(smoothness(ours), smoothness(theirs), rtol=0.0, atol=0.08)


def test_elastic_spread_is_what_smoothing_white_noise_gives() -> None:
    """Exactly: the covariance that the basis gives against a Gaussian filter of uniform noise by MONAI's kernel."""
    from monai.networks.layers import GaussianFilter

    bases = smooth_bases(8.0, 12.0, 32)
    for index, sigma in ((0, 8.0), (8, 10.0), (16, 12.0)):
        blur = GaussianFilter(1, sigma, 3.0)
        kernel = torch.stack([blur(torch.eye(32)[i][None, None])[0, 0] for i in range(32)], dim=1)
        covariance = bases[index] @ bases[index].T
        torch.testing.assert_close(
            covariance, kernel @ kernel.T, rtol=0.0, atol=2e-3 * float(kernel.square().sum(1).max())
        )


def test_affine_displacements_spread_as_in_monai() -> None:
    ours = displacements(AugmentSettings(displacement_high=0.0), 3000, side=8)[..., ::7, ::7, ::7]
    angle = math.radians(10)
    draw = RandAffineGrid(rotate_range=(angle,) * 3, translate_range=(12,) * 3, scale_range=(0.1,) * 3)
    draw.set_random_state(0)
    corners = torch.tensor([-3.5, 3.5])
    corners = torch.stack(torch.meshgrid(corners, corners, corners, indexing="ij"))
    one = torch.cat([corners, torch.ones_like(corners[:1])])
    theirs = torch.stack([torch.as_tensor(draw(grid=one.clone()))[:3].float() for _ in range(3000)]) - corners
    # Uniform shifts of ±12 dominate; the standard error of a spread over 3000 draws is about 1 %.
    torch.testing.assert_close(ours.std(dim=0), theirs.std(dim=0), rtol=0.04, atol=0.0)
    torch.testing.assert_close(ours.mean(dim=0), theirs.mean(dim=0), rtol=0.0, atol=0.6)
    # Turning and scaling alone: how the distance of two opposite corners varies.
    across = [(f[:, :, 1, 1, 1] - f[:, :, 0, 0, 0]).std(dim=0) for f in (ours, theirs)]
    torch.testing.assert_close(across[0], across[1], rtol=0.06, atol=0.0)


def test_affine_is_monais_for_given_angles_scales_and_shifts() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        angles, scales, shifts = random.uniform(-0.4, 0.4, 3), random.uniform(0.8, 1.2, 3), random.uniform(-9, 9, 3)
        grid = AffineGrid(rotate_params=angles.tolist(), translate_params=shifts.tolist(), scale_params=scales.tolist())
        axis = torch.arange(6) - 2.5
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
        one = torch.cat([points, torch.ones_like(points[:1])])
        theirs = torch.as_tensor(grid(grid=one)[0]).float()
        linear, offset = affine(*(torch.tensor(v[None], dtype=torch.float32) for v in (angles, scales, shifts)))
        ours = torch.einsum("ij,jzyx->izyx", linear[0], points) + offset[0][:, None, None, None]
        torch.testing.assert_close(ours, theirs[:3], rtol=1e-4, atol=1e-4)


def test_a_shifted_view_is_the_patch_moved() -> None:
    """The composed grid moves voxels the way it says: against slicing."""
    augmenter = Augmenter(changed(elastic_probability=1.0, displacement_high=0.0), 32)
    patch = torch.rand(1, 32, 32, 32)
    coefficients = torch.zeros(1, 3, augmenter.bases.shape[-1] ** 3)
    linear = torch.eye(3)[None]
    offset = torch.tensor([[2.0, -3.0, 5.0]])  # z, y, x
    grid = augmenter._compose(linear, offset, coefficients, torch.zeros(1), torch.zeros(1, dtype=torch.long))
    moved = torch.nn.functional.grid_sample(patch[:, None], grid, padding_mode="border", align_corners=False)[0, 0]
    torch.testing.assert_close(moved[:30, 3:, :27], patch[0, 2:, :29, 5:], rtol=0, atol=1e-4)


def test_noise_is_distributed_as_in_monai() -> None:
    settings = changed(noise=50.0, noise_probability=0.25)
    count = 1200
    views = Augmenter(settings, 8).views(torch.zeros(count, 8, 8, 8), (1, 2, 3))
    ours = views.flatten(1).std(dim=1) / (2 / 1264)
    transform = RandGaussianNoise(prob=0.25, mean=0.0, std=50.0)
    transform.set_random_state(0)
    theirs = torch.stack([torch.as_tensor(transform(torch.zeros(1, 8, 8, 8))).std() for _ in range(count)])
    share = [float((s > 0).float().mean()) for s in (ours, theirs)]
    assert abs(share[0] - 0.25) < 0.04
    assert abs(share[0] - share[1]) < 0.05
    for quantile in (0.1, 0.5, 0.9):
        one, two = (float(s[s > 0].quantile(quantile)) for s in (ours, theirs))
        assert abs(one - two) < 4.5, quantile
        assert abs(one - 50 * quantile) < 4.0
    one_view = views[int(ours.argmax())].flatten()
    assert abs(float(one_view.mean())) < 0.2 * float(one_view.std())


def test_contrast_is_distributed_as_in_monai() -> None:
    settings = changed(gamma_probability=0.25)
    count = 2000
    patch = torch.linspace(-1, 1, 64).view(1, 4, 4, 4)
    views = Augmenter(settings, 4).views(patch.expand(count, -1, -1, -1).contiguous(), (9, 9)).flatten(1)
    transform = RandAdjustContrast(prob=0.25)
    transform.set_random_state(0)
    theirs = torch.stack([torch.as_tensor(transform(patch)).flatten() for _ in range(count)])
    exponents = []
    for seen in (views, theirs):
        middle = ((seen[:, 32] + 1) / 2).clamp(1e-6)
        exponent = torch.log(middle) / torch.log((patch.flatten()[32] + 1) / 2)
        exponents.append(exponent[(exponent - 1).abs() > 1e-4])
        torch.testing.assert_close(seen[:, [0, -1]], patch.flatten()[[0, -1]].expand(count, 2), rtol=0, atol=1e-5)
    for exponent in exponents:
        assert abs(len(exponent) / count - 0.25) < 0.035
        for quantile in (0.1, 0.5, 0.9):
            assert abs(float(exponent.quantile(quantile)) - (0.5 + 4 * quantile)) < 0.3


def test_a_given_exponent_gives_monais_image() -> None:
    patch = window(torch.randint(-1024, 240, (3, 8, 8, 8), dtype=torch.int16))
    exponents = torch.tensor([0.7, 1.9, 4.2])
    ours = power(patch, exponents)
    for row, exponent in enumerate(exponents):
        theirs = torch.as_tensor(AdjustContrast(gamma=float(exponent))(patch[row][None]))[0]
        torch.testing.assert_close(ours[row], theirs, rtol=1e-4, atol=1e-5)
    flat = torch.full((1, 4, 4, 4), -1.0)
    torch.testing.assert_close(power(flat, torch.tensor([2.0])), flat)


def test_two_views_differ_and_the_same_names_give_the_same_bits() -> None:
    augmenter = Augmenter(PUBLISHED, 16)
    patches = torch.rand(24, 16, 16, 16) * 2 - 1
    before = patches.clone()
    one, again, other = (augmenter.views(patches, (0, 3, 7, v)) for v in (0, 0, 1))
    assert torch.equal(one, again)
    assert float((one - other).abs().mean()) > 0.01
    assert torch.equal(patches, before)


@pytest.mark.parametrize("cut", [4, 12, 13])
def test_parts_of_a_batch_draw_what_the_whole_batch_draws(cut: int) -> None:
    settings = AugmentSettings(noise_probability=0.9, elastic_probability=0.8, offset=20.0, scanner_probability=0.7)
    augmenter = Augmenter(settings, 8)
    patches = torch.rand(24, 8, 8, 8) * 2 - 1
    whole = augmenter.views(patches, (1, 1), 0, 24)
    parts = [augmenter.views(patches[:cut], (1, 1), 0, 24), augmenter.views(patches[cut:], (1, 1), cut, 24)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)


def test_a_subjects_patches_share_one_transform_at_graph_level() -> None:
    augmenter = Augmenter(AugmentSettings(noise_probability=0.0, gamma_probability=0.0), 16)
    one = torch.rand(16, 16, 16)
    patches = torch.stack([one, one, 2 * one])
    view = augmenter.subject_view(patches, (0, 1))
    torch.testing.assert_close(view[0], view[1])
    torch.testing.assert_close(view[2], 2 * view[0], rtol=1e-5, atol=1e-6)
    assert not torch.equal(view[0], augmenter.subject_view(patches, (0, 2))[0])


@pytest.mark.parametrize("padding", ["border", "reflection"])
@pytest.mark.parametrize("side", [32, 9, 2])
def test_patches_resampled_together_equal_torchs_grid_sample(padding: Padding, side: int) -> None:
    random = torch.Generator().manual_seed(3)
    patches = torch.rand(5, side, side, side, generator=random)
    grid = 3.0 * torch.rand(1, side, side, side, 3, generator=random) - 1.5  # a third of it outside
    theirs = torch.nn.functional.grid_sample(patches[None], grid, padding_mode=padding, align_corners=False)[0]
    torch.testing.assert_close(resample_together(patches, grid[0], padding), theirs, rtol=0, atol=3e-5)


def test_impossible_settings_are_refused() -> None:
    for values in (
        {"shift": -1.0},
        {"smooth_low": 9.0, "smooth_high": 8.0},
        {"scale": 1.5},
        {"gamma_low": 0.0},
        {"gain": 1.0},
        {"thickness": -1.0},
        {"scanner_probability": 1.1},
    ):
        with pytest.raises(UserError):
            AugmentSettings(**values)  # type: ignore[arg-type]
