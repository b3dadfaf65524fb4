"""What a saved probe of a time to an event holds beside its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.probes.cox import CoxProbe, fit_cox_probe
from anatograph.evaluation.probes.linear import Probe
from anatograph.evaluation.scores import Predictions
from anatograph.evaluation.survival.curves import THIRDS, share_with_event, thirds_of
from anatograph.evaluation.survival.outcome import horizon
from anatograph.evaluation.targets import Target
from anatograph.learning.model.pooling import Parts

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SavedSurvival:
    """The baseline hazard of a Cox probe, and how the held-out subjects fared in each third of the predicted risk."""

    times: Array
    """(k,) event times of the training subjects, ascending."""
    hazard: Array
    """(k,) cumulative baseline hazard at these times."""
    horizon: float
    """Time by which risks are predicted, in the unit of the target."""
    cuts: Array
    """(2,) log-hazards between the thirds of the held-out subjects."""
    observed: Array
    """(3, 3) by third: share with the event by the horizon (Kaplan-Meier) and the ends of its 95 % interval."""

    def columns(self, probe: Probe, features: Array) -> dict[str, Any]:
        """Columns of the table of predictions for subjects (n, F)."""
        cox = CoxProbe(probe.weights[0], float(probe.intercept[0]), probe.strength, self.times, self.hazard)
        log_hazard = cox.log_hazard(features)
        third = np.searchsorted(self.cuts, log_hazard, side="right")
        observed = dict(zip(("observed", "observed_low", "observed_high"), self.observed[third].T, strict=True))
        return {
            "log_hazard": log_hazard,
            "risk": cox.risk(features, self.horizon),
            "horizon": self.horizon,
            "third": np.array(THIRDS, dtype=object)[third],
            **observed,
        }

    def arrays(self) -> dict[str, Array]:
        """What `from_arrays` reads."""
        return {"times": self.times, "hazard": self.hazard, "cuts": self.cuts, "observed": self.observed,
                "horizon": np.array([self.horizon])}  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> SavedSurvival:
        """Raises ValueError for arrays that do not fit each other."""
        times, hazard = arrays["times"], arrays["hazard"]
        whole = all(np.isfinite(arrays[name]).all() for name in ("times", "hazard", "cuts", "horizon"))
        shapes = arrays["cuts"].shape == (2,) and arrays["observed"].shape == (3, 3)
        if not whole or not shapes or times.shape != hazard.shape:
            raise ValueError("its survival curve is incomplete")
        return cls(times, hazard, float(arrays["horizon"][0]), arrays["cuts"], arrays["observed"])


def fit_saved_survival(
    features: Array,
    target: Target,
    groups: NDArray[np.int64] | None,
    rounds: Sequence[Predictions],
    seed: int,
    parts: Parts,
) -> tuple[Probe, SavedSurvival]:
    """A Cox probe fitted on all subjects (n, F), as a `Probe` whose score is the log-hazard, and the rest of it.

    The thirds are those of the subjects' log-hazards out of fold (mean over the ``rounds``).
    """
    assert target.times is not None
    cox = fit_cox_probe(features, target.times, target.values, groups, seed, parts)
    when = horizon(target)
    risk = np.mean([one.predicted for one in rounds], axis=0)
    part = thirds_of(risk)
    observed = []
    for k in range(len(THIRDS)):
        own = part == k
        observed.append(share_with_event(target.times[own], target.values[own], when))
    cuts = np.array([(risk[part <= k].max() + risk[part > k].min()) / 2 for k in range(len(THIRDS) - 1)])
    probe = Probe(cox.weights[None], np.array([cox.intercept]), 0, cox.strength, 0.0, 1.0)
    return probe, SavedSurvival(cox.times, cox.hazard, when, cuts, np.array(observed, dtype=np.float64))
