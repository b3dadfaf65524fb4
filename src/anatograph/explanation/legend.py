"""The legend of a map: what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MapLegend:
    """What the numbers of a map mean; the keys of its JSON file."""

    kind: str
    """probe, deviation or change."""
    title: str
    """One line above the picture."""
    meaning: str
    """One line about the number."""
    high: str
    """What the upper end of the scale means."""
    low: str | None
    """What the lower end means; None for a scale with one end."""
    neutral: float
    """The value that is no evidence."""
    range: tuple[float, float]
    """Values to show from and to."""
    ticks: Mapping[float, str]
    """Values to mark on the scale, with their words."""
    target: str | None = None
    """The column explained."""
    class_name: str | None = None
    """Its class."""
    intent_code: int = 1001
    """Of NIfTI."""
    evidence: str = ""
    """How far the map may be trusted, in one line: the held-out score of its probe, or the size of its reference."""
    withheld: str = ""
    """Why the values are not shown; empty where they are."""

    @property
    def diverging(self) -> bool:
        """Whether the scale has two ends."""
        return self.low is not None
