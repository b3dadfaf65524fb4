"""What each region contributes to a probe's answer: eq. 10 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.embedding.regions import Regions
from anatograph.errors import UserError
from anatograph.evaluation.probes.linear import Probe
from anatograph.evaluation.targets import Target
from anatograph.learning.model.pooling import Pooling

STRONG = 0.9
"""Value on the scale of a contribution that 5 % of the regions of reference subjects exceed."""


@dataclass(frozen=True, eq=False)
class Direction:
    """One linear answer of a fitted probe: answer = intercept + weights · S'."""

    weights: NDArray[np.float64]
    """(M · F,) W of eq. 10, part after part."""
    intercept: float
    """β of eq. 10."""
    class_name: str | None
    """The class that a high answer means; None for a number."""
    meaning: str
    """What a high answer means, in words."""
    scale: float = 1.0
    """Units of the target to one unit of the answer: its standard deviation in the training subjects; 1 for classes,
    whose answer is in log-odds."""
    offset: float = 0.0
    """The target where the answer is 0: its mean in the training subjects."""

    pooling: Pooling | None = None
    """How regions were pooled; None for their mean."""

    def of(self, nodes: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
        """M_j = Σ_m a_m(j) W_m · h'_j of a subject's regions (N, F) as (N,), NaN where they are absent."""
        if self.pooling is not None:
            return self.pooling.contributions(self.weights, nodes)
        return np.asarray(nodes.astype(np.float64) @ self.weights, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Reference:
    """The contributions of the subjects that a probe was fitted on."""

    median: NDArray[np.float64]
    """(N,) of M_j over these subjects; NaN where none has the landmark."""
    spread: float
    """95th percentile of |M_j - median_j| over all of them and all landmarks."""
    subjects: int
    """How many."""


@dataclass(frozen=True, eq=False)
class Contribution:
    """What each region of one subject contributes to the prediction of a target."""

    subject_id: str
    """Whose regions."""
    raw: NDArray[np.float64]
    """(N,) M_j of eq. 10; NaN where the scan does not reach. β plus its mean over the regions is the probe's answer."""
    direction: Direction
    """W, β and what they mean; fitted without this subject (and its group)."""
    reference: Reference
    """Of the training subjects."""

    @property
    def answer(self) -> float:
        """The prediction for the subject: log-odds, or the standardised value."""
        return float(self.direction.intercept + np.nanmean(self.raw))

    @property
    def reference_answer(self) -> float:
        """The prediction for a subject whose regions all equal the median of the reference subjects."""
        there = np.isfinite(self.raw) & np.isfinite(self.reference.median)
        return float(self.direction.intercept + self.reference.median[there].mean())

    @property
    def relative(self) -> NDArray[np.float64]:
        """(N,) M_j minus the median of the reference subjects at the same landmark: what sets this region apart.

        Its mean over the regions is `answer` minus `reference_answer`.
        """
        return np.asarray(self.raw - self.reference.median, dtype=np.float64)

    def values(self, scale: str = "relative") -> NDArray[np.float64]:
        """(N,) in (0, 1), above 0.5 where the region is evidence for it, below where against.

        ``relative``: the sigmoid of `relative` over the reference's spread, scaled so that 5 % of the
        regions of reference subjects lie beyond 0.9 or 0.1. ``eq10``: the sigmoid of M_j + β, each region as if it were
        the whole subject; since regions differ by anatomy far more than subjects do, it is often near 0 or 1
        everywhere.
        """
        from scipy.special import expit

        if scale == "eq10":
            return np.asarray(expit(self.raw + self.direction.intercept), dtype=np.float64)
        if scale != "relative":
            raise UserError(f"The scale must be relative or eq10, not '{scale}'.")
        steep = np.log(STRONG / (1 - STRONG)) / self.reference.spread
        return np.asarray(expit(self.relative * steep), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A probe and its training subjects."""

    probe: Probe
    """The probe."""
    target: Target
    """The training subjects, with the classes they have."""


def reference_of(regions: Regions, subject_ids: Sequence[str], direction: Direction) -> Reference:
    """Median and spread of M_j over some subjects, read one after the other."""
    import warnings

    found = np.array([direction.of(regions.of(name)) for name in subject_ids])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a landmark that no subject has
        median = np.nanmedian(found, axis=0)
    away = np.abs(found - median)
    spread = float(np.nanquantile(away, 0.95))
    # A probe that found nothing has weights of 0, so every contribution is the same.
    return Reference(np.asarray(median, dtype=np.float64), spread if spread > 1e-12 else 1.0, len(found))


def towards(fitted: Fitted, class_name: str | None, subject: NDArray[np.float64]) -> Direction:
    """The linear answer for a class or a number; ``subject`` (F,) decides the class where none is named.

    With more than two classes it is the class's logit minus the mean of the others', with steps of a score the
    log-odds of that step or more. Raises UserError for an unknown class.
    """
    probe, target = fitted.probe, fitted.target
    if not target.classes:
        if class_name is not None:
            raise UserError(f"'{target.name}' is a number and has no class '{class_name}'.")
        scale = probe.target_std or 1.0
        weights, intercept = probe.weights[0] / scale, (probe.intercept[0] - probe.target_mean) / scale
        return Direction(weights, float(intercept), None, f"higher {target.name}", scale, probe.target_mean)
    if class_name is not None and class_name not in target.classes:
        raise UserError(
            f"'{target.name}' has no class '{class_name}' in the training subjects; "
            f"they have: {', '.join(target.classes)}."
        )
    if len(target.classes) == 2:
        index = 1 if class_name is None else target.classes.index(class_name)
        sign = 1.0 if index == 1 else -1.0
        name = target.classes[index]
        return Direction(sign * probe.weights[0], float(sign * probe.intercept[0]), name, f"{target.name} = {name}")
    if probe.ordered:
        index = int(probe.predict(subject[None])[0]) if class_name is None else target.classes.index(class_name)
        if class_name is not None and index == 0:
            lowest = f"{target.name} = {class_name}"
            return Direction(-probe.weights[0], float(-probe.intercept[0]), class_name, lowest)
        index = max(index, 1)
        name = target.classes[index]
        return Direction(probe.weights[0], float(probe.intercept[index - 1]), name, f"{target.name} of {name} or more")
    logits = probe.scores(subject[None])[0]
    index = int(logits.argmax()) if class_name is None else target.classes.index(class_name)
    against = np.full(len(target.classes), -1.0 / (len(target.classes) - 1))
    against[index] = 1.0
    name = target.classes[index]
    meaning = f"{target.name} = {name}, against the other classes"
    return Direction(against @ probe.weights, float(against @ probe.intercept), name, meaning)
