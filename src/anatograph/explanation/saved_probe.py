"""Contributions to the prediction of a saved probe, for scans that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anatograph.embedding.regions import Regions
from anatograph.embedding.review import still_used
from anatograph.embedding.table import Embeddings
from anatograph.errors import UserError, counted
from anatograph.evaluation.headline import Headline
from anatograph.evaluation.saved.probe import SavedProbe, check_embeddings, load_probes
from anatograph.evaluation.targets import Target
from anatograph.explanation.contribution import Contribution, Fitted, reference_of, towards
from anatograph.explanation.normative import LEAST_SUBJECTS


class SavedExplainer:
    """A probe that `evaluate --save-probe` wrote, applied to the regions of other embeddings of the same model.

    Contributions are relative to the subjects of these embeddings, without the one that is explained: the training
    subjects' regions are not kept with a probe.
    """

    def __init__(
        self, folder: str | Path, target: str, embeddings: Embeddings, regions: Regions, exclude: Sequence[str] = ()
    ) -> None:
        """Subjects in ``exclude`` are no reference.

        Raises:
            UserError: a folder without this probe, embeddings of another model or pooling, or an unknown subject in
                ``exclude``.
        """
        probes, about = load_probes(folder)
        self.notes = check_embeddings(
            about, embeddings.about, embeddings.features.shape[1], probes, str(embeddings.path)
        )
        self.saved = _chosen(probes, target, folder)
        self._reference_ids, left_out = still_used(embeddings.path, regions.subject_ids, exclude=exclude)
        self.notes = [*self.notes, *left_out]
        self.regions, self._embeddings = regions, embeddings
        self.pooling = regions.pooling(embeddings.pooling)
        nothing = np.zeros(0)
        self.target = Target(self.saved.target, self.saved.task, nothing.astype(np.int64), nothing, self.saved.classes)

    @property
    def held_out(self) -> Headline:
        """The score of the cross-validation that the probe was saved with."""
        return Headline.from_dict(self.saved.held_out)

    @property
    def fitted_on(self) -> int:
        """Number of the training subjects whose range is known."""
        return len(self.saved.range.distances)

    def fitted_for(self, subject_id: str) -> Fitted:
        """The probe, which is the same for every subject."""
        return Fitted(self.saved.probe, self.target)

    def range_p(self, subject_id: str) -> float:
        """Share of the training subjects that lie as far from the others as this one, or farther."""
        return float(self.saved.range.p(self._embeddings.only([subject_id]))[0])

    def contribution(self, subject_id: str, class_name: str | None = None) -> Contribution:
        """M_j of one subject, relative to the other subjects of the embeddings.

        Raises:
            UserError: an unknown class or subject, or too few other subjects.
        """
        nodes = self.regions.of(subject_id)
        direction = towards(self.fitted_for(subject_id), class_name, self.pooling.pool(nodes))
        direction = replace(direction, pooling=self.pooling)
        others = [name for name in self._reference_ids if name != subject_id]
        if len(others) < LEAST_SUBJECTS:
            raise UserError(
                f"A map compares {subject_id} with the other subjects of {self._embeddings.path}, and {len(others)} "
                f"are too few; embed at least {counted(LEAST_SUBJECTS - len(others), 'more scan')} into it."
            )
        return Contribution(subject_id, direction.of(nodes), direction, reference_of(self.regions, others, direction))


def _chosen(probes: list[SavedProbe], target: str, folder: str | Path) -> SavedProbe:
    """The probe of a target. Raises UserError where there is none, or one of survival."""
    for one in probes:
        if one.target == target and one.task != "survival":
            return one
    known = ", ".join(one.target for one in probes if one.task != "survival") or "none"
    raise UserError(f"{folder} has no probe of '{target}' that can be explained; it has: {known}.")
