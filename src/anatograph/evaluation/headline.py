"""The one figure by which a probe is judged, with its interval, and whether it is better than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.choices import TargetKind
from anatograph.evaluation.scores import Predictions, score
from anatograph.evaluation.targets import Target

HEADLINES: dict[TargetKind, tuple[str, str, float]] = {
    "regression": ("r2", "R²", 0.0),
    "classification": ("auc", "AUC", 0.5),
    "ordinal": ("kappa_quadratic", "quadratic kappa", 0.0),
    "survival": ("c_harrell", "C-index", 0.5),
}
"""Metric, its name, and its value by chance."""
METRIC_NAMES = {metric: name for metric, name, _ in HEADLINES.values()}
"""Names in sentences and pictures."""
DRAWS = 500
"""Bootstrap samples behind an interval, where no number of them is given."""
_Z = 1.959964


@dataclass(frozen=True)
class Headline:
    """A held-out figure over all subjects at once, each predicted by a probe fitted without it."""

    metric: str
    """Its name in ``results.csv``."""
    name: str
    """Its name in sentences."""
    value: float
    """Over all subjects (mean over the repeats)."""
    low: float
    """Lower end of its 95 % interval, from bootstrap samples of the subjects or groups; see `headline`."""
    high: float
    """Upper end."""
    n: int
    """Subjects."""
    chance: float
    """Value of a prediction without features."""

    @property
    def better_than_chance(self) -> bool:
        """Whether the whole interval lies above chance; False where it is undefined."""
        return bool(self.low > self.chance)

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return f"held-out {self.name} undefined (n = {self.n})"
        return f"held-out {self.name} {self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f}, n = {self.n})"

    def to_dict(self) -> dict[str, Any]:
        """For JSON; undefined numbers as None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        plain = {key: float(value) if np.isfinite(value) else None for key, value in numbers.items()}
        better = self.better_than_chance
        return {"metric": self.metric, **plain, "n": self.n, "chance": self.chance, "better_than_chance": better}

    @staticmethod
    def from_dict(said: Mapping[str, Any]) -> Headline:
        """What `to_dict` gave."""
        numbers = [said.get(key) for key in ("value", "low", "high")]
        value, low, high = (float("nan") if number is None else float(number) for number in numbers)
        metric = str(said.get("metric"))
        name, count, chance = METRIC_NAMES.get(metric, metric), int(said.get("n", 0)), float(said.get("chance", 0))
        return Headline(metric, name, value, low, high, count, chance)


def headline(
    target: Target,
    predictions: Predictions | Sequence[Predictions],
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Headline:
    """The headline of one or several rounds of cross-validation; ``groups`` (n,) are drawn as wholes.

    Where all bootstrap samples are alike because every subject is on the right side (or the wrong one), the interval is
    that of `lowest_figure`.
    """
    metric, name, chance = HEADLINES[target.task]
    found = {s.metric: s for s in score(target, predictions, groups, seed, draws, intervals=True)}
    one = found.get(metric) or found["auc"]
    if one.metric != metric:  # steps of unequal distance have no kappa
        metric, name, chance = HEADLINES["classification"]
    low, high = one.low, one.high
    if low == high and one.pooled == 1.0:
        low = lowest_figure(target, groups, chance)
    elif low == high and one.pooled == 0.0 and chance == 0.5:  # the wrong way round throughout
        high = 1 - lowest_figure(target, groups, chance)
    return Headline(metric, name, one.pooled, low, high, len(target.rows), chance)


def lowest_auc(few: int, many: int) -> float:
    """Lower end of the 95 % interval of an AUC of 1 with ``few`` and ``many`` subjects of the two classes.

    Newcombe's method 5 (Stat Med 2006; 25:559): the smallest θ with (1 - θ)² ≤ z² V(θ), where
    V(θ) = θ (1 - θ) / (m n) · (1 + (N - 1) ((1 - θ) / (2 - θ) + θ / (1 + θ))) and N = (m + n) / 2.
    """
    from scipy.optimize import brentq

    if min(few, many) < 1:
        return float("nan")
    half = (few + many) / 2 - 1

    def beyond(theta: float) -> float:
        spread = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return float((1 - theta) - _Z**2 * theta * spread / (few * many))  # both sides over 1 - θ

    return float(brentq(beyond, 0.0, 1.0))


def lowest_figure(target: Target, groups: NDArray[np.int64] | None, chance: float) -> float:
    """Lower end of the interval of a figure that is 1, the AUC's rescaled so that its ½ is this one's ``chance``.

    The two sizes are those of the smallest class (of survival: with the event; of numbers and grades: half) and of the
    rest, in groups where there are any.
    """
    units = np.arange(len(target.values)) if groups is None else groups
    whole = len(np.unique(units))
    if target.task == "classification":
        few = min(len(np.unique(units[target.values == value])) for value in np.unique(target.values))
    elif target.task == "survival":
        few = len(np.unique(units[target.values > 0]))
    else:
        few = whole // 2
    few = min(max(few, 1), whole - 1)
    return chance + (1 - chance) * (2 * lowest_auc(few, whole - few) - 1)
