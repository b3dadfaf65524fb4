"""What pretraining needs to know of a study: who is there, with which landmarks and edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.learning.seeding import numpy_generator
from anatograph.learning.training.sampler import PatchSource


@dataclass(frozen=True, eq=False)
class Cohort:
    """What pretraining needs to know of a study's subjects."""

    source: PatchSource
    """Where patches are read."""
    ids: list[str]
    """S names."""
    present: NDArray[np.bool_]
    """(S, N): which landmarks lie inside whose scan."""
    edges: list[NDArray[np.int32]]
    """S arrays (E, 2)."""

    @property
    def landmarks(self) -> int:
        """N."""
        return int(self.present.shape[1])


def read_cohort(study: Any) -> Cohort:
    """Who is in a study: presence of landmarks and edges of everybody, patches left on disk."""
    ids = list(study.subject_ids)
    subjects = [study.subject(name) for name in ids]
    present = np.stack([np.asarray(subject.present, dtype=bool) for subject in subjects])
    edges = [np.asarray(subject.edges, dtype=np.int32) for subject in subjects]
    return Cohort(study, ids, present, edges)


def random_rows(cohort: Cohort, rows: int, names: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Subject and landmark of ``rows`` patches drawn from all there are."""
    subjects, landmarks = np.nonzero(cohort.present)
    chosen = numpy_generator(*names).integers(0, len(subjects), rows)
    return subjects[chosen], landmarks[chosen]
