"""What a cohort can answer: the smallest effect that its subjects or events can show."""

from __future__ import annotations

import numpy as np

from anatograph.evaluation.targets import Target

_REACH = 1.959964 + 0.841621  # two-sided 5 %, power 80 %
LEAST_EVENTS = 10
"""With fewer events, or members of the rarer class, no score is meaningful."""
_LARGE = 0.15


def smallest_area(first: int, second: int) -> float:
    """AUC that ``first`` and ``second`` subjects of two classes distinguish from 0.5 with 80 % power at two-sided 5 %.

    From the variance of the Mann-Whitney statistic under chance, (n + m + 1) / (12 n m).
    """
    if not (first and second):
        return 1.0
    return float(min(1.0, 0.5 + _REACH * np.sqrt((first + second + 1) / (12 * first * second))))


def power_notes(target: Target) -> list[str]:
    """Sentences where the data can hardly carry the question; empty where they can.

    Two classes, and events: the rarer side decides.  For a C-index the subjects without the event stand for the other
    class, which is right where all are followed equally long.
    """
    if target.task == "survival":
        many = int(target.values.sum())
        rest, figure = len(target.values) - many, "C-index"
        unit = "event" if many == 1 else "events"
    elif target.task == "classification" and len(target.classes) == 2:
        counts = np.bincount(target.values.astype(np.int64), minlength=2)
        many, rest = int(counts.min()), int(counts.max())
        figure = "AUC"
        unit = f"of class {target.classes[int(counts.argmin())]}"
    else:
        return []
    least = smallest_area(many, max(rest, 1))
    counted = f"{target.name}: {many} {unit}"
    if many < LEAST_EVENTS:
        return [
            f"{counted} among {many + rest} subjects, too few to answer the question (fewer than {LEAST_EVENTS}); "
            "take the figures as a trial run, not as a result"
        ]
    if least - 0.5 > _LARGE:
        return [
            f"{counted} among {many + rest} subjects: a true {figure} below {least:.2f} will probably not be "
            "distinguished from chance (80 % power, two-sided 5 %)"
        ]
    return []
