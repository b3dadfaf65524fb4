"""3D residual networks: MONAI's, and the dilated variant that MedicalNet's authors trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from anatograph.errors import UserError

Depth = Literal[10, 18, 34, 50]
DEPTHS: tuple[Depth, ...] = (10, 18, 34, 50)
_LAYERS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)


def resnet(
    depth: Depth, widths: Sequence[int] = WIDTHS, outputs: int = 0, shortcut: Literal["A", "B"] = "B"
) -> nn.Module:
    """MONAI's 3D ResNet: (B, 1, D, H, W) to (B, ``outputs``), or to its pooled features where ``outputs`` is 0.

    The first convolution and the pooling after it halve the volume, as in He et al. 2016 and MedicalNet.

    Raises:
        UserError: MONAI is not installed.
    """
    try:
        from monai.networks.nets.resnet import ResNet
    except ImportError as error:
        raise UserError(
            "This method needs MONAI's networks; install them with `pip install 'anatograph[baselines]'`."
        ) from error
    return cast(
        "nn.Module",
        ResNet(
            "bottleneck" if depth == 50 else "basic",
            list(_LAYERS[depth]),
            list(widths),
            n_input_channels=1,
            conv1_t_stride=2,
            shortcut_type=shortcut,
            bias_downsample=False,
            num_classes=max(outputs, 1),
            feed_forward=outputs > 0,
        ),
    )


def feature_count(depth: Depth, widths: Sequence[int] = WIDTHS) -> int:
    """Length of the pooled features of `resnet`."""
    return widths[3] * (4 if depth == 50 else 1)


def dilated_as_published(network: nn.Module) -> nn.Module:
    """Give the last two stages of `resnet` the dilation 2 and 4 in place of strides, as MedicalNet's authors did.

    The weights have the same names and shapes either way, so loading them would not reveal the difference. Modifies the
    network in place and returns it.
    """
    for stage, dilation in ((network.layer3, 2), (network.layer4, 4)):
        for block in cast("nn.Sequential", stage):
            for convolution in block.modules():
                if isinstance(convolution, nn.Conv3d):
                    convolution.stride = (1, 1, 1)
                    if convolution.kernel_size == (3, 3, 3):
                        convolution.dilation = convolution.padding = (dilation,) * 3
            shortcut: Any = block.downsample  # a module, a partial function, or None
            if isinstance(shortcut, partial):
                block.downsample = _ZeroPadded(shortcut.keywords["planes"])
    return network


class _ZeroPadded(nn.Module):
    """Shortcut of type A without a stride: new channels are zeros."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.planes = planes

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, planes, D, H, W)."""
        more = x.new_zeros(x.shape[0], self.planes - x.shape[1], *x.shape[2:])
        return torch.cat([x, more], dim=1)


def published_shape(tensors: Mapping[str, Tensor]) -> tuple[Depth, Literal["A", "B"], tuple[int, ...]] | None:
    """Depth, shortcut type and widths of a ResNet from its weights; None if they belong to another network."""
    blocks = tuple(
        len({name.split(".")[1] for name in tensors if name.startswith(f"layer{stage}.")}) for stage in range(1, 5)
    )
    bottleneck = "layer1.0.conv3.weight" in tensors
    shortcut: Literal["A", "B"] = "B" if "layer2.0.downsample.0.weight" in tensors else "A"
    for depth in DEPTHS:
        if _LAYERS[depth] == blocks and (depth == 50) == bottleneck:
            return depth, shortcut, tuple(int(tensors[f"layer{k}.0.conv1.weight"].shape[0]) for k in range(1, 5))
    return None
