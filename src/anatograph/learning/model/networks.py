"""C, f_l and G of the supplement's Tables 1 to 3.

Letters in shapes: B patches, S subjects, N landmarks, F features, P patch side, E edges.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anatograph.learning.model.config import ModelConfig, Norm
from anatograph.learning.model.density import THRESHOLDS, CumulativeHistogram
from anatograph.learning.model.graphs import Graphs
from anatograph.learning.model.norm_elu import applies, norm_elu

STAGES: tuple[tuple[int, tuple[int, ...]], ...] = ((8, (1, 2)), (16, (1, 1, 2)), (32, (1, 1, 2)), (64, (1, 1, 2)))
"""Table 1: channels, and the stride of each 3x3x3 convolution; a last stage of (F, (1, 2)) follows."""


def _norm3d(kind: Norm, channels: int) -> nn.Module:
    """Normalisation of a (B, C, D, H, W) map."""
    if kind == "batch":
        return nn.BatchNorm3d(channels)
    if kind == "group":
        # Groups of eight channels: the first stage is one group, so that a patch's overall density stays readable
        # in the balance between its channels, which normalising each channel alone would erase.
        return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)
    return nn.Identity()


class ConvLayer(nn.Module):
    """One row of Table 1: Conv3D 3x3x3 with bias and padding 1, normalisation, ELU."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=1)
        self.norm = _norm3d(norm, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) to (B, outputs, ceil(D/stride), ceil(H/stride), ceil(W/stride))."""
        if not self.training and isinstance(self.norm, nn.BatchNorm3d):
            # With fixed statistics BatchNorm is a scale and a shift, which can be folded into the convolution.
            weight, bias = folded(self.conv, self.norm)
            return F.elu_(F.conv3d(x, weight, bias, self.conv.stride, self.conv.padding))
        x = self.conv(x)
        if applies(self.norm, x):
            return norm_elu(x, self.norm)
        x = self.norm(x)
        # In place is safe: normalisation saves its input for the backward pass, and ELU needs only its own output.
        return F.elu(x) if isinstance(self.norm, nn.Identity) else F.elu_(x)


def folded(conv: nn.Conv3d, norm: nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that equals ``conv`` followed by ``norm`` in evaluation mode."""
    if norm.running_mean is None or norm.running_var is None or conv.bias is None:
        raise ValueError("folding needs a convolution with bias and a BatchNorm with running statistics")
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None, None], (conv.bias - norm.running_mean) * scale + norm.bias


def _mean_std(x: Tensor) -> Tensor:
    """Mean and standard deviation over the voxels of each channel: (B, C, D, H, W) to (B, 2C)."""
    variance, mean = torch.var_mean(x.flatten(2), dim=2, correction=0)
    return torch.cat([mean, torch.sqrt(variance + 1e-5)], dim=1)


def unsound_in_bf16(x: Tensor) -> bool:
    """Whether a convolution of the map x (B, C, D, H, W) must not run in bfloat16: autocast on a CPU, two voxels wide.

    There oneDNN 3.12 (torch 2.13) adds uninitialised memory to the weights' gradient: wrong by any amount, or not
    finite, while the loss is right. Wider maps are sound; `tests/learning/test_bf16.py` tests both.
    """
    return x.device.type == "cpu" and x.shape[-1] <= 2 and torch.is_autocast_enabled("cpu")


def _in_float32(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` without autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.as_tensor(module(x.float()))


class PatchEncoder(nn.Module):
    """C of Table 1: thirteen convolutions, from a patch to F numbers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pooling = config.pooling
        coarse = config.pooling == "mean_std"
        self.density = CumulativeHistogram(config.hu_low, config.hu_high) if config.density else None
        learnt = config.feature_size - (len(THRESHOLDS) if config.density else 0)
        last = learnt // 2 if coarse else learnt
        self.stages = nn.ModuleList()
        inputs = 1
        for channels, strides in STAGES:
            # The coarse ending drops the last two strides, so that statistics are taken over 4x4x4 voxels.
            used = strides[:-1] + ((1,) if coarse and channels == STAGES[-1][0] else strides[-1:])
            layers: list[nn.Module] = []
            for stride in used:
                layers.append(ConvLayer(inputs, channels, stride, config.norm))
                inputs = channels
            self.stages.append(nn.Sequential(*layers))
        self.stages.append(
            nn.Sequential(
                ConvLayer(inputs, config.feature_size, 1, config.norm),
                ConvLayer(config.feature_size, last, 1 if coarse else 2, config.norm),
            )
        )
        widths = [channels for channels, _ in STAGES]
        self.location = FiLM(config.location_code_size, widths) if config.film else None
        statistics = 2 * sum(channels for channels, _ in STAGES) + learnt
        self.mix = nn.Linear(statistics, learnt) if config.pooling == "multiscale" else None
        # Measured: a training step costs a third less than in the default layout, with the same results.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, x: Tensor, codes: Tensor | None = None) -> Tensor:
        """Windowed patches (B, 1, P, P, P) in [-1, 1] to features (B, F).

        With P = 32 the last map is one voxel, as in the table; a larger patch leaves several, which are averaged.
        ``codes`` (B, 3) are the location codes, needed where they modulate the stages.
        """
        learnt = self.learnt(x, codes)
        return learnt if self.density is None else torch.cat([learnt, self.density(x).to(learnt.dtype)], dim=1)

    def learnt(self, x: Tensor, codes: Tensor | None = None) -> Tensor:
        """`forward` without the density histogram."""
        found: list[Tensor] = []
        modulation = None if self.location is None else self.location(codes)
        for number, stage in enumerate(self.stages):
            x = _in_float32(stage, x) if unsound_in_bf16(x) else stage(x)
            if number == len(STAGES):
                break
            if modulation is not None:
                scale, shift = modulation[number]
                x = torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))
            if self.mix is not None:
                found.append(_mean_std(x))
        if self.pooling == "mean_std":
            return _mean_std(x)
        last = x.mean(dim=(2, 3, 4))
        return last if self.mix is None else self.mix(torch.cat([*found, last], dim=1))


class FiLM(nn.Module):
    """A scale and a shift for each channel of each stage as functions of the location code: 1 and 0 at first."""

    def __init__(self, codes: int, widths: Sequence[int], hidden: int = 64) -> None:
        """``codes``: length of a location code; ``widths``: channels of each stage."""
        super().__init__()
        self.widths = list(widths)
        self.hidden = nn.Linear(codes, hidden)
        self.out = nn.Linear(hidden, 2 * sum(widths))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, codes: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Codes (B, 3) to the scale and shift (B, C, 1, 1, 1) of each stage."""
        if codes is None:
            raise ValueError("an encoder whose stages are modulated by location needs the location codes")
        with torch.autocast(codes.device.type, enabled=False):
            both = self.out(F.relu(self.hidden(2.0 * codes.float() - 1.0)))[:, :, None, None, None]
        parts = both.split([width for width in self.widths for _ in range(2)], dim=1)
        return [(1.0 + scale, shift) for scale, shift in zip(parts[::2], parts[1::2], strict=True)]


class ProjectionHead(nn.Module):
    """Dense layers with ReLU between: f_l of Table 2 (131, 131, 131, 128) and f_g of Table 3 (128 all through)."""

    def __init__(self, inputs: int, outputs: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs if i == layers - 1 else inputs) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        for i, layer in enumerate(self.layers):
            x = layer(F.relu(x) if i else x)
        return x


class GraphNetwork(nn.Module):
    """G of Table 3 without its head: one graph convolution (eq. 6), normalisation, ELU.

    The parameters are those of ``torch_geometric.nn.GCNConv``: H' = D^-1/2 (A + I) D^-1/2 H Wᵀ + b. With ``own`` each
    node's own feature has separate weights, + H Vᵀ, so that a region can differ from the mean of its neighbourhood.
    """

    def __init__(self, features: int, norm: Norm = "batch", own: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, features))
        self.bias = nn.Parameter(torch.zeros(features))
        nn.init.xavier_uniform_(self.weight)
        self.own_weight: nn.Parameter | None = None
        if own:
            self.own_weight = nn.Parameter(torch.empty(features, features))
            nn.init.xavier_uniform_(self.own_weight)
        self.norm: nn.Module = nn.Identity()
        if norm == "batch":
            self.norm = nn.BatchNorm1d(features)
        elif norm == "group":
            self.norm = nn.LayerNorm(features)

    def forward(self, h: Tensor, graphs: Graphs) -> Tensor:
        """Patch features h (S, N, F) and their graphs to node features (S, N, F).

        A landmark that a subject lacks sends nothing, counts in no statistics, and comes out as zeros.
        """
        return self.nodes(self.gather(h, graphs), graphs.present)

    def gather(self, h: Tensor, graphs: Graphs) -> Tensor:
        """Message passing, before W: where h is frozen (the graph stage) this part needs no backward pass.

        h (S, N, F) to (S, N, F), or to (S, N, 2F) with each node's own feature appended.
        """
        found = graphs.propagate(h)
        if self.own_weight is None:
            return found
        own = h if graphs.present is None else h.masked_fill(~graphs.present[..., None], 0.0)
        return torch.cat([found, own], dim=-1)

    def nodes(self, gathered: Tensor, present: Tensor | None) -> Tensor:
        """The part after `gather`: gathered (S, N, F or 2F), present (S, N) or None for all, to nodes (S, N, F)."""
        weight = self.weight if self.own_weight is None else torch.cat([self.weight, self.own_weight], dim=1)
        x = F.linear(gathered, weight, self.bias)
        if present is None:
            rows = self.norm(x.flatten(0, -2))
            return F.elu(rows).view_as(x)
        rows = F.elu(self.norm(x[present]))
        return x.new_zeros(x.shape).masked_scatter(present[..., None].expand_as(x), rows.to(x.dtype))


def pool_nodes(nodes: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean over the landmarks a subject has: nodes (S, N, F), present (S, N) bool, to (S, F) (eq. 7)."""
    if present is None:
        return nodes.mean(dim=-2)
    weight = present.to(nodes.dtype)[..., None]
    kept = torch.where(present[..., None], nodes, torch.zeros((), dtype=nodes.dtype, device=nodes.device))
    return kept.sum(dim=-2) / weight.sum(dim=-2).clamp(min=1.0)
