"""What a lung segmentation returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from anatograph.imaging.volume import Mask


@dataclass(frozen=True, eq=False)
class LungResult:
    """The lungs of one scan, how they were found, and how much to trust them."""

    mask: Mask
    """1 right, 2 left, on the grid of the scan."""
    method: str
    """The method that made the mask: threshold, lungmask or totalsegmentator."""
    quality: dict[str, float | bool | str] = field(default_factory=dict)
    """Figures of `lung_quality`."""
    notes: tuple[str, ...] = ()
    """Every choice, fall-back and doubt, in plain sentences."""
