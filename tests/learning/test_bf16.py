"""bfloat16 on processors: right whatever lay in memory before, and close to float32."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.networks import PatchEncoder
from anatograph.learning.model.norm_elu import applies, norm_elu
from anatograph.learning.training.launch import bf16_on_processor

M_PERTURB = -6


@contextmanager
def dirty_memory(fill: int) -> Iterator[None]:
    """Let glibc fill every block it hands out with the byte ``fill``; 0x7F makes bfloat16 of 3e38."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        pytest.skip("needs glibc's mallopt")
    assert mallopt(M_PERTURB, fill ^ 0xFF)
    try:
        yield
    finally:
        mallopt(M_PERTURB, 0)


def encoder_gradients(patches: Tensor, autocast: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    encoder = PatchEncoder(ModelConfig()).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        features = encoder(patches)
    features.float().square().mean().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def patches() -> Tensor:
    return torch.randn(6, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def test_the_encoders_gradients_do_not_depend_on_what_lay_in_memory(patches: Tensor) -> None:
    clean = encoder_gradients(patches, autocast=True)
    with dirty_memory(0x7F):
        dirty = encoder_gradients(patches, autocast=True)
    for name, gradient in clean.items():
        assert torch.isfinite(gradient).all(), name
        assert torch.equal(gradient, dirty[name]), name


def conv_gradient(side: int, stride: int, channels: tuple[int, int]) -> Tensor:
    random = torch.Generator().manual_seed(2)
    x = torch.randn(6, channels[0], side, side, side, generator=random).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last_3d)
    weight = torch.randn(channels[1], channels[0], 3, 3, 3, generator=random).bfloat16().requires_grad_()
    y = F.conv3d(x, weight, None, stride, 1)
    y.backward(torch.randn(y.shape, generator=random).bfloat16())
    assert weight.grad is not None
    return weight.grad


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [3, 4, 5, 8])
def test_convolutions_of_wider_maps_are_sound(side: int, stride: int) -> None:
    # Two voxels wide and less is where oneDNN reads uninitialised memory; the encoder computes those in float32.
    clean = conv_gradient(side, stride, (16, 32))
    with dirty_memory(0x7F):
        dirty = conv_gradient(side, stride, (16, 32))
    assert torch.equal(clean, dirty)


def test_bf16_gradients_point_where_those_of_float32_do(patches: Tensor) -> None:
    exact, rounded = encoder_gradients(patches, autocast=False), encoder_gradients(patches, autocast=True)
    for name in exact:
        if name.endswith("conv.bias"):
            continue  # BatchNorm takes the mean away: these gradients are rounding alone
        cosine = F.cosine_similarity(exact[name].flatten(), rounded[name].flatten(), dim=0)
        assert cosine > 0.98, (name, float(cosine))


def test_batchnorm_and_elu_in_bf16_are_those_of_float32_rounded_once() -> None:
    torch.manual_seed(3)
    norm = torch.nn.BatchNorm3d(16).train()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.5, 0.5)
    x = (3 * torch.randn(8, 16, 16, 16, 16) + 1).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    other = torch.nn.BatchNorm3d(16).train()
    other.load_state_dict(norm.state_dict())
    assert applies(norm, x)
    one, two = x.clone().requires_grad_(), x.double().requires_grad_()
    ours, theirs = norm_elu(one, norm), F.elu(other.double()(two))
    given = torch.randn(x.shape).bfloat16()
    ours.backward(given)
    theirs.backward(given.double())
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), theirs, rtol=2**-8, atol=2**-9)
    assert one.grad is not None
    assert two.grad is not None
    assert (one.grad.double() - two.grad).norm() / two.grad.norm() < 0.006
    torch.testing.assert_close(norm.running_var.double(), other.running_var, rtol=1e-5, atol=0)
    assert norm.weight.grad is not None
    assert other.weight.grad is not None
    torch.testing.assert_close(norm.weight.grad.double(), other.weight.grad, rtol=0.01, atol=1.0)


def test_a_processor_that_imitates_bf16_is_not_given_it_by_itself() -> None:
    if not Path("/proc/cpuinfo").is_file():
        pytest.skip("no /proc/cpuinfo to compare with")
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert bf16_on_processor() == ("avx512_bf16" in flags or "amx_bf16" in flags)
