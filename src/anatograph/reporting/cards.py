"""Quality cards: for each subject its slices, outlines, figures and level, as large as the page can bear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anatograph.anatomy.places import in_lung
from anatograph.errors import UserError
from anatograph.execution.account import Failure
from anatograph.explanation.mosaic import slices_of_patches
from anatograph.reporting.redaction import Discretion
from anatograph.reporting.slice_drawings import SliceDrawing, draw_slices, encoded
from anatograph.study.quality.gallery import judged
from anatograph.study.quality.levels import LEVELS, Level
from anatograph.study.quality.selection import Selection
from anatograph.study.quality.slices import cut_slices
from anatograph.study.quality.table import read_levels
from anatograph.study.scans import find_scan
from anatograph.study.store import Study
from anatograph.study.subject import StoredSubject

SIZES = ((1.0, 62), (0.8, 55), (0.66, 50), (0.5, 45))
"""Pixels a mm and WebP quality of the slices, the best first."""
FIGURES = (
    ("lungs_volume_ml", "lung volume, ml", "{:.0f}"),
    ("lungs_left_right_ratio", "left / right", "{:.2f}"),
    ("registration_dice", "Dice of the mapped atlas", "{:.3f}"),
    ("landmarks_outside_lungs", "landmarks outside the lungs", "{:.0f}"),
    ("landmarks_outside_scan", "landmarks outside the scan", "{:.0f}"),
)
"""Quality figures on a card: name in the study, label, format."""
_MARKUP = 2200  # bytes of a card's HTML beside its pictures and outlines
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
    """One subject among the quality cards and in the table."""

    name: str
    """As shown."""
    level: Level
    """How far the scan can be trusted."""
    reasons: tuple[str, ...]
    """What is out of the ordinary, the gravest first, each with its level."""
    figures: tuple[tuple[str, str, float | None], ...]
    """Label, text and number of each quality figure."""
    lungs_from: str
    """Where the mask came from."""
    excluded: bool = False
    """Whether the reader's verdict in ``review.csv`` leaves it out of all other sections."""
    away: str = ""
    """Why it is left out of all other sections, where that is no verdict of the reader."""
    pictures: list[Picture] = field(default_factory=list)
    """Empty where they did not fit or could not be drawn."""
    partial: bool = False
    """Whether the slices show stored patches only, as neither whole slices nor the scan's file were found."""
    trouble: str = ""
    """Why there is no picture."""

    @property
    def flagged(self) -> bool:
        """Whether a reader should look at it."""
        return self.level in ("check", "reject")


def cards(
    study: Study,
    images: Mapping[str, Path],
    discretion: Discretion,
    most_bytes: float,
    progress: Callable[[], None] = lambda: None,
    selection: Selection | None = None,
) -> tuple[list[Card], list[str]]:
    """A card for every subject, the worst first, and in words what did not fit into ``most_bytes``.

    ``images`` say where scans lie; they are read only where an earlier version stored no slices.  Subjects that
    ``selection`` withdraws are marked.
    """
    levels = read_levels(study.path)
    found = [(subject, *judged(subject, levels)) for subject in map(study.subject, study.subject_ids)]
    found.sort(key=lambda one: (-LEVELS.index(one[1]), -len(one[2])))
    usual = int((~in_lung(study.atlas)).sum())
    made = [_card(*one, discretion, selection or Selection(()), usual) for one in found]
    subjects = [subject for subject, _, _ in found]
    sample = [_slices(subject, study, images) for subject in subjects[:_SAMPLE]]
    left = most_bytes - _MARKUP * len(made)
    size = _size([slices for slices, _ in sample if isinstance(slices, list)], left / max(1, len(made)))
    shown = 0
    for number, (card, subject) in enumerate(zip(made, subjects, strict=True)):
        slices, card.partial = sample[number] if number < len(sample) else _slices(subject, study, images)
        if isinstance(slices, str):
            card.trouble = discretion.sentence(slices)
        else:
            pictures = [_picture(one, size) for one in slices]
            left -= sum(picture.size for picture in pictures)
            if left < 0:
                break
            card.pictures.extend(pictures)
        shown += 1
        progress()
    bare = len(made) - shown
    notices = [f"{bare} of {len(made)} subjects have no picture, as the page would grow too large"] if bare else []
    partial = sum(card.partial for card in made)
    if partial:
        notices.append(
            f"{partial} of {len(made)} subjects have slices of stored patches only, as an earlier version preprocessed "
            "them and their scans are not where they were"
        )
    return made, notices


def failures(study: Study, discretion: Discretion) -> list[Failure]:
    """What failed, in messages that identify no patient."""
    return [Failure(discretion.subject(f.subject_id), f.stage, discretion.sentence(f.reason)) for f in study.failures()]


def _card(
    subject: StoredSubject,
    level: Level,
    reasons: Sequence[str],
    discretion: Discretion,
    selection: Selection,
    usual: int,
) -> Card:
    """``usual``: landmarks of the atlas that lie outside its own lungs, as many do in the chest wall."""
    quality = subject.quality
    figures = []
    for name, label, form in FIGURES:
        value = quality.get(name)
        number = float(value) if isinstance(value, int | float) else None
        text = "–" if number is None else form.format(number)
        if name == "landmarks_outside_lungs" and number is not None:
            text += f" ({usual} in the atlas)"
        figures.append((label, text, number))
    return Card(
        discretion.subject(subject.subject_id),
        level,
        tuple(discretion.reason(reason) for reason in reasons),
        tuple(figures),
        str(subject.about.get("lungs_from", "")),
        subject.subject_id in selection.excluded,
        _away(subject.subject_id, selection),
    )


def _away(subject_id: str, selection: Selection) -> str:
    if subject_id in selection.named:
        return "left out by --exclude"
    return "no longer in the cohort table" if subject_id in selection.unlisted else ""


def _slices(subject: StoredSubject, study: Study, images: Mapping[str, Path]) -> tuple[list[SliceDrawing] | str, bool]:
    """The slices of a card, or why there are none; and whether they show patches only."""
    try:
        lungs = subject.lungs()
        if lungs.box_lps() is None:
            return "the lung mask is empty", False
        slices, partial = subject.slices(), False
        if not slices:
            scan = find_scan(subject, images.get(subject.subject_id))
            partial = scan is None
            slices = slices_of_patches(subject, lungs) if scan is None else cut_slices(scan, lungs)
        return draw_slices(subject, study.atlas, lungs, slices), partial
    except UserError as error:
        return str(error), False


def _picture(drawn: SliceDrawing, size: tuple[float, int]) -> Picture:
    return Picture(drawn, encoded(drawn.picture, *size))


def _size(sample: Sequence[list[SliceDrawing]], each: float) -> tuple[float, int]:
    """The best of `SIZES` whose pictures take at most ``each`` bytes a subject, judged by a few."""
    if not sample:
        return SIZES[0]
    for size in SIZES:
        mean = sum(_picture(one, size).size for slices in sample for one in slices) / len(sample)
        if mean * 1.1 <= each:
            return size
    return SIZES[-1]
