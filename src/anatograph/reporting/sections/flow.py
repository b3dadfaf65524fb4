"""The flow of scans, from the table to the analysis, as CONSORT and STARD ask for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from textwrap import wrap

from anatograph.reporting.redaction import Discretion
from anatograph.study.quality.selection import Selection
from anatograph.study.store import Study

_LETTERS = 34
"""Letters in a line of a box."""
_LINE, _PAD, _GAP = 19, 10, 26
_BASELINE = 22
"""Of the first line of text, below the top of its box."""
_WIDE, _SIDE = 280, 320


@dataclass(frozen=True)
class Step:
    """A box of the flow, and what leaves it on the way to the next."""

    text: str
    """What the scans have in common."""
    n: int
    """How many."""
    leaving: tuple[tuple[str, int, str], ...] = ()
    """Why some go no further: words, how many, details."""


@dataclass(frozen=True)
class Box:
    """A rectangle with lines of text; lengths in units of the drawing."""

    x: int
    """Left edge."""
    y: int
    """Upper edge."""
    width: int
    """From left to right."""
    lines: tuple[str, ...]
    """Texts, from the top."""

    @property
    def height(self) -> int:
        """From top to bottom, for all lines."""
        return 2 * _PAD + _LINE * len(self.lines) - 4

    @property
    def texts(self) -> list[tuple[int, int, str]]:
        """x and y at which each line begins, and the line."""
        return [(self.x + _PAD, self.y + _BASELINE + _LINE * k, line) for k, line in enumerate(self.lines)]


@dataclass(frozen=True)
class Flow:
    """Boxes with their places, ready to be drawn."""

    boxes: list[Box]
    """In the order of the flow."""
    paths: list[str]
    """Arrows, as SVG paths."""
    width: int
    """Of the drawing."""
    height: int
    """Of the drawing."""
    words: str
    """The same in a sentence."""


def steps_of(study: Study, listed: int | None, selection: Selection, embedded: int | None) -> list[Step]:
    """Read, preprocessed, analysed: counts of a study, its table, its quality control and its embeddings."""
    failures = study.failures()
    stages = Counter(failure.stage for failure in failures)
    details = ", ".join(f"{stage} ({n})" for stage, n in stages.most_common())
    total = len(study)
    known = max((listed or 0) + len(selection.unlisted), total + len(failures))
    waiting = known - total - len(failures)
    first = [("failed", len(failures), details), ("not preprocessed", waiting, "")]
    second = [
        ("rejected by quality control", len(selection.rejected), ""),
        ("excluded by the reader", len(selection.excluded), _comments(selection)),
        ("excluded by the analyst", len(selection.named), ""),
        ("no longer in the cohort table", len(selection.unlisted), ""),
    ]
    used = len(selection.subject_ids)
    steps = [
        Step("Scans listed", known, tuple(one for one in first if one[1])),
        Step("Preprocessed", total, tuple(one for one in second if one[1])),
        Step("Available for analysis", used),
    ]
    if embedded is not None:
        lost = max(0, used - embedded)
        steps[-1] = Step("Available for analysis", used, (("not in the embeddings", lost, ""),) if lost else ())
        steps.append(Step("Analysed", min(used, embedded)))
    return steps


def flow(steps: list[Step], discretion: Discretion) -> Flow:
    """The boxes below each other, and beside them what leaves."""
    boxes: list[Box] = []
    paths: list[str] = []
    y = 2
    for number, step in enumerate(steps):
        main = Box(2, y, _WIDE, (f"{step.text} (n = {step.n})",))
        boxes.append(main)
        lines = tuple(
            line for words, n, details in step.leaving for line in _leaving(words, n, discretion.sentence(details))
        )
        bottom = y + main.height
        nxt = bottom + _GAP
        if lines:
            side = Box(_WIDE + 60, bottom + 8, _SIDE, lines)
            boxes.append(side)
            middle = side.y + side.height // 2
            paths.append(f"M{2 + _WIDE // 2} {middle}H{side.x - 2}m-7 -4l7 4l-7 4")
            nxt = side.y + side.height + 8
        if number + 1 < len(steps):
            paths.append(f"M{2 + _WIDE // 2} {bottom}V{nxt - 2}m-4 -7l4 7l4 -7")
        y = nxt
    height = max(box.y + box.height for box in boxes) + 2
    width = max(box.x + box.width for box in boxes) + 2
    return Flow(boxes, paths, width, height, sentence(steps))


def sentence(steps: list[Step]) -> str:
    """Counts in words, for alternative text and the methods."""
    parts = []
    for step in steps:
        parts.append(f"{step.n} {step.text[0].lower()}{step.text[1:]}")
        parts += [f"{n} {words}" for words, n, _ in step.leaving]
    return ", ".join(parts)


def _leaving(words: str, n: int, details: str) -> list[str]:
    found = wrap(f"{words[0].upper()}{words[1:]} (n = {n})", _LETTERS)
    return found + [f"  {line}" for line in wrap(details, _LETTERS)[:3]]


def _comments(selection: Selection) -> str:
    counts = Counter(comment for comment in selection.excluded.values() if comment)
    return ", ".join(f"{text} ({n})" for text, n in counts.most_common(3))
