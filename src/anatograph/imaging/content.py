"""What the voxels of a scan reveal: a masked background, everything but the lungs removed, two scans in one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.errors import UserError

AIR = -1024
"""HU of everything outside the patient and outside the scan."""
_NOT_AIR = -900
"""HU; no scanner writes a background above it."""
_AROUND = 0.5
"""Share of the voxels at the sides of a scan that must hold one value for it to be a masked background."""
_TISSUE_PER_LUNG = 0.35
"""Volume of soft tissue over that of lung; 1.1 to 2.7 in real scans, 0.1 where only the lungs were kept."""
_ALTERNATING = 1.05
"""Difference of neighbouring slices over that of every other one; 0.6 to 0.8 in real scans, 1 in pure noise."""
_NOISE_STEP = 0.15
"""Relative step of the noise level from slice to slice; 0.01 to 0.04 in real scans."""
_SLICES = 80
"""Slices looked at, in the middle of a scan."""


def clear_background(array: NDArray[np.int16]) -> tuple[str, ...]:
    """Make air of a masked background (HU, z, y, x, in place); what was found and done, in words.

    A background is one exact value above -900 HU that most voxels at the sides of the scan hold, as software leaves
    that multiplies a scan by a mask. Only regions of it that reach the side of their slice are changed, and
    none where only the lungs are left: it then stands for the tissue around them.
    """
    sides = np.concatenate([part.ravel() for part in (array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1])])
    values, counts = np.unique(sides, return_counts=True)
    value, share = int(values[counts.argmax()]), float(counts.max() / sides.size)
    if value <= _NOT_AIR or share < _AROUND:
        return ()
    stated = f"hold exactly {value} HU (a masked background)"
    tissue, lung = _tissue_and_lung(array[array != value])
    if tissue < _TISSUE_PER_LUNG * lung:
        everywhere = np.count_nonzero(array == value) / array.size
        return (
            f"{everywhere:.0%} of the voxels, all but the lungs, {stated}; patches at the rim of the lungs see it, so "
            "check the scan, or give the whole one",
        )
    changed = 0
    for plane in array:
        region = border_region(plane == value)
        plane[region] = AIR
        changed += int(np.count_nonzero(region))
    return (
        f"{changed / array.size:.0%} of the voxels, around the body, {stated}; they were taken as air, check the scan",
    )


def border_region(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask (y, x) that reach the border of the image."""
    labels, count = ndimage.label(mask)
    reached = np.zeros(count + 1, dtype=bool)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        reached[line] = True
    reached[0] = False
    return np.asarray(reached[labels])


def check_content(array: NDArray[np.int16], source: str) -> None:
    """Refuse a scan of which only the lungs are left, and slices of two scans in turn (HU, z, y, x)."""
    stride = max(1, round((array.size / 4e6) ** (1 / 3)))
    sample = array[::stride, ::stride, ::stride]
    tissue, lung = _tissue_and_lung(sample)
    if tissue < _TISSUE_PER_LUNG * lung:
        values, counts = np.unique(sample, return_counts=True)
        value, share = int(values[counts.argmax()]), float(counts.max() / sample.size)
        raise UserError(
            f"{source}: there is {tissue / lung:.2f} times as much soft tissue as lung, where a chest has more than 1, "
            f"and {share:.0%} of the voxels hold exactly {value} HU: everything but the lungs seems to have been "
            "masked out; give the whole scan, and the lungs as a mask beside it."
        )
    if reason := _alternates(array):
        raise UserError(
            f"{source}: its slices alternate between two images ({reason}), so two scans or reconstructions seem to be "
            "interleaved; give one of them."
        )


def _tissue_and_lung(values: NDArray[np.int16]) -> tuple[int, int]:
    """Number of voxels as dense as soft tissue, and as lung."""
    tissue = np.count_nonzero((values > -150) & (values < 200))
    return int(tissue), int(np.count_nonzero((values > -950) & (values < -500)))


def _alternates(array: NDArray[np.int16]) -> str:
    """Why odd and even slices seem to belong to two scans, or an empty string."""
    middle = len(array) // 2
    slab = array[max(0, middle - _SLICES // 2) : middle + _SLICES // 2]
    height, width = slab.shape[1:]
    slab = slab[:, height // 8 : height - height // 8, width // 8 : width - width // 8]
    coarse = slab[:, ::2, ::2].astype(np.int32)
    near = np.abs(np.diff(coarse, axis=0)).mean(axis=(1, 2))
    far = np.abs(coarse[2:] - coarse[:-2]).mean(axis=(1, 2))
    ratio = float(np.median(near[:-1] / np.maximum(far, 1e-6)))
    if ratio > _ALTERNATING:
        return f"neighbours differ {ratio:.1f} times as much as every other slice"
    noise = np.array([_noise(plane) for plane in slab])
    if len(noise) < 8 or not np.isfinite(noise).all() or noise.min() <= 0:
        return ""
    step = 2 * (noise[1:-1] - (noise[:-2] + noise[2:]) / 2) / (noise[1:-1] + (noise[:-2] + noise[2:]) / 2)
    signed = step * (-1.0) ** np.arange(len(step))
    level = float(np.median(signed))
    same = float((np.sign(signed) == np.sign(level)).mean())
    if abs(level) > _NOISE_STEP and same > 0.9:
        return f"the noise of odd and even slices differs by {abs(level):.0%}"
    return ""


def _noise(plane: NDArray[np.int16]) -> float:
    """Median absolute Laplacian of the soft tissue of a slice (y, x); nan where there is hardly any."""
    wide = plane.astype(np.int32)
    inner = wide[1:-1, 1:-1]
    laplacian = 4 * inner - wide[:-2, 1:-1] - wide[2:, 1:-1] - wide[1:-1, :-2] - wide[1:-1, 2:]
    tissue = (inner > -150) & (inner < 200)
    return float(np.median(np.abs(laplacian[tissue]))) if np.count_nonzero(tissue) > 200 else float("nan")
