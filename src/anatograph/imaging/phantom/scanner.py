"""What a scanner makes of a thorax: kernel, noise, calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from anatograph.imaging.phantom.settings import Scanner

Float = NDArray[np.float32]
_HALO_MM = 1.6


def _kernel(planes: Float, scanner: Scanner, pixel_mm: float) -> Float:
    """Reconstruction kernel, in plane; planes (..., y, x)."""
    out = planes
    sigma = scanner.blur_mm / pixel_mm
    if sigma > 0.2:
        for axis in (-1, -2):
            out = gaussian_filter1d(out, sigma, axis=axis, truncate=3.0, mode="nearest")
    if scanner.sharpening > 0:
        halo = out
        for axis in (-1, -2):
            halo = gaussian_filter1d(halo, _HALO_MM / pixel_mm, axis=axis, truncate=2.5, mode="nearest")
        out = out + np.float32(scanner.sharpening) * (out - halo)
    return np.asarray(out, dtype=np.float32)


def noise_gain(scanner: Scanner, pixel_mm: float) -> float:
    """Standard deviation that the kernel leaves of white noise of standard deviation 1."""
    impulse = np.zeros((65, 65), dtype=np.float32)
    impulse[32, 32] = 1.0
    return float(np.sqrt((_kernel(impulse, scanner, pixel_mm) ** 2).sum()))


def scan(
    hu: Float, scanner: Scanner, spacing_zyx: NDArray[np.float64], bmi: float, rng: np.random.Generator | None
) -> NDArray[np.int16]:
    """The scan (z, y, x) of noise-free ``hu``, which is used up; without ``rng`` a scan free of noise.

    Noise grows with what the rays must cross: with body mass, in the shoulders, and towards the middle of the body.
    """
    pixel = float(spacing_zyx[2])
    # Thick slices and large voxels average noise; a heavy person lets fewer photons through.
    level = scanner.noise_hu * np.exp(0.028 * (bmi - 26.0)) / noise_gain(scanner, pixel)
    if pixel > 1.5:
        level *= 1.5 / pixel
    z, y, x = hu.shape
    out = np.empty(hu.shape, dtype=np.int16)
    fall = 1.0 - 0.45 * np.minimum(
        ((np.arange(y) - y / 2)[:, None] / (0.5 * y)) ** 2 + ((np.arange(x) - x / 2)[None, :] / (0.5 * x)) ** 2, 1.3
    )
    crossing = np.clip((hu[:, y // 4 : 3 * y // 4 : 4, ::4] + 1000.0).mean(axis=(1, 2)) / 650.0, 0.5, 1.6)
    for start in range(0, z, 8):
        stop = min(start + 8, z)
        block = hu[start:stop]
        block += np.float32(scanner.offset_hu) * np.clip((block + 1000.0) * np.float32(1 / 80), 0.0, 1.0)
        if rng is not None:
            white = rng.standard_normal(block.shape, dtype=np.float32)
            white *= (level * fall).astype(np.float32)
            white *= crossing[start:stop, None, None].astype(np.float32)
            block += white
        final = _kernel(block, scanner, pixel)
        np.clip(final, -1024.0, 3071.0, out=final)
        out[start:stop] = np.rint(final, out=final)
    return out
