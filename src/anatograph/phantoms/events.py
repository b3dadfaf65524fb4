"""Time to an event with a known hazard, for survival analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BASELINE_PER_YEAR = 0.035
"""Hazard of a subject of 60 years with FEV1 80 % of predicted and no ground glass."""
LOG_HAZARD = {"FEV1pp": -0.035, "age": 0.04, "ground_glass_extent": 1.5}
"""Change of the log-hazard per unit of each column."""
_REFERENCE = {"FEV1pp": 80.0, "age": 60.0, "ground_glass_extent": 0.0}
_FOLLOW_UP = (2.0, 8.0)


def event_columns(row: Mapping[str, float | int | str], rng: np.random.Generator) -> dict[str, float | int]:
    """Columns ``event`` (1 where it was observed) and ``event_years`` (until then, or until the end of follow-up).

    The hazard is constant in time: `BASELINE_PER_YEAR` · exp(Σ `LOG_HAZARD` · (column - reference)). Follow-up ends
    after 2 to 8 years, evenly and independently of everything else. A column that is not known counts as its reference.
    """
    log_hazard = sum(
        effect * (float(row.get(name, _REFERENCE[name])) - _REFERENCE[name]) for name, effect in LOG_HAZARD.items()
    )
    until_event = float(rng.exponential(1.0 / (BASELINE_PER_YEAR * np.exp(log_hazard))))
    follow_up = float(rng.uniform(*_FOLLOW_UP))
    return {"event": int(until_event <= follow_up), "event_years": round(min(until_event, follow_up), 3)}


def follow_from_first_visit(rows: Sequence[dict[str, Any]]) -> None:
    """Give the rows of later visits the event of the first, counted from the later visit.

    Where the event or the end of follow-up came before the visit, both columns are empty. Cohorts without visits or
    events stay as they are.
    """
    first = {row["person"]: row for row in rows if row.get("visit") == 1}
    for row in rows:
        if row.get("visit", 1) == 1 or "event" not in first[row["person"]]:
            continue
        known = first[row["person"]]
        left = round(known["event_years"] - row["years"], 3)
        row |= {"event": known["event"], "event_years": left} if left > 0 else {"event": None, "event_years": None}
