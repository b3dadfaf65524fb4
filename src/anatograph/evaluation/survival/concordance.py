"""How often the subject with the higher predicted risk has the event first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_BLOCK = 4_000_000
_LEAST_UNCENSORED = 0.05


def harrell(times: Array, events: Array, risk: Array) -> float:
    """Harrell's C: the share of concordant pairs among those whose order in time is known, ties in risk counting half.

    A pair is known where one had the event before the other's time, or at the time at which the other was censored.
    ``times``, ``events`` and ``risk`` (n,); NaN without such a pair.
    """
    return _concordance(times, events, risk, np.ones(len(times)))


def uno(times: Array, events: Array, risk: Array) -> float:
    """Uno's C (Statistics in Medicine 2011): as Harrell's, each pair weighted by 1/G(t)² of the earlier event's time.

    G is the Kaplan-Meier estimate that a subject is not yet censored just before t: the result does not depend on how
    long the subjects happened to be followed.  Events from `follow_up_limit` on do not count, since a few of them
    would have nearly all of the weight.
    """
    kept = _uncensored(times, events)
    counted = times < follow_up_limit(times, events)
    return _concordance(times, events, risk, np.where(counted, 1 / np.maximum(kept, _LEAST_UNCENSORED) ** 2, 0.0))


def follow_up_limit(times: Array, events: Array) -> float:
    """The first time by which 95 % of the subjects would be censored; infinite where that is never reached."""
    late = times[_uncensored(times, events) < _LEAST_UNCENSORED]
    return float(late.min()) if len(late) else float("inf")


def _uncensored(times: Array, events: Array) -> Array:
    """(n,) G(t-) at each subject's time; censoring at the time of an event comes after it."""
    unique, place = np.unique(times, return_inverse=True)
    censored = np.bincount(place, events <= 0, minlength=len(unique))
    happened = np.bincount(place, events > 0, minlength=len(unique))
    at_risk = np.cumsum(np.bincount(place, minlength=len(unique))[::-1])[::-1] - happened
    kept = np.cumprod(1 - censored / np.maximum(at_risk, 1))
    return np.asarray(np.concatenate([[1.0], kept[:-1]])[place], dtype=np.float64)


def _concordance(times: Array, events: Array, risk: Array, weights: Array) -> float:
    first = np.flatnonzero(events > 0)
    gained = known = 0.0
    size = max(1, _BLOCK // max(len(times), 1))
    for start in range(0, len(first), size):
        rows = first[start : start + size]
        later = (times[None] > times[rows, None]) | ((times[None] == times[rows, None]) & (events[None] <= 0))
        apart = risk[rows, None] - risk[None]
        score = (later & (apart > 0)).sum(axis=1) + 0.5 * (later & (apart == 0)).sum(axis=1)
        gained += float(weights[rows] @ score)
        known += float(weights[rows] @ later.sum(axis=1))
    return gained / known if known else float("nan")
