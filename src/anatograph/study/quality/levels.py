"""How far a scan can be trusted: four levels, and the rules that lead from its quality figures to one.

Every threshold stands in `RULES` and `WORDS`; nothing else in the package decides whether a scan is usable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Figure = float | int | bool | str
"""A quality figure; nan where it could not be measured."""
Level = Literal["ok", "note", "check", "reject"]
"""``note``: worth knowing; ``check``: look at the picture; ``reject``: the embedding would be of something else."""
LEVELS: tuple[Level, ...] = get_args(Level)
_BETWEEN = "; "


@dataclass(frozen=True)
class Rule:
    """A figure beyond a limit, and what that means."""

    figure: str
    """Name in the quality figures; yes and no count as 1 and 0."""
    level: Level
    """Of a scan beyond the limit."""
    reason: str
    """In words; ``{}`` stands for the figure."""
    below: float | None = None
    """The scan is beyond the limit where the figure is smaller."""
    above: float | None = None
    """Or larger."""
    method: str = ""
    """Only where the lungs came from this method."""

    def holds(self, value: float) -> bool:
        """Whether a figure lies beyond the limit; nan never does."""
        return (self.below is not None and value < self.below) or (self.above is not None and value > self.above)


@dataclass(frozen=True)
class Concern:
    """One thing about a scan that is out of the ordinary."""

    level: Level
    """How grave."""
    reason: str
    """In words."""

    def __str__(self) -> str:
        return f"{self.level}: {self.reason}"


RULES = (
    # The lungs
    Rule("lungs_volume_ml", "check", "lungs of {:.0f} ml in all", below=800.0, above=12000.0),
    Rule("lungs_volume_ml", "reject", "lungs of {:.0f} ml in all, too little for a chest", below=400.0),
    Rule("lungs_volume_ml", "reject", "lungs of {:.0f} ml in all, more than a chest holds: the room is in the mask",
         above=14000.0),
    Rule("lungs_width_mm", "check", "both lungs are {:.0f} mm wide: a wrong voxel size, or no adult",
         below=210.0, above=400.0),
    Rule("lungs_smaller_over_larger", "check", "one lung has only {:.0%} of the other's volume", below=0.45),
    Rule("lungs_smaller_over_larger", "check", "one lung is missing", below=0.05),
    Rule("lungs_upper_smaller_over_larger", "check", "one lung's upper third has only {:.0%} of the other's volume",
         below=0.4),
    Rule("lungs_middle_smaller_over_larger", "check", "one lung's middle third has only {:.0%} of the other's volume",
         below=0.4),
    Rule("lungs_truncated_top", "check", "the top of the lungs is not in the scan", above=0.5),
    Rule("lungs_truncated_base", "check", "the base of the lungs is not in the scan", above=0.5),
    Rule("lungs_holes_fraction", "note", "holes of {:.0%} in the lung mask", above=0.02),
    Rule("lungs_holes_fraction", "check", "holes of {:.0%} in the lung mask", above=0.10),
    Rule("lungs_mean_hu", "check", "mean lung density of {:.0f} HU", below=-960.0, above=-600.0),
    Rule("lungs_mean_hu", "reject", "mean lung density of {:.0f} HU: that is not lung", above=-300.0),
    Rule("lungs_dense_fraction", "check", "{:.0%} of the lung mask is denser than lung", above=0.12),
    Rule("lungs_dense_fraction", "check", "{:.0%} of the lung mask is tissue: it may be of another scan", above=0.10,
         method="given"),
    Rule("lungs_dense_fraction", "reject", "{:.0%} of the lung mask is tissue: it is not this scan's", above=0.25,
         method="given"),
    Rule("lungs_threshold_dice", "check", "the lung mask overlaps the air of the lungs with a Dice of only {:.2f}",
         below=0.91),
    Rule("lungs_gap_right", "check", "{:.0%} of the right chest holds tissue or fluid in place of lung", above=0.14),
    Rule("lungs_gap_left", "check", "{:.0%} of the left chest holds tissue or fluid in place of lung", above=0.14),
    # The scan around them
    Rule("scan_spine_behind", "reject", "the spine lies in front of the lungs, so the scan seems flipped", below=-0.15),
    Rule("scan_heart_left_mm", "check",
         "the heart lies to the right of the spine: mirrored or turned, unless dextrocardia", below=-8.0),
    Rule("scan_laterality", "check", "heart and liver lie beneath the opposite lungs: mirrored, unless situs inversus "
         "or a missing lobe", below=-0.15),
    Rule("scan_mediastinum_hu", "note", "the scan seems contrast-enhanced", above=130.0),
    Rule("scan_metal_ml", "note", "{:.0f} ml of metal in the scan", above=1.0),
    Rule("scan_truncated_side", "check", "the sides of the lungs are outside the scan", above=0.5),
    Rule("scan_coarsest_mm", "note", "slices {:.2g} mm apart", above=5.0),
    # The map of the atlas
    Rule("registration_poor", "check", "the atlas does not fit the lungs well", above=0.5),
    Rule("registration_dice", "reject", "the mapped atlas overlaps the lungs with a Dice of only {:.2f}", below=0.5),
    Rule("registration_landmarks_outside", "reject", "{:.0%} of the inner landmarks fall outside the lungs", above=0.6),
    Rule("registration_jacobian_min", "reject", "the map of the atlas folds (Jacobian {:.2f})", below=0.0),
    Rule("registration_determinant", "reject", "the map of the atlas is a reflection", below=0.0),
    Rule("landmarks_outside_scan_fraction", "check", "{:.0%} of the landmarks lie outside the scan", above=0.02),
    Rule("landmarks_outside_scan_fraction", "reject", "{:.0%} of the landmarks lie outside the scan", above=0.33),
    Rule("isolated_nodes", "note", "{:.0f} landmarks have no neighbour in the graph", above=0.5),
)  # fmt: skip
"""Applied in this order; of several rules for one figure the gravest that holds counts."""

WORDS: tuple[tuple[str, Level], ...] = (
    (r"contrast agent was given|contrast-enhanced", "note"),
    (r"slices? [\d.]+ mm apart|thick slices", "note"),
    (r"the patient lay ", "note"),
    (r"gantry|tilt", "note"),
    (r"acquired in \d+ blocks", "note"),
    (r"found twice|taken as even", "note"),
    (r"fit the atlas better", "reject"),
)
"""What the reader says of a file, by pattern; all else that it says is a ``check``."""


def flags_of(concerns: Sequence[Concern]) -> tuple[str, ...]:
    """Reasons of the concerns at level ``check`` or ``reject``."""
    return tuple(concern.reason for concern in concerns if concern.level in ("check", "reject"))


def worst(levels: Sequence[Level]) -> Level:
    """The gravest of several levels, ``ok`` for none."""
    return max(levels, key=LEVELS.index, default="ok")


def judge(quality: Mapping[str, Figure], method: str, said: Sequence[str] = ()) -> tuple[Concern, ...]:
    """Everything out of the ordinary about a scan, the gravest first.

    Args:
        quality: its figures; those that an older version did not measure are passed over.
        method: where its lungs came from.
        said: sentences of the reader and of the registration.
    """
    found: dict[str, Concern] = {}
    for rule in RULES:
        value = quality.get(rule.figure)
        if value is None or isinstance(value, str) or (rule.method and rule.method != method):
            continue
        before = found.get(rule.figure)
        if rule.holds(float(value)) and (before is None or LEVELS.index(rule.level) >= LEVELS.index(before.level)):
            found[rule.figure] = Concern(rule.level, rule.reason.format(float(value)))
    reasons = str(quality.get("registration_reasons", ""))
    if "registration_poor" in found and reasons:
        found["registration_poor"] = Concern(found["registration_poor"].level, reasons)
    concerns = [*found.values(), *(concern_of(sentence) for sentence in said)]
    return tuple(sorted(dict.fromkeys(concerns), key=lambda concern: -LEVELS.index(concern.level)))


def joined(concerns: Iterable[Concern]) -> str:
    """All concerns of a scan in one text, as ``quality.csv`` holds them."""
    return _BETWEEN.join(map(str, concerns))


def separate(reasons: str) -> list[str]:
    """The concerns in a text that `joined` made, each with its level; a reason may hold a semicolon itself."""
    return re.split(rf"{_BETWEEN}(?=(?:{'|'.join(LEVELS)}): )", reasons) if reasons else []


def concern_of(sentence: str) -> Concern:
    """A sentence of the reader with its level by `WORDS`."""
    return Concern(next((level for pattern, level in WORDS if re.search(pattern, sentence)), "check"), sentence)
