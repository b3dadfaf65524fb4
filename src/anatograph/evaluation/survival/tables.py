"""What is written about a survival target beside its concordance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.survival.concordance import harrell, uno
from anatograph.evaluation.survival.curves import (
    THIRDS,
    calibration_slope,
    kaplan_meier,
    log_rank,
    share_with_event,
    thirds_of,
)
from anatograph.evaluation.survival.outcome import horizon
from anatograph.evaluation.targets import Target


def survival_tables(target: Target, rounds: Sequence[Predictions]) -> dict[str, pd.DataFrame]:
    """``survival``, ``kaplan_meier`` and ``calibration`` of a survival target from its out-of-fold predictions.

    Risks are means over the rounds.  ``survival`` has one row: subjects, events, median follow-up (Kaplan-Meier of
    censoring), both concordances, calibration slope, the log-rank test between thirds of the risk.  ``kaplan_meier``
    has the curve of each third, ``calibration`` the predicted and observed share with the event by the horizon.
    """
    assert target.times is not None
    times, events = target.times, target.values
    risk = np.mean([one.predicted for one in rounds], axis=0)
    by_horizon = np.mean([one.risk for one in rounds if one.risk is not None], axis=0)
    when = horizon(target)
    part = thirds_of(risk)
    curves, calibration = [], []
    for k, name in enumerate(THIRDS):
        own = part == k
        curve = kaplan_meier(times[own], events[own])
        observed, low, high = share_with_event(times[own], events[own], when)
        curves.append(curve.assign(target=target.name, third=name))
        calibration.append(
            {
                "target": target.name,
                "third": name,
                "n": int(own.sum()),
                "events": int(events[own].sum()),
                "horizon": when,
                "predicted": float(by_horizon[own].mean()),
                "observed": observed,
                "low": low,
                "high": high,
            }
        )
    statistic, p = log_rank(times, events, part)
    slope = calibration_slope(times, events, risk)
    row = {
        "target": target.name,
        "n": len(times),
        "events": int(events.sum()),
        "median_follow_up": _median(kaplan_meier(times, 1 - events)),
        "c_harrell": harrell(times, events, risk),
        "c_uno": uno(times, events, risk),
        "calibration_slope": slope.slope,
        "slope_low": slope.low,
        "slope_high": slope.high,
        "log_rank_chi2": statistic,
        "log_rank_p": p,
        "horizon": when,
    }
    first = ["target", "third"]
    whole = pd.concat(curves, ignore_index=True)
    return {
        "survival": pd.DataFrame([row]),
        "kaplan_meier": whole[[*first, *(c for c in whole.columns if c not in first)]],
        "calibration": pd.DataFrame(calibration),
    }


def _median(curve: pd.DataFrame) -> float:
    """First time at which at most half are left; NaN where that is never reached."""
    below = curve[curve["survival"] <= 0.5]
    return float(below["time"].iloc[0]) if len(below) else float("nan")
