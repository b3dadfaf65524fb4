"""The scanner: kernel, noise and calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.phantoms.raster.soft import soft
from anatograph.phantoms.settings import Scanner

Float = NDArray[np.float32]
_HALO_MM = 1.6


def _blur(planes: Float, sigma: float, axis: int) -> Float:
    """Gaussian blur along ``axis`` (-1 or -2) in single precision, edges repeated."""
    reach = max(1, int(np.ceil(2.6 * sigma)))
    taps = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    taps /= taps[0] + 2 * taps[1:].sum()
    pad = [(0, 0)] * planes.ndim
    pad[axis] = (reach, reach)
    wide = np.pad(planes, pad, mode="edge")
    length = planes.shape[axis]

    def moved(by: int) -> Float:
        window = slice(reach + by, reach + by + length)
        return wide[..., window] if axis == -1 else wide[..., window, :]

    out = planes * np.float32(taps[0])
    both = np.empty_like(out)
    for k in range(1, reach + 1):
        np.add(moved(-k), moved(k), out=both)
        both *= np.float32(taps[k])
        out += both
    return out


def _kernel(planes: Float, scanner: Scanner, pixel_mm: float) -> Float:
    """Reconstruction kernel, in plane; planes (..., y, x)."""
    out = planes
    sigma = scanner.blur_mm / pixel_mm
    if sigma > 0.2:
        out = _blur(_blur(out, sigma, -1), sigma, -2)
    if scanner.sharpening > 0:
        halo = _blur(_blur(out, _HALO_MM / pixel_mm, -1), _HALO_MM / pixel_mm, -2)
        halo -= out
        halo *= np.float32(-scanner.sharpening)
        halo += out
        out = halo
    return out


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
    # Thick slices and large voxels average noise; heavy subjects transmit fewer photons.
    level = scanner.noise_hu * np.exp(0.028 * (bmi - 26.0)) / noise_gain(scanner, pixel)
    if pixel > 1.5:
        level *= 1.5 / pixel
    z, y, x = hu.shape
    out = np.empty(hu.shape, dtype=np.int16)
    fall = 1.0 - 0.45 * np.minimum(
        ((np.arange(y) - y / 2)[:, None] / (0.5 * y)) ** 2 + ((np.arange(x) - x / 2)[None, :] / (0.5 * x)) ** 2, 1.3
    )
    crossing = np.clip((hu[:, y // 4 : 3 * y // 4 : 4, ::4] + 1000.0).mean(axis=(1, 2)) / 650.0, 0.5, 1.6)
    crossing = crossing.astype(np.float32)
    strength = (level * fall).astype(np.float32)
    for start in range(0, z, 2):
        stop = min(start + 2, z)
        block = hu[start:stop]
        if scanner.offset_hu:
            block += np.float32(scanner.offset_hu) * soft(block + np.float32(960.0), 80.0)
        if rng is not None:
            white = rng.standard_normal(block.shape, dtype=np.float32)
            white *= strength * crossing[start:stop, None, None]
            block += white
        final = _kernel(block, scanner, pixel)
        np.clip(final, -1024.0, 3071.0, out=final)
        out[start:stop] = np.rint(final, out=final)
    return out
