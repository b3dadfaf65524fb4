"""What disease a subject has and where in the lungs it prefers to lie."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bias:
    """Where a disease prefers to lie: slopes of its log-density along five axes of the lungs (see `Places`)."""

    upper: float = 0.0
    """Per lung height; positive prefers the apices, negative the bases."""
    left: float = 0.0
    """From the midline into the left lung (and, negated, into the right); positive prefers the left."""
    peripheral: float = 0.0
    """Towards the costal pleura."""
    central: float = 0.0
    """Towards the hila."""
    dependent: float = 0.0
    """From the front to the back of the chest, in which blood and oedema settle in a supine subject."""


@dataclass(frozen=True)
class Disease:
    """Diseases drawn into the lungs. Extents are targets; the ground truth is measured on the drawn masks."""

    diagnosis: str = "healthy"
    """healthy, COPD, COVID-19 or both ("COPD+COVID-19")."""
    emphysema: float = 0.0
    """Share of the lungs to be destroyed by centrilobular or panlobular holes."""
    paraseptal: float = 0.0
    """Share of the lungs to be turned into subpleural cysts."""
    ground_glass: float = 0.0
    """Share of the lungs with ground glass."""
    consolidation: float = 0.0
    """Share of the lungs that is consolidated."""
    air_trapping: float = 0.0
    """Share of the lungs in lobules that trap air: a mosaic a little darker than its surroundings."""
    dark_lobe: int | None = None
    """Index (of `LOBES`) of a lobe that is hyperinflated as a whole; None without."""
    dark_lobe_hu: float = 0.0
    """How much darker that lobe is than the others, HU below."""
    emphysema_distribution: str = "absent"
    """One of `EMPHYSEMA`."""
    emphysema_bias: Bias = field(default_factory=Bias)
    """Where emphysema lies."""
    ground_glass_distribution: str = "absent"
    """One of `GROUND_GLASS`."""
    ground_glass_bias: Bias = field(default_factory=Bias)
    """Where ground glass and consolidation lie."""


EMPHYSEMA = ("absent", "upper", "lower", "diffuse", "paraseptal", "one-sided")
"""Distributions of emphysema: upper as in smokers, lower as in alpha-1 antitrypsin deficiency."""
GROUND_GLASS = ("absent", "peripheral-lower", "central", "diffuse", "one-sided", "dependent")
"""Distributions of ground glass."""
