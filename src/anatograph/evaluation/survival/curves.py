"""Kaplan-Meier curves by thirds of the predicted risk, the log-rank test between them, and calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.evaluation.probes.cox import PartialLikelihood, fit_cox

Array = NDArray[np.float64]
THIRDS = ("low", "middle", "high")
_Z, _TAIL = 1.959964, 0.025


@dataclass(frozen=True)
class Calibration:
    """How the predicted log-hazard relates to what was observed."""

    slope: float
    """Cox coefficient of the out-of-fold log-hazard: 1 is ideal, less than 1 too extreme, more too cautious."""
    low: float
    """Lower end of its 95 % interval (Wald)."""
    high: float
    """Upper end."""


def thirds_of(risk: Array) -> NDArray[np.int64]:
    """(n,) 0, 1 or 2: the lower, middle or upper third of the predicted risks (n,)."""
    rank = np.argsort(np.argsort(risk, kind="stable"), kind="stable")
    return np.asarray(rank * len(THIRDS) // len(risk), dtype=np.int64)


def kaplan_meier(times: Array, events: Array) -> pd.DataFrame:
    """time, survival, low, high, at_risk, events at 0, at each event time, and at the end of follow-up.

    Greenwood's variance on the log-log scale gives the 95 % interval; undefined ends are NaN.
    """
    from statsmodels.duration.survfunc import SurvfuncRight

    last = float(times.max())
    rows = pd.DataFrame([{"time": 0.0, "survival": 1.0, "low": 1.0, "high": 1.0, "at_risk": len(times), "events": 0}])
    if (events > 0).any():
        found = SurvfuncRight(times, events.astype(np.int64))
        alive, error = np.asarray(found.surv_prob), np.asarray(found.surv_prob_se)
        inside = (alive > 0) & (alive < 1)
        safe = np.where(inside, alive, 0.5)
        wide = np.where(inside, np.exp(_Z * error / np.abs(safe * np.log(safe))), np.nan)
        steps = pd.DataFrame(
            {
                "time": np.asarray(found.surv_times, dtype=np.float64),
                "survival": alive,
                "low": safe**wide,
                "high": safe ** (1 / wide),
                "at_risk": np.asarray(found.n_risk, dtype=np.int64),
                "events": np.asarray(found.n_events, dtype=np.int64),
            }
        )
        rows = pd.concat([rows, steps[steps["events"] > 0]], ignore_index=True)
    if rows["time"].iloc[-1] < last:
        end = rows.iloc[-1:].assign(time=last, at_risk=int((times >= last).sum()), events=0)
        if not (events > 0).any():
            end = end.assign(low=np.nan, high=np.nan)
        rows = pd.concat([rows, end], ignore_index=True)
    return rows


def share_with_event(times: Array, events: Array, horizon: float) -> tuple[float, float, float]:
    """Share with the event by ``horizon`` (Kaplan-Meier) and its 95 % interval, from ``times`` and ``events`` (n,).

    Without an event by then, where Greenwood's variance is 0, the upper end is exact for the m subjects who were
    followed to the horizon: 1 - 0.025^(1/m), that of Clopper and Pearson (1934).
    """
    curve = kaplan_meier(times, events)
    row = curve[curve["time"] <= horizon].iloc[-1]
    if row["survival"] == 1:
        followed = int((times >= horizon).sum())
        return 0.0, 0.0, float(1 - _TAIL ** (1 / followed)) if followed else 1.0
    return 1 - float(row["survival"]), 1 - float(row["high"]), 1 - float(row["low"])


def log_rank(times: Array, events: Array, part: NDArray[np.int64]) -> tuple[float, float]:
    """χ² and p of the log-rank test that all ``part`` (n,) have one survival curve; NaN with a single part."""
    from statsmodels.duration.survfunc import survdiff

    if len(np.unique(part)) < 2:
        return float("nan"), float("nan")
    statistic, p = survdiff(times, events.astype(np.int64), part)
    return float(statistic), float(p)


def calibration_slope(times: Array, events: Array, log_hazard: Array) -> Calibration:
    """Regress the outcome on the out-of-fold ``log_hazard`` (n,) alone; NaN where that does not vary."""
    spread = float(log_hazard.std())
    if not spread > 1e-9:
        return Calibration(float("nan"), float("nan"), float("nan"))
    x = ((log_hazard - log_hazard.mean()) / spread)[:, None]
    beta = fit_cox(x, times, events, 0.0)
    likelihood = PartialLikelihood(times, events)
    w, d, share = likelihood.weights(x @ beta)
    means = likelihood.risk_means(x, w, d)
    information = float(((x[:, 0] ** 2) * w * share).sum() - (means**2).sum())
    error = 1 / np.sqrt(information) if information > 0 else float("nan")
    slope = float(beta[0]) / spread
    return Calibration(slope, slope - _Z * error / spread, slope + _Z * error / spread)
