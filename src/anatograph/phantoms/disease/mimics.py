"""Normal variants that imitate disease: what is disease elsewhere is normal where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NormalVariants:
    """How strongly each normal variant is expressed in one subject."""

    dependent_mm: float = 0.0
    """Thickness of dependent density at the back of the bases."""
    dependent_hu: float = 0.0
    """What dependent density adds, HU: as much as ground glass."""
    hilar_hu: float = 0.0
    """What crowded vessels add to the lung at the hila, HU."""
    caps_mm: tuple[float, float] = (0.0, 0.0)
    """Thickness of the apical caps, right and left."""
    trapping: float = 0.0
    """Share of the lungs in single lobules that trap air in the superior segments of the lower lobes."""
    motion_mm: float = 0.0
    """How far the border of the heart moves during the scan."""


def sample_variants(rng: np.random.Generator, breath: float, age: int) -> NormalVariants:
    """Sample the variants of one subject: dependent density grows at shallow breath, apical caps with age."""
    thick, haze, hilar, share, motion = (float(v) for v in rng.random(5))
    caps = [float(v) for v in 1.5 + 6.0 * rng.random(2)]
    capped = rng.random(2) < np.clip(0.012 * (age - 30), 0.0, 0.6)
    return NormalVariants(
        dependent_mm=(2.0 + 34.0 * (1.0 - breath)) * (0.5 + thick),
        dependent_hu=130.0 + 170.0 * haze,
        hilar_hu=30.0 + 90.0 * hilar,
        caps_mm=(caps[0] if capped[0] else 0.0, caps[1] if capped[1] else 0.0),
        trapping=0.015 * share if share > 0.4 else 0.0,
        motion_mm=max(0.0, 7.0 * motion - 1.5),
    )
