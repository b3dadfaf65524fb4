"""The 3D U-Net of Models Genesis, its modules named as in the authors' file so that their weights load."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 32
"""Channels of the first convolution in the authors' network; its encoder ends with 16 times as many."""


class _Layer(nn.Module):
    """Convolution 3×3×3, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel_size=3, padding=1)
        self.bn1 = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.bn1(self.conv1(x)))


class _Level(nn.Module):
    """Two layers of a level of the encoder."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(_Layer(inputs, middle), _Layer(middle, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.ops(x))


class _Up(nn.Module):
    """A level of the decoder: doubled in size, joined with the encoder's map, two layers."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, kernel_size=2, stride=2)
        self.ops = nn.Sequential(_Layer(inputs + skip, outputs), _Layer(outputs, outputs))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.as_tensor(self.ops(torch.cat([self.up_conv(x), skip], dim=1)))


class _Out(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.final_conv = nn.Conv3d(inputs, 1, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.final_conv(x))


class GenesisUNet(nn.Module):
    """U-Net of four levels with ``width``·2, 4, 8 and 16 channels."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        w = width
        self.down_tr64 = _Level(1, w, 2 * w)
        self.down_tr128 = _Level(2 * w, 2 * w, 4 * w)
        self.down_tr256 = _Level(4 * w, 4 * w, 8 * w)
        self.down_tr512 = _Level(8 * w, 8 * w, 16 * w)
        self.up_tr256 = _Up(16 * w, 8 * w, 8 * w)
        self.up_tr128 = _Up(8 * w, 4 * w, 4 * w)
        self.up_tr64 = _Up(4 * w, 2 * w, 2 * w)
        self.out_tr = _Out(2 * w)
        self.features = 16 * w

    def encode(self, x: Tensor) -> list[Tensor]:
        """Maps of the four levels, finest first: (B, 1, D, H, W) to (B, 2w, D, …) … (B, 16w, D/8, …)."""
        maps = [self.down_tr64(x)]
        for level in (self.down_tr128, self.down_tr256, self.down_tr512):
            maps.append(level(nn.functional.max_pool3d(maps[-1], 2)))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """The restored volume: (B, 1, D, H, W) in [0, 1] to the same; D, H and W are multiples of 8."""
        first, second, third, last = self.encode(x)
        up = self.up_tr64(self.up_tr128(self.up_tr256(last, third), second), first)
        return torch.as_tensor(self.out_tr(up))

    def pooled(self, x: Tensor) -> Tensor:
        """(B, 16w): the mean over the voxels of the encoder's last map."""
        return self.encode(x)[-1].mean(dim=(2, 3, 4))
