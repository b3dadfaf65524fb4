"""The montage: a card for each subject with slices, outlines and figures, as large as the page can bear."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatograph.errors import UserError
from anatograph.execution.account import Failure
from anatograph.imaging.views import AXIAL, CORONAL
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.slice_drawings import SliceDrawing, draw_slice, webp
from anatograph.study.quality import levels
from anatograph.study.scans import find_scan
from anatograph.study.store import Study
from anatograph.study.subject import StoredSubject

LEVELS = ((1.0, 62), (0.8, 55), (0.66, 50), (0.5, 45))
"""Pixels a mm and WebP quality of the slices, the best first."""
FIGURES = (
    ("lungs_volume_ml", "lungs, ml", "{:.0f}"),
    ("lungs_left_right_ratio", "left / right", "{:.2f}"),
    ("registration_dice", "Dice of the mapped atlas", "{:.3f}"),
    ("landmarks_outside_lungs", "landmarks outside the lungs", "{:.0f}"),
    ("landmarks_outside_scan", "outside the scan", "{:.0f}"),
)
"""Quality figures on a card: name in the study, label, format."""
_MARKUP = 1500  # bytes of a card's HTML beside its pictures and outlines
_SAMPLE = 8


@dataclass(frozen=True, eq=False)
class Picture:
    """One slice on a card."""

    drawn: SliceDrawing
    """Sizes and outlines."""
    data: str
    """Base64 WebP."""

    @property
    def size(self) -> int:
        """Bytes in the page."""
        drawn = self.drawn
        return len(self.data) + len(drawn.lungs) + len(drawn.atlas) + len(drawn.landmarks)


@dataclass(eq=False)
class Card:
    """One subject in the montage and in the table."""

    name: str
    """As shown."""
    flags: tuple[str, ...]
    """What a reader should check."""
    figures: tuple[tuple[str, str, float | None], ...]
    """Label, text and number of each quality figure."""
    lungs_from: str
    """Where the mask came from."""
    pictures: list[Picture] = field(default_factory=list)
    """Empty where they did not fit or could not be drawn."""
    trouble: str = ""
    """Why there is no picture."""


def cards(
    study: Study,
    images: Mapping[str, Path],
    discretion: Discretion,
    most_bytes: float,
    progress: Callable[[], None] = lambda: None,
) -> tuple[list[Card], list[str]]:
    """A card for every subject, those to look at first, and in words what did not fit into ``most_bytes``.

    ``images`` say where scans lie; they are read only where the atlas leaves gaps between its patches.
    """
    subjects = [study.subject(name) for name in study.subject_ids]
    subjects.sort(key=lambda subject: -levels.LEVELS.index(subject.level))
    made = [_card(subject, discretion) for subject in subjects]
    sample = [_slices(subject, study, images) for subject in subjects[:_SAMPLE]]
    left = most_bytes - _MARKUP * len(made)
    level = _level([slices for slices in sample if isinstance(slices, list)], left / max(1, len(made)))
    shown = 0
    for number, (card, subject) in enumerate(zip(made, subjects, strict=True)):
        slices = sample[number] if number < len(sample) else _slices(subject, study, images)
        if isinstance(slices, str):
            card.trouble = discretion.sentence(slices)
        else:
            pictures = [_picture(one, level) for one in slices]
            left -= sum(picture.size for picture in pictures)
            if left < 0:
                break
            card.pictures.extend(pictures)
        shown += 1
        progress()
    bare = len(made) - shown
    notices = [f"{bare} of {len(made)} subjects have no picture, as the page would grow too large"] if bare else []
    return made, notices


def failures(study: Study, discretion: Discretion) -> list[Failure]:
    """What failed, in messages that identify no patient."""
    return [Failure(discretion.subject(f.subject_id), f.stage, discretion.sentence(f.reason)) for f in study.failures()]


def _card(subject: StoredSubject, discretion: Discretion) -> Card:
    quality = subject.quality
    figures = []
    for name, label, form in FIGURES:
        value = quality.get(name)
        number = float(value) if isinstance(value, int | float) else None
        figures.append((label, "–" if number is None else form.format(number), number))
    return Card(
        discretion.subject(subject.subject_id),
        tuple(discretion.sentence(str(concern)) for concern in subject.concerns if concern.level != "note"),
        tuple(figures),
        str(subject.about.get("lungs_from", "")),
    )


def _slices(subject: StoredSubject, study: Study, images: Mapping[str, Path]) -> list[SliceDrawing] | str:
    """The slices of a card, or why there are none."""
    try:
        lungs = subject.lungs()
        gaps = study.atlas.step > study.atlas.patch_size
        scan = find_scan(subject, images.get(subject.subject_id)) if gaps else None
        drawn = [draw_slice(subject, study.atlas, lungs, view, scan) for view in (CORONAL, AXIAL)]
    except UserError as error:
        return str(error)
    slices = [one for one in drawn if one is not None]
    return slices or "the lung mask is empty"


def _picture(drawn: SliceDrawing, level: tuple[float, int]) -> Picture:
    return Picture(drawn, base64.b64encode(webp(drawn.picture, *level)).decode("ascii"))


def _level(sample: Sequence[list[SliceDrawing]], each: float) -> tuple[float, int]:
    """The best of `LEVELS` whose pictures take at most ``each`` bytes a subject, judged by a few."""
    if not sample:
        return LEVELS[0]
    for level in LEVELS:
        mean = sum(_picture(one, level).size for slices in sample for one in slices) / len(sample)
        if mean * 1.1 <= each:
            return level
    return LEVELS[-1]
