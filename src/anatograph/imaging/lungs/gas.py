"""Gas in stomach and bowel, which lies next to the lung but is hardly surrounded by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.lungs.grid import Bool, CoarseGrid, Triple, components, dilate, erode
from anatograph.imaging.lungs.sides import flood
from anatograph.imaging.volume import bounding_box

GAS_STEP_HU = 65.0
"""After light smoothing, pure gas is at most this much denser than tracheal air; so are bullae."""
SMOOTH_MM = 2.0
"""Standard deviation of that smoothing."""
NOISE_HU = 70.0
"""Noise of blocks beyond this has to be taken into account; 27 to 50 HU in ordinary scans."""
DECILE = 1.28
"""The lowest tenth of Gaussian noise begins this many standard deviations below its mean."""
SPECKLE = 2.5
"""Noise, as smoothing leaves it, seldom goes beyond this many standard deviations."""
LUNG_AROUND = 0.2
"""Less than this share of the surroundings of gas is lung (real scans: gas at most 0.12, bullae at least 0.34)."""
PURE = 0.8
"""Of gas away from its walls at least this share is as dark as gas; confluent emphysema has lung in between."""
PURE_MM = 5.0
"""That far from any wall, where its partial volume and thin folds of bowel do not count."""
PURE_ML = 20.0
"""Emphysema with the chest wall around it instead of lung fills much of a lung, so smaller pockets are not tested."""
SMALLEST_ML = 0.5
"""Smaller pockets are handled when components are chosen."""


def gas_level(grid: CoarseGrid, air: Bool, airway: Bool) -> float:
    """HU that separates pure gas from this subject's lung: halfway between, nearer the gas where the lung is dense.

    Both are measured in the scan (gas in the airway), so a scanner's offset or emphysema shifts the level too. In a
    very noisy scan the airway's darkest blocks are darker than its gas: the level is raised by as much, but only as far
    as the noise of lung does not reach it.
    """
    core = erode(air & ~airway, 4.0, grid.spacing)
    if not core.any():
        core = air
    lung = float(np.median(grid.hu[core]))
    inner = erode(airway, 3.9, grid.spacing)
    if not inner.any():
        return _between(float(np.percentile(grid.hu[core], 0.5)), lung)
    # Where blur or thick slices leave no pure air in the trachea, its darkest part is nearest to gas.
    middle, darkest = float(np.median(grid.hu[inner])), float(np.percentile(grid.hu[airway], 10))
    level = _between(min(middle, darkest), lung)
    noise = _noise(grid, air & ~airway)
    if noise > NOISE_HU:
        raised = _between(min(middle, darkest + DECILE * (noise - NOISE_HU)), lung)
        level = max(level, min(raised, lung - SPECKLE * noise * _left_by_smoothing(grid.spacing)))
    return level


def _between(gas: float, lung: float) -> float:
    """The level between gas and lung, both in HU."""
    gas = min(max(gas, -1024.0), -900.0)
    return min(gas + GAS_STEP_HU, 0.5 * (gas + lung))


def _noise(grid: CoarseGrid, air: Bool) -> float:
    """Standard deviation of the noise of blocks in HU: from neighbours in x that lie deep in the air."""
    core = erode(air, 4.0, grid.spacing)
    pairs = core[:, :, 1:] & core[:, :, :-1]
    return float(np.median(np.abs(np.diff(grid.hu, axis=2)[pairs]))) / 0.954 if pairs.any() else 0.0


def _smoothed(hu: NDArray[np.float32], spacing: Triple) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(hu, [SMOOTH_MM / s for s in spacing], truncate=2.5))


def _left_by_smoothing(spacing: Triple) -> float:
    """Share of the standard deviation of white noise that smoothing leaves."""
    impulse = np.zeros((9, 9, 9), dtype=np.float32)
    impulse[4, 4, 4] = 1
    return float(np.linalg.norm(_smoothed(impulse, spacing)))


def find_gas(grid: CoarseGrid, air: Bool, airway: Bool, level: float) -> Bool:
    """Pockets of pure gas that are surrounded by soft tissue rather than by lung, z, y, x.

    ``air`` is the air inside the body, ``level`` that of `gas_level`. Where a thin wall of stomach or bowel lets gas
    and lung merge, the border between them is put on the brightest ridge. Confluent emphysema that fills a lung has
    the chest wall around it instead of lung, but unlike gas it has lung within.
    """
    smooth = _smoothed(grid.hu, grid.spacing)
    labels, sizes = components(air & (smooth < level) & ~airway)
    gas = np.zeros_like(air)
    margin = [int(np.ceil(14.0 / s)) + 1 for s in grid.spacing]
    large = sizes * grid.voxel_ml > PURE_ML
    noise = _noise(grid, air & ~airway) * _left_by_smoothing(grid.spacing) if large[1:].any() else 0.0
    for k, place in enumerate(ndimage.find_objects(labels), start=1):
        if sizes[k] * grid.voxel_ml < SMALLEST_ML:
            continue
        around = tuple(
            slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(place, margin, labels.shape, strict=True)
        )
        hu = grid.hu[around]
        pocket = dilate(labels[around] == k, 5.0, grid.spacing) & (hu < -700) & air[around] & ~airway[around]
        shell = dilate(pocket, 8.0, grid.spacing) & ~dilate(pocket, 3.5, grid.spacing) & ~airway[around]
        lung = (hu[shell] > level) & (hu[shell] < -600)
        if not lung.size or float(lung.mean()) >= LUNG_AROUND:
            continue
        if large[k]:
            deep = pocket & erode(air[around], PURE_MM, grid.spacing)
            if deep.any() and float((smooth[around][deep] < level + SPECKLE * noise).mean()) < PURE:
                continue
        gas[around] |= pocket
    return _flooded(grid, air & ~airway, gas)


def _flooded(grid: CoarseGrid, air: Bool, gas: Bool) -> Bool:
    """Gas grown through the air to its wall: the whole component if without lung, else the gas side of the ridge."""
    if not gas.any():
        return gas
    labels, sizes = components(air)
    holding = np.zeros(len(sizes), dtype=bool)
    holding[labels[gas]] = True
    holding[0] = False
    core = erode(air & ~dilate(gas, 4.0, grid.spacing), 5.0, grid.spacing)
    core_labels, core_sizes = components(core)
    if len(core_sizes) < 2:
        return np.asarray(holding[labels])
    core = (core_sizes > 0.25 * core_sizes[1:].max())[core_labels] & core
    with_lung = np.zeros(len(sizes), dtype=bool)
    with_lung[labels[core]] = True
    result = (holding & ~with_lung)[labels]
    mixed = (holding & with_lung)[labels]
    box = bounding_box(gas & mixed, tuple(int(20.0 / s) + 1 for s in grid.spacing))
    if box is None:
        return np.asarray(result)
    part = mixed[box]
    markers = gas[box].astype(np.uint8)
    markers[core[box] & (markers == 0)] = 2
    result[box] |= flood(part, markers * part.astype(np.uint8), -grid.hu[box]) == 1
    return np.asarray(result)
