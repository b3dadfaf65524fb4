"""C, f_l and f_g against the supplement's tables and against a plain build of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from anatograph.learning.model.config import MODEL_PRESETS, ModelConfig
from anatograph.learning.model.networks import ConvLayer, PatchEncoder, ProjectionHead, pool_nodes
from anatograph.learning.model.norm_elu import applies, norm_elu

# Table 1, row by row: channels, stride, side of the output.
TABLE_1 = [
    (8, 1, 32), (8, 2, 16),
    (16, 1, 16), (16, 1, 16), (16, 2, 8),
    (32, 1, 8), (32, 1, 8), (32, 2, 4),
    (64, 1, 4), (64, 1, 4), (64, 2, 2),
    (128, 1, 2), (128, 2, 1),
]  # fmt: skip


def randomised(encoder: PatchEncoder, seed: int = 0) -> PatchEncoder:
    """Every weight and statistic away from where it starts, so that none can be forgotten unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in encoder.state_dict().items():
            if "norm" in name and value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + (0.5 if "mean" not in name else -0.3))
    return encoder


def plain_table_1(encoder: PatchEncoder) -> nn.Sequential:
    """Table 1 with torch's own layers, one after the other, carrying the weights of ``encoder``."""
    plain: list[nn.Module] = []
    inputs = 1
    for channels, stride, _ in TABLE_1:
        plain += [nn.Conv3d(inputs, channels, 3, stride, 1), nn.BatchNorm3d(channels), nn.ELU()]
        inputs = channels
    network = nn.Sequential(*plain, nn.Flatten())
    network.load_state_dict(dict(zip(network.state_dict(), encoder.state_dict().values(), strict=True)))
    return network


def patches(count: int, side: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, side, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_sizes_are_those_of_table_1() -> None:
    encoder = PatchEncoder(ModelConfig())
    seen: list[tuple[int, int, int]] = []
    for layer in encoder.modules():
        if isinstance(layer, ConvLayer):
            assert layer.conv.bias is not None
            assert layer.conv.kernel_size == (3, 3, 3)
            layer.register_forward_hook(
                lambda m, _, out: seen.append((out.shape[1], m.conv.stride[0], out.shape[2]))  # type: ignore[arg-type]
            )
    assert encoder(patches(2)).shape == (2, 128)
    assert seen == TABLE_1
    channels = [1] + [row[0] for row in TABLE_1]
    weights = sum(27 * i * o + o + 2 * o for i, o in pairwise(channels))
    assert sum(p.numel() for p in encoder.parameters()) == weights


def test_in_evaluation_mode_it_equals_a_plain_build_of_the_table() -> None:
    encoder = randomised(PatchEncoder(ModelConfig())).eval()
    x = patches(6)
    torch.testing.assert_close(encoder(x), plain_table_1(encoder).eval()(x), atol=1e-5, rtol=1e-5)


def test_in_training_mode_it_equals_a_plain_build_in_double_precision() -> None:
    encoder = randomised(PatchEncoder(ModelConfig())).train()
    plain = plain_table_1(encoder).double().train()
    x = patches(16)
    # Thirteen normalisations by the batch, the last over 16 numbers, multiply float32's rounding.
    torch.testing.assert_close(encoder(x).double(), plain(x.double()), atol=1e-4, rtol=0)
    for ours, theirs in zip(encoder.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours.to(theirs.dtype), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("channels", "side"), [(8, 32), (16, 16), (12, 20)])
def test_norm_elu_is_batchnorm_and_elu_to_float32_rounding(channels: int, side: int) -> None:
    torch.manual_seed(0)
    x = (torch.randn(9, channels, side, side, side) * 2 + 0.5).contiguous(memory_format=torch.channels_last_3d)
    x, gradient = x.requires_grad_(), torch.randn_like(x)
    norm, exact = nn.BatchNorm3d(channels), nn.BatchNorm3d(channels).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-1, 1)
    exact.load_state_dict(norm.state_dict())
    assert applies(norm, x)
    ours, theirs = norm_elu(x, norm), F.elu(exact(x.double()))
    torch.testing.assert_close(ours.double(), theirs, atol=3e-6, rtol=0)
    mine = torch.autograd.grad(ours, (x, norm.weight, norm.bias), gradient)
    true = torch.autograd.grad(theirs, (x, exact.weight, exact.bias), gradient.double())
    for one, other in zip(mine, true, strict=True):
        torch.testing.assert_close(
            one.double() / other.abs().max(), other.double() / other.abs().max(), atol=2e-6, rtol=0
        )
    for one, other in zip(norm.buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(one.to(other.dtype), other, atol=1e-6, rtol=1e-6)


def test_gradients_equal_those_of_a_plain_build() -> None:
    # In double precision, where thirteen normalisations by a small batch do not blow up the rounding; the float32
    # path differs from this one by `norm_elu` alone, which has its own test.
    encoder = randomised(PatchEncoder(ModelConfig())).double().train()
    plain = plain_table_1(encoder).double().train()
    x = patches(4).double()
    encoder(x).square().sum().backward()
    plain(x).square().sum().backward()
    for (name, ours), theirs in zip(encoder.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-9, rtol=1e-9, msg=name)


def test_folded_batchnorm_still_gives_gradients_in_evaluation_mode() -> None:
    encoder = randomised(PatchEncoder(ModelConfig())).eval()
    plain = plain_table_1(encoder).eval()
    x, y = patches(2).requires_grad_(), patches(2).requires_grad_()
    encoder(x).sum().backward()
    plain(y).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-3)


def test_every_pooling_and_norm_gives_features_of_the_asked_size() -> None:
    for settings in (
        ModelConfig(pooling="mean_std"),
        ModelConfig(pooling="multiscale"),
        ModelConfig(pooling="multiscale", density=True),
        ModelConfig(pooling="mean_std", density=True),
        ModelConfig(density=True),
        ModelConfig(norm="group"),
        ModelConfig(norm="none", feature_size=64),
    ):
        encoder = PatchEncoder(settings)
        features = encoder(patches(3))
        assert features.shape == (3, settings.feature_size)
        features.sum().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in encoder.parameters())


def test_mean_std_pooling_is_mean_and_standard_deviation_of_the_last_map() -> None:
    encoder = PatchEncoder(ModelConfig(pooling="mean_std")).eval()
    maps: list[torch.Tensor] = []
    encoder.stages[-1].register_forward_hook(lambda *args: maps.append(args[2].detach().clone()))
    with torch.no_grad():
        features = encoder(patches(2)).numpy()
    last = maps[0].numpy().astype(np.float64)
    assert last.shape == (2, 64, 4, 4, 4)
    expected = np.concatenate([last.mean((2, 3, 4)), np.sqrt(last.var((2, 3, 4)) + 1e-5)], axis=1)
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_group_norm_makes_a_feature_independent_of_its_batch() -> None:
    encoder = PatchEncoder(ModelConfig(norm="group")).train()
    x = patches(4)
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", [16, 20, 48])
def test_other_patch_sizes_work(side: int) -> None:
    assert PatchEncoder(ModelConfig(patch_size=side))(patches(2, side)).shape == (2, 128)


def test_projection_head_is_table_2() -> None:
    head = ProjectionHead(131, 128, MODEL_PRESETS["paper"].projection_layers)
    assert [tuple(layer.weight.shape) for layer in head.layers] == [(131, 131), (131, 131), (128, 131)]
    x = torch.randn(5, 131)
    first, second, third = (layer for layer in head.layers)
    torch.testing.assert_close(head(x), third(F.relu(second(F.relu(first(x))))))
    assert len(ProjectionHead(131, 128, MODEL_PRESETS["reference"].projection_layers).layers) == 2


def test_pooling_counts_only_landmarks_that_are_present() -> None:
    nodes = torch.randn(2, 5, 3)
    present = torch.tensor([[True, True, False, True, False], [True] * 5])
    spoiled = nodes.masked_fill(~present[..., None], float("nan"))
    pooled = pool_nodes(spoiled, present)
    torch.testing.assert_close(pooled[0], nodes[0, [0, 1, 3]].mean(0))
    torch.testing.assert_close(pooled[1], nodes[1].mean(0))
