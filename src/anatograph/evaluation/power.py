"""What a cohort can answer: the smallest effect that its subjects or events can show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.targets import Target

_REACH = 1.959964 + 0.841621  # two-sided 5 %, power 80 %
LEAST_EVENTS = 10
"""With fewer events, members of the rarer class or counts above 0, no score is meaningful."""
_LARGE_AREA, _LARGE_R2 = 0.65, 0.2


def smallest_area(first: int, second: int) -> float:
    """AUC that ``first`` and ``second`` subjects of two classes distinguish from 0.5 with 80 % power at two-sided 5 %.

    From the variance of the Mann-Whitney statistic under chance, (n + m + 1) / (12 n m).
    """
    if not (first and second):
        return 1.0
    return float(min(1.0, 0.5 + _REACH * np.sqrt((first + second + 1) / (12 * first * second))))


def smallest_concordance(times: NDArray[np.float64], events: NDArray[np.float64]) -> float:
    """Harrell's C that follow-up ``times`` and ``events`` (n,) distinguish from 0.5, at the same power and level.

    From the variance of C where the ranks of the risks are random: with N comparable pairs, in which subject i is the
    earlier a_i times and the later b_i times, (N + Σ (a_i - b_i)²) / (12 N²). It is that of the Mann-Whitney statistic
    where all are followed equally long, and that of Kendall's τ where nobody is censored.
    """
    observed = events > 0
    count = len(times)
    stops, at_event = np.sort(times[~observed]), np.sort(times[observed])
    later_event = len(at_event) - np.searchsorted(at_event, times, side="right")
    later_stop = len(stops) - np.searchsorted(stops, times, side="left")
    earlier = np.where(observed, later_event + later_stop, 0)
    later = np.where(
        observed, np.searchsorted(at_event, times, side="left"), np.searchsorted(at_event, times, side="right")
    )
    pairs = float(earlier.sum())
    if not pairs or count < 2:
        return 1.0
    variance = (pairs + float(((earlier - later) ** 2).sum())) / (12 * pairs**2)
    return float(min(1.0, 0.5 + _REACH * np.sqrt(variance)))


def smallest_r2(count: int) -> float:
    """R² that ``count`` subjects distinguish from 0 with 80 % power at two-sided 5 %, from Fisher's z of r."""
    return float(np.tanh(_REACH / np.sqrt(count - 3)) ** 2) if count > 3 else 1.0


def power_notes(target: Target) -> list[str]:
    """Sentences where the data can hardly carry the question; empty where they can.

    Two classes and counts: the rarer side decides.  For a C-index the events, and who was still followed at each.
    """
    size = len(target.values)
    if target.task == "regression":
        above = int((target.values > 0).sum())
        if _is_count(target) and above < LEAST_EVENTS:
            return [_too_few(target, f"{above} counts above 0", size)]
        least = smallest_r2(size)
        if least > _LARGE_R2:
            return [_weak(target, f"{size} subjects", f"R² below {least:.2f}")]
        return []
    if target.task == "survival":
        many, figure = int(target.values.sum()), "C-index"
        counted = f"{many} event{'' if many == 1 else 's'}"
    elif target.task == "classification" and len(target.classes) == 2:
        counts = np.bincount(target.values.astype(np.int64), minlength=2)
        many, figure = int(counts.min()), "AUC"
        counted = f"{many} of class {target.classes[int(counts.argmin())]}"
    else:
        return []
    if many < LEAST_EVENTS:
        return [_too_few(target, counted, size)]
    least = (
        smallest_area(many, size - many) if target.times is None else smallest_concordance(target.times, target.values)
    )
    return (
        [_weak(target, f"{counted} among {size} subjects", f"{figure} below {least:.2f}")]
        if least > _LARGE_AREA
        else []
    )


def _is_count(target: Target) -> bool:
    """Whether the values are whole numbers from 0, half of them or more 0."""
    values = target.values
    return bool((values >= 0).all() and (values == np.rint(values)).all() and (values == 0).mean() >= 0.5)


def _too_few(target: Target, counted: str, size: int) -> str:
    return (
        f"{target.name}: {counted} among {size} subjects, too few to answer the question (fewer than {LEAST_EVENTS}); "
        "take the figures as a trial run, not as a result"
    )


def _weak(target: Target, counted: str, figure: str) -> str:
    return (
        f"{target.name}: {counted}: a true {figure} will probably not be distinguished from chance (80 % power, "
        "two-sided 5 %)"
    )
