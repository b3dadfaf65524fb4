"""On which side of a scan heart and liver lie, from the lungs above them: a scan mirrored left to right shows here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.imaging.volume import Mask, Volume

STEP_MM = 2.5
"""Every few voxels are enough for fractions and percentiles."""
RIM_MM = 20.0
"""Lung nearer than this to its outline seen from above is left out: the recesses beside the diaphragm."""
LEAST_MM2 = 500.0
"""Less lung than this, seen from above, is not enough to measure."""
BELOW_MM = (8.0, 40.0)
"""Depth below the lung in which the liver is sought."""
LOW = 0.45
"""Only below lung that begins under this part of the lungs' height."""
TISSUE_HU = (20, 220)
"""Liver with and without contrast agent; fat, stomach and bowel gas lie below, bone above."""
LIVER_WEIGHT = 0.3
"""Weight of the liver against the heart: it is out of view where a scan ends early."""


def laterality(mask: Mask, volume: Volume) -> float:
    """Heart beneath the left lung and liver beneath the right, as one figure: its sign is the scan's handedness.

    The heart raises the lower border of the medial left lung. For each lung, seen from above and without its rim, the
    90th percentile of the height at which it begins is taken, in heights of both lungs; and the fraction of soft tissue
    from 8 to 40 mm below it. The figure is left minus right of the heights, plus 0.3 times right minus left of the
    fractions. Mirroring a scan changes only its sign. Mask and scan share one grid with axes along L, P and S.

    Returns:
        0.2 to 0.45 in sound scans; -0.16 to 0.25 without a lobe; nan with one lung.
    """
    steps = tuple(max(1, round(STEP_MM / spacing)) for spacing in mask.frame.spacing[::-1])
    grid = tuple(slice(None, None, step) for step in steps)
    size = tuple(step * spacing for step, spacing in zip(steps, mask.frame.spacing[::-1], strict=True))
    labels, hu = mask.array[grid], volume.array[grid]
    heights = np.flatnonzero((labels > 0).any(axis=(1, 2)))
    if not len(heights):
        return float("nan")
    start, height = int(heights[0]), int(heights[-1] + 1 - heights[0])
    raised, tissue = [], []
    for side in (Mask.RIGHT, Mask.LEFT):
        lung = labels == side
        inner = ndimage.distance_transform_edt(np.pad(lung.any(axis=0), 1), sampling=size[1:])[1:-1, 1:-1] > RIM_MM
        if inner.sum() * size[1] * size[2] < LEAST_MM2:
            return float("nan")
        lowest = lung.argmax(axis=0)
        raised.append(float(np.percentile(lowest[inner] - start, 90)) / height)
        tissue.append(_tissue_below(hu, lowest, inner & (lowest < start + LOW * height), size[0]))
    heart, liver = raised[1] - raised[0], tissue[0] - tissue[1]
    return heart if np.isnan(liver) else heart + LIVER_WEIGHT * liver


def _tissue_below(hu: NDArray[np.int16], lowest: NDArray[np.intp], where: NDArray[np.bool_], step: float) -> float:
    """Fraction of soft tissue among the voxels `BELOW_MM` under the lung; nan where the scan holds too few of them."""
    y, x = np.nonzero(where)
    depths = range(int(np.ceil(BELOW_MM[0] / step)), int(BELOW_MM[1] / step) + 1)
    z = lowest[y, x][:, None] - np.asarray(depths, dtype=np.intp)
    below = hu[np.maximum(z, 0), y[:, None], x[:, None]][z >= 0]
    if below.size < 200:
        return float("nan")
    return float(((below > TISSUE_HU[0]) & (below < TISSUE_HU[1])).mean())
