"""Random views of whole batches, on the model's device, with one resampling a view.

Statistically the published transforms (contrast, then noise, then elastic and affine together; MONAI's
``RandAdjustContrast``, ``RandGaussianNoise``, ``Rand3DElastic``), drawn for a batch at once.

Letters in shapes: B patches, G transforms (one per patch or per subject), P patch side, R terms of the smooth basis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from anatograph.errors import UserError
from anatograph.learning.contrast.deformation import SIGMAS, Padding, affine, resample_together, smooth_bases
from anatograph.learning.contrast.scanner import kernel, smoothing, through
from anatograph.learning.model.windowing import HU_WINDOW
from anatograph.learning.seeding import generator

_NOISE_BLOCK = 8


@dataclass(frozen=True)
class AugmentSettings:
    """How a view is drawn from a patch. The defaults are those of the published code."""

    elastic_probability: float = 1.0
    """Share of views that are deformed (elastic and affine together)."""
    smooth_low: float = 8.0
    """Least standard deviation, in voxels, of the Gaussian that smooths the random displacements."""
    smooth_high: float = 12.0
    """Greatest standard deviation of that Gaussian."""
    displacement_low: float = 0.0
    """Least factor on the smoothed displacements (uniform noise in ±1 voxel before smoothing)."""
    displacement_high: float = 1264.0
    """Greatest factor; 1264 gives displacements with a standard deviation of about 0 to 3.5 voxels."""
    rotate: float = 10.0
    """Rotation about each axis, uniform in ± this many degrees."""
    scale: float = 0.1
    """Scaling of each axis, uniform in 1 ± this."""
    shift: float = 12.0
    """Shift along each axis, uniform in ± this many voxels."""
    padding: Padding = "border"
    """What lies outside a stored patch: its border voxels repeated, or its mirror image."""
    noise: float = 50.0
    """Noise in HU: each noisy view draws its standard deviation uniformly from 0 to this."""
    noise_probability: float = 0.25
    """Share of views with noise."""
    gamma_low: float = 0.5
    """Least exponent of the contrast change, applied between the patch's own minimum and maximum."""
    gamma_high: float = 4.5
    """Greatest exponent."""
    gamma_probability: float = 0.25
    """Share of views with changed contrast. The exponent erases density, so the default preset does without."""
    offset: float = 0.0
    """Each view is made lighter or darker by a uniform ± this many HU, as scanners differ (0 in the paper)."""
    scanner_probability: float = 0.0
    """Share of views that another scanner shows: kernel, slice thickness, gain and grain of the noise drawn together
    (`anatograph.learning.contrast.scanner`; 0 in the paper)."""
    smooth_kernel: float = 1.0
    """Greatest standard deviation in mm of a smooth reconstruction kernel."""
    sharp_kernel: float = 1.5
    """Greatest share of detail that a sharp kernel adds."""
    thickness: float = 5.0
    """Greatest slice thickness in mm; drawn uniformly from 0."""
    gain: float = 0.03
    """HU above -1000 are multiplied by 1 ± at most this."""
    subject_transform: bool = True
    """At graph level all patches of a subject share one deformation and one noise and contrast draw, as published."""

    def __post_init__(self) -> None:
        for name in ("elastic_probability", "noise_probability", "gamma_probability", "scanner_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"augment.{name} is a share of views between 0 and 1, not {getattr(self, name)}.")
        for low, high in (
            ("smooth_low", "smooth_high"),
            ("displacement_low", "displacement_high"),
            ("gamma_low", "gamma_high"),
        ):
            if not 0.0 <= getattr(self, low) <= getattr(self, high):
                raise UserError(
                    f"augment.{low}={getattr(self, low)} and augment.{high}={getattr(self, high)} must be "
                    "0 or more and in this order."
                )
        if self.smooth_low < 1.0 or self.gamma_low <= 0.0:
            raise UserError("augment.smooth_low must be at least 1 voxel and augment.gamma_low above 0.")
        if min(self.rotate, self.shift, self.noise, self.offset) < 0.0 or not 0.0 <= self.scale < 1.0:
            raise UserError("augment.rotate, shift, noise and offset must not be negative, and scale lies in [0, 1).")
        if min(self.smooth_kernel, self.sharp_kernel, self.thickness) < 0.0 or not 0.0 <= self.gain < 1.0:
            raise UserError(
                "augment.smooth_kernel, sharp_kernel and thickness must not be negative, and gain lies in [0, 1)."
            )
        if self.padding not in get_args(Padding):
            raise UserError(f"augment.padding must be one of {', '.join(get_args(Padding))}, not {self.padding!r}.")


class Augmenter:
    """Draws views without keeping a random state: every draw is a function of the seeds it is given."""

    def __init__(
        self,
        settings: AugmentSettings,
        patch_size: int = 32,
        device: torch.device | str = "cpu",
        window: tuple[float, float] = HU_WINDOW,
    ) -> None:
        self.settings = settings
        self.patch_size = patch_size
        self.device = torch.device(device)
        self._per_hu = 2.0 / (window[1] - window[0])
        self._air = (-1000.0 - window[0]) * self._per_hu - 1.0
        """Length of a HU in the windowed scale."""
        self.bases = smooth_bases(settings.smooth_low, settings.smooth_high, patch_size).to(self.device)
        self._axis = torch.arange(patch_size, dtype=torch.float32, device=self.device) - (patch_size - 1) / 2

    def views(self, patches: Tensor, seeds: tuple[int, ...], start: int = 0, total: int | None = None) -> Tensor:
        """One view of each patch: windowed float patches (B, P, P, P) to (B, P, P, P).

        ``seeds`` name the draw (run seed, level, step, view). The patches are rows ``start`` to ``start + B`` of a
        batch of ``total``, so that a process with a part of a batch draws the same views as one with all of it.
        """
        rows = patches.shape[0]
        total = rows if total is None else total
        x = self._intensity(patches, seeds, start, total, rows)
        grid, moved = self._grids(seeds, total, slice(start, start + rows))
        out = F.grid_sample(x[:, None], grid, mode="bilinear", padding_mode=self.settings.padding, align_corners=False)
        return (
            torch.where(moved.to(x.device)[:, None, None, None], out[:, 0], x)
            if self.settings.elastic_probability < 1
            else out[:, 0]
        )

    def subject_view(self, patches: Tensor, seeds: tuple[int, ...]) -> Tensor:
        """One view of all of a subject's patches (N, P, P, P), one transform for all of them (the published code)."""
        if not self.settings.subject_transform:
            return self.views(patches, seeds)
        x = self._intensity(patches, seeds, 0, 1, 1)
        grid, moved = self._grids(seeds, 1, slice(0, 1))
        if not bool(moved[0]):
            return x
        return resample_together(x, grid[0], self.settings.padding)

    def _intensity(self, x: Tensor, seeds: tuple[int, ...], start: int, total: int, groups: int) -> Tensor:
        """Contrast, offset and noise; the input is never changed in place."""
        s = self.settings
        random = generator(*seeds, 1)
        u = torch.rand(total, 5, generator=random)[start : start + groups]
        out = x
        changed = torch.nonzero(u[:, 0] < s.gamma_probability)[:, 0]
        if len(changed):
            exponent = s.gamma_low + (s.gamma_high - s.gamma_low) * u[changed, 1].to(x.device)
            if groups == x.shape[0]:
                out = x.clone()
                out[changed] = power(x[changed], exponent)
            else:
                out = power(x[None], exponent)[0]
        noise, std = None, None
        if s.noise > 0 and s.noise_probability > 0:
            std = torch.where(u[:, 2] < s.noise_probability, u[:, 3] * (s.noise * self._per_hu), 0.0)
            if bool((std > 0).any()):  # looked at on the CPU, so that nothing waits for a GPU
                std = std.to(x.device)[:, None, None, None]
                noise = self._noise(seeds, start if groups == x.shape[0] else 0, x.shape)
        if s.scanner_probability > 0:
            out = self._as_scanned(out, noise, std, generator(*seeds, 3), total, slice(start, start + groups))
        if s.offset > 0:
            shift = (2 * u[:, 4] - 1) * (s.offset * self._per_hu)
            out = out + shift.to(x.device)[:, None, None, None]
        if noise is not None and std is not None and not s.scanner_probability > 0:
            out = torch.addcmul(out, noise, std)
        return out

    def _as_scanned(
        self, x: Tensor, noise: Tensor | None, std: Tensor | None, random: torch.Generator, total: int, rows: slice
    ) -> Tensor:
        """x with noise, and then the kernel, thickness and gain of another scanner, whose grain the noise gets.

        The noise is white before; it is divided by what the kernel leaves of it, so that ``std`` remains.
        """
        s, side = self.settings, self.patch_size
        u = torch.rand(total, 4, generator=random)[rows].to(x.device)
        other = (u[:, 0] < s.scanner_probability).to(x.dtype)
        in_plane = kernel((2 * u[:, 1] - 1) * other, side, s.smooth_kernel, s.sharp_kernel)
        along = smoothing(u[:, 2] * other * (s.thickness / math.sqrt(12.0)), side)
        if noise is not None and std is not None:
            left = in_plane.square().sum(dim=2)[:, side // 2] * along.square().sum(dim=2)[:, side // 2].sqrt()
            x = torch.addcmul(x, noise, std / left[:, None, None, None])
        gain = (1.0 + (2 * u[:, 3] - 1) * s.gain * other)[:, None, None, None]
        return self._air + (through(x, in_plane, along) - self._air) * gain

    def _noise(self, seeds: tuple[int, ...], start: int, shape: torch.Size) -> Tensor:
        """Standard normal numbers for rows ``start``… of a batch, drawn in blocks so that parts of a batch agree."""
        first, last = start // _NOISE_BLOCK, (start + shape[0] - 1) // _NOISE_BLOCK
        blocks = [
            torch.randn(
                (_NOISE_BLOCK, *shape[1:]),
                generator=generator(*seeds, 2, block, device=self.device),
                device=self.device,
            )
            for block in range(first, last + 1)
        ]
        skip = start - first * _NOISE_BLOCK
        return torch.cat(blocks)[skip : skip + shape[0]] if len(blocks) > 1 else blocks[0][skip : skip + shape[0]]

    def _grids(self, seeds: tuple[int, ...], total: int, rows: slice) -> tuple[Tensor, Tensor]:
        """Sampling grids (G, P, P, P, 3) in [-1, 1], x first, and which rows are deformed (G,) bool on the CPU."""
        s = self.settings
        rank = self.bases.shape[-1]
        random = generator(*seeds, 0)
        # Drawn for the whole batch, so that every process draws the same numbers; they are few.
        u = torch.rand(total, 12, generator=random)[rows]
        coefficients = torch.randn(total, 3, rank**3, generator=random)[rows].to(self.device)
        moved = u[:, 0] < s.elastic_probability
        which = (u[:, 1] * SIGMAS).long().clamp(max=SIGMAS - 1).to(self.device)
        magnitude = s.displacement_low + (s.displacement_high - s.displacement_low) * u[:, 2]
        signed = 2 * u[:, 3:] - 1
        linear, offset = affine(
            signed[:, 0:3] * math.radians(s.rotate), 1 + signed[:, 3:6] * s.scale, signed[:, 6:9] * s.shift
        )
        # Uniform noise in ±1 has variance 1/3; smoothed over hundreds of voxels its sum is normal.
        size = (magnitude / math.sqrt(3.0)).to(self.device)
        return self._compose(linear.to(self.device), offset.to(self.device), coefficients, size, which), moved

    def _compose(self, linear: Tensor, offset: Tensor, coefficients: Tensor, size: Tensor, which: Tensor) -> Tensor:
        """Source voxel of each voxel x: linear·(x + d(x)) + offset, as a normalised grid with x first."""
        side, groups = self.patch_size, linear.shape[0]
        rank = self.bases.shape[-1]
        basis = self.bases[which]  # (G, P, R)
        to_grid = 2.0 / side
        mixed = torch.bmm(linear, coefficients * size[:, None, None])  # the affine map acts on displacements too
        mixed = (mixed * to_grid).flip(1).reshape(groups, 3 * rank, rank * rank)
        linear, offset = (linear * to_grid).flip(1), (offset * to_grid).flip(1)
        # Axis by axis: (G, 3, R, R, R) to (G, 3, P, P, R), then the affine part joins as two more basis functions.
        first = torch.einsum("gzi,gcij->gczj", basis, mixed.view(groups, 3, rank, rank * rank))
        second = torch.einsum("gyj,gczjk->gczyk", basis, first.view(groups, 3, side, rank, rank))
        z, y = self._axis[:, None], self._axis[None, :]
        plane = (
            linear[:, :, 0, None, None] * z + linear[:, :, 1, None, None] * y + offset[:, :, None, None]
        )  # (G, 3, P, P)
        slope = linear[:, :, 2, None, None].expand_as(plane)
        left = torch.cat([second, plane[..., None], slope[..., None]], dim=-1).view(groups, 3 * side * side, rank + 2)
        last = torch.cat(
            [basis, torch.ones_like(basis[..., :1]), self._axis[None, :, None].expand_as(basis[..., :1])], -1
        )
        grid = torch.bmm(left, last.transpose(1, 2)).view(groups, 3, side, side, side)
        return grid.permute(0, 2, 3, 4, 1)


def power(x: Tensor, exponent: Tensor) -> Tensor:
    """Contrast of rows of x (G, ...) changed by a power between each row's own minimum and maximum, which stay."""
    flat = x.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    span = high - low
    changed = ((flat - low) / (span + 1e-7)).clamp_(min=0.0).pow_(exponent[:, None])
    return changed.mul_(span).add_(low).view_as(x)
