"""The probes of a target, each fitted without the subjects that it explains."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from anatograph.choices import ProbeKind, current
from anatograph.embedding.regions import Regions
from anatograph.errors import UserError
from anatograph.evaluation.alignment import Aligned
from anatograph.evaluation.cross_validation import collect, usable
from anatograph.evaluation.folds import make_folds
from anatograph.evaluation.headline import Headline, headline
from anatograph.evaluation.probes.linear import Probe, fit_probe
from anatograph.evaluation.saved.probe import Range, fit_range
from anatograph.evaluation.targets import Target
from anatograph.explanation.contribution import Contribution, Direction, Fitted, Reference, reference_of, towards
from anatograph.explanation.smooth_metric import smooth_metric

FEW = 5
"""Subjects below which there is no range."""


def probe_kind(name: str) -> ProbeKind:
    """A kind of probe from its name, of older versions too; UserError for another."""
    known: tuple[ProbeKind, ...] = get_args(ProbeKind)
    for kind in known:
        if current(name) == kind:
            return kind
    raise UserError(f"The probe must be one of {', '.join(known)}, not '{name}'.")


class Explainer:
    """The probes of a target, one per fold, each fitted once, when the first of its held-out subjects is explained.

    The folds are those of `evaluate` with the same ``folds`` and ``seed``; with ``probe`` "evaluate" what is explained
    is the answer in its table of predictions. A subject without a value of the target is explained by a probe of
    all subjects that have one.
    """

    def __init__(
        self,
        data: Aligned,
        target: Target,
        regions: Regions,
        groups: NDArray[np.int64] | None = None,
        folds: int = 5,
        seed: int = 0,
        probe: ProbeKind = "evaluate",
    ) -> None:
        """``groups`` (n,) numbers the group of each subject of ``data``; raises UserError as `evaluate` does."""
        self.data, self.regions, self.groups, self.seed, self.kind = data, regions, groups, seed, probe
        self.pooling = regions.pooling(data.pooling)
        self.target = usable(target, groups, folds)
        self.subject_ids: list[str] = data.table["subject_id"].tolist()
        of_target = None if groups is None else groups[self.target.rows]
        self._folds = make_folds(self.target.values, bool(self.target.classes), of_target, folds, seed)
        self._fitted: dict[frozenset[int], Fitted] = {}
        self._ranges: dict[int, Range] = {}
        self._references: dict[tuple[int, str | None], tuple[Direction, Reference]] = {}

    @property
    def fitted_on(self) -> int:
        """Number of the subjects that the largest fold's probe is fitted on."""
        return max(len(train) for train, _ in self._folds)

    def fitted_for(self, subject_id: str) -> Fitted:
        """The probe fitted without this subject and its group.

        Raises:
            UserError: where the remaining subjects do not suffice.
        """
        train = np.arange(len(self.target.rows))
        if subject_id in self.subject_ids:
            row = self.subject_ids.index(subject_id)
            for some, test in self._folds:
                if row in self.target.rows[test]:
                    train = some
            if self.groups is not None:
                train = train[self.groups[self.target.rows[train]] != self.groups[row]]
        key = frozenset(train.tolist())
        if key not in self._fitted:
            chosen = np.zeros(len(self.target.rows), dtype=bool)
            chosen[train] = True
            training = self.target.keep(chosen, "")
            if len(training.rows) < 4 or len(np.unique(training.values)) < 2:
                raise UserError(
                    f"{len(training.rows)} other subjects with a value of '{self.target.name}' are too few to explain "
                    f"{subject_id}; add subjects to the cohort."
                )
            self._fitted[key] = Fitted(self._fit(training.rows, training.values, len(training.classes)), training)
        return self._fitted[key]

    def _fit(self, rows: NDArray[np.int64], values: NDArray[np.float64], classes: int) -> Probe:
        """A probe of the table's ``rows`` (n,) with ``values`` (n,) of the target."""
        groups = None if self.groups is None else self.groups[rows]
        metric = None
        if self.kind == "smooth":
            metric = smooth_metric(self.regions, [self.subject_ids[row] for row in rows])
        ordered = self.target.task == "ordinal"
        features = self.data.features[rows]
        return fit_probe(features, values, classes, groups, self.seed, metric, ordered, self.data.parts)

    @cached_property
    def held_out(self) -> Headline:
        """How well these probes predict the subjects that they were fitted without."""
        target, predicted = self.target, []
        own = None if self.groups is None else self.groups[target.rows]
        features, classes = self.data.features[target.rows], len(target.classes)
        for train, test in self._folds:
            probe = self._fit(target.rows[train], target.values[train], classes)
            predicted.append(probe.probabilities(features[test]) if classes else probe.predict(features[test]))
        return headline(target, collect(target, self._folds, predicted), own, self.seed)

    def range_p(self, subject_id: str) -> float:
        """Share of the subjects fitted on that lie as far from the others as this one, or farther; NaN of too few."""
        fitted = self.fitted_for(subject_id)
        rows = fitted.target.rows
        if len(rows) < FEW:
            return float("nan")
        size = self.data.features.shape[1] // self.data.parts.count
        if id(fitted) not in self._ranges:
            groups = None if self.groups is None else self.groups[rows]
            self._ranges[id(fitted)] = fit_range(self.data.features[rows, :size], groups, self.seed)
        return float(self._ranges[id(fitted)].p(self.pooling.pool(self.regions.of(subject_id))[None])[0])

    def contribution(self, subject_id: str, class_name: str | None = None) -> Contribution:
        """M_j of one subject for a class (the predicted one, or the last of two, if not given) or for a number.

        Raises:
            UserError: an unknown class or subject, or too few other subjects to fit a probe.
        """
        nodes = self.regions.of(subject_id)
        fitted = self.fitted_for(subject_id)
        direction = replace(towards(fitted, class_name, self.pooling.pool(nodes)), pooling=self.pooling)
        key = (id(fitted), direction.class_name)
        if key not in self._references:
            names = [self.subject_ids[row] for row in fitted.target.rows]
            self._references[key] = direction, reference_of(self.regions, names, direction)
        direction, reference = self._references[key]
        return Contribution(subject_id, direction.of(nodes), direction, reference)
