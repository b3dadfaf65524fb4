"""Local regions of the lungs: supervoxels, each with an intensity histogram and rotation-invariant gradient features.

The descriptors of Schabdach et al. 2017: a histogram of intensities, and a histogram of gradient directions made
independent of rotation by spherical harmonics (Liu et al. 2014), over supervoxels.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.baselines.features.cubes import lung_box, resized
from anatograph.imaging.volume import Mask
from anatograph.learning.model.windowing import HU_WINDOW

SPACING_MM = 2.5
"""Voxels of the grid on which regions are computed."""
STEP = 8
"""Voxels between the seeds of supervoxels: regions of about 20 mm."""
BINS = 32
DEGREES = 5
"""Spherical harmonics of degree 0 to 4."""
SCALES = (1.0, 2.0)
"""Standard deviations, in voxels, at which gradients are taken."""
LEAST_VOXELS = 30
"""Supervoxels with less lung than this are dropped."""
GRADIENT_HU_PER_MM = 50.0
"""Unit of the gradient features, so that they weigh about as much as the histogram; fixed, not fitted to data."""
FEATURES = BINS + len(SCALES) * DEGREES


def describe_regions(hu: NDArray[np.int16], mask: Mask) -> NDArray[np.float32]:
    """(R, `FEATURES`) descriptors of the regions of a lung.

    The first 32 are square roots of a 32-bin histogram of HU over [-1024, 240] (their Euclidean distance is the
    Hellinger distance); then, for each scale, the length of the mean gradient-weighted harmonics of degrees 0 to 4.

    Args:
        hu: the scan, z, y, x, on the grid of ``mask``, not clipped.
        mask: the lungs.
    """
    box = lung_box(mask, 4 * SPACING_MM)
    part = hu[box]
    spacing = mask.frame.spacing[::-1]
    wanted = [max(2, round(n * s / SPACING_MM)) for n, s in zip(part.shape, spacing, strict=True)]
    shape = (wanted[0], wanted[1], wanted[2])
    scan = resized(np.clip(part, HU_WINDOW[0], HU_WINDOW[1]), shape)
    near = [np.minimum(((np.arange(n) + 0.5) * old / n).astype(int), old - 1)
            for n, old in zip(shape, part.shape, strict=True)]  # fmt: skip
    lungs = mask.lungs[box][np.ix_(*near)]
    labels = supervoxels(scan)
    return _describe(scan, np.where(lungs, labels, -1))


def supervoxels(scan: NDArray[np.float32]) -> NDArray[np.int64]:
    """SLIC's supervoxels of a scan (z, y, x), labels from 0; single-threaded, so that the result is reproducible."""
    slic = sitk.SLICImageFilter()
    slic.SetNumberOfThreads(1)
    slic.SetNumberOfWorkUnits(1)
    slic.SetSuperGridSize([STEP] * 3)
    slic.SetSpatialProximityWeight(100.0)
    slic.SetMaximumNumberOfIterations(4)
    slic.SetEnforceConnectivity(False)
    return np.asarray(sitk.GetArrayFromImage(slic.Execute(sitk.GetImageFromArray(scan))), dtype=np.int64)


def _describe(scan: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Descriptors of the regions with enough voxels; ``labels`` are -1 outside the lungs."""
    inside = labels >= 0
    _, label = np.unique(labels[inside], return_inverse=True)
    count = np.bincount(label)
    width = (HU_WINDOW[1] - HU_WINDOW[0]) / BINS
    level = np.clip((scan[inside] - HU_WINDOW[0]) / width, 0, BINS - 1).astype(np.int64)
    histogram = np.bincount(label * BINS + level, minlength=len(count) * BINS).reshape(-1, BINS)
    parts = [np.sqrt(histogram / count[:, None])]
    for scale in SCALES:
        gradient = [
            ndimage.gaussian_filter(scan, scale, order=[int(k == axis) for k in range(3)], truncate=3.0)[inside]
            for axis in (2, 1, 0)
        ]
        parts.append(harmonic_lengths(np.stack(gradient, 1) / SPACING_MM, label, len(count)) / GRADIENT_HU_PER_MM)
    large = count >= LEAST_VOXELS
    if not large.any():
        large = count == count.max()
    return np.asarray(np.concatenate(parts, axis=1)[large], dtype=np.float32)


def harmonic_lengths(gradient: NDArray[np.float32], label: NDArray[np.int64], regions: int) -> NDArray[np.float64]:
    """Rotation-invariant summary of the gradients of each region: (regions, `DEGREES`).

    For degree l the length over m of the mean of |g| Y_lm(g/|g|), real harmonics scaled so that degree 0 is the mean
    of |g|. Rotating all gradients of a region mixes the Y_lm of a degree and preserves that length.

    Args:
        gradient: (n, 3) x, y, z.
        label: (n,) region of each, from 0.
        regions: their number.
    """
    length = np.linalg.norm(gradient, axis=1)
    unit = gradient / np.maximum(length, 1e-6)[:, None]
    count = np.maximum(np.bincount(label, minlength=regions), 1)
    lengths = np.empty((regions, DEGREES))
    for degree, functions in enumerate(_harmonics(unit)):
        squares = np.zeros(regions)
        for values in functions:
            squares += (np.bincount(label, length * values, minlength=regions) / count) ** 2
        lengths[:, degree] = np.sqrt(squares)
    return lengths


def _harmonics(unit: NDArray[np.float32]) -> list[list[NDArray[np.float64]]]:
    """Real spherical harmonics of degrees 0 to 4 at unit vectors (n, 3), times √4π, as polynomials of x, y, z."""
    x, y, z = unit.astype(np.float64).T
    x2, y2, z2 = x * x, y * y, z * z
    r3, r5, r7, r15, r21, r35, r105 = (np.sqrt(v) for v in (3, 5, 7, 15, 21, 35, 105))
    return [
        [np.ones_like(x)],
        [r3 * x, r3 * y, r3 * z],
        [r15 * x * y, r15 * y * z, r15 * x * z, r15 / 2 * (x2 - y2), r5 / 2 * (3 * z2 - 1)],
        [
            r35 / np.sqrt(8) * y * (3 * x2 - y2),
            r105 * x * y * z,
            r21 / np.sqrt(8) * y * (5 * z2 - 1),
            r7 / 2 * z * (5 * z2 - 3),
            r21 / np.sqrt(8) * x * (5 * z2 - 1),
            r105 / 2 * z * (x2 - y2),
            r35 / np.sqrt(8) * x * (x2 - 3 * y2),
        ],
        [
            3 / 2 * r35 * x * y * (x2 - y2),
            3 / 4 * np.sqrt(70) * y * z * (3 * x2 - y2),
            3 / 2 * r5 * x * y * (7 * z2 - 1),
            3 / 4 * np.sqrt(10) * y * z * (7 * z2 - 3),
            3 / 8 * (35 * z2 * z2 - 30 * z2 + 3),
            3 / 4 * np.sqrt(10) * x * z * (7 * z2 - 3),
            3 / 4 * r5 * (x2 - y2) * (7 * z2 - 1),
            3 / 4 * np.sqrt(70) * x * z * (x2 - 3 * y2),
            3 / 8 * r35 * (x2 * (x2 - 3 * y2) - y2 * (3 * x2 - y2)),
        ],
    ]
