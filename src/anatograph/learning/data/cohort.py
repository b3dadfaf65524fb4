"""What pretraining needs to know about a study: subjects, their landmarks and edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.learning.seeding import numpy_generator
from anatograph.study.settings import PreprocessSettings


class PatchSource(Protocol):
    """What reading patches needs of a study."""

    def read_patches(self, subject_ids: Sequence[str], landmarks: ArrayLike, /) -> NDArray[np.int16]:
        """The b-th subject's patch at the b-th landmark: (B, P, P, P) HU."""
        ...


class TrainingSubject(Protocol):
    """What pretraining needs of one subject."""

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,): which landmarks lie inside the scan."""
        ...

    @property
    def edges(self) -> NDArray[np.integer]:
        """(E, 2): the subject's graph."""
        ...


class TrainingStudy(PatchSource, Protocol):
    """What pretraining needs of a study; `anatograph.study.store.Study` is one."""

    @property
    def atlas(self) -> Atlas:
        """The atlas whose landmarks the patches lie at."""
        ...

    @property
    def settings(self) -> PreprocessSettings:
        """How the subjects were preprocessed."""
        ...

    @property
    def subject_ids(self) -> list[str]:
        """Identifiers in a fixed order."""
        ...

    def subject(self, subject_id: str, /) -> TrainingSubject:
        """One subject's landmarks and edges."""
        ...

    def digest(self) -> str:
        """A short text that changes with the atlas, the preprocessing and the scans."""
        ...


@dataclass(frozen=True, eq=False)
class TrainingCohort:
    """The subjects of a study as pretraining sees them."""

    source: PatchSource
    """Where patches are read."""
    ids: list[str]
    """S identifiers."""
    present: NDArray[np.bool_]
    """(S, N): which landmarks lie inside each subject's scan."""
    edges: list[NDArray[np.int32]]
    """S arrays (E, 2)."""

    @property
    def landmarks(self) -> int:
        """N."""
        return int(self.present.shape[1])


def read_cohort(study: TrainingStudy) -> TrainingCohort:
    """The subjects of a study, their landmarks and edges in memory, their patches left on disk."""
    ids = list(study.subject_ids)
    subjects = [study.subject(name) for name in ids]
    present = np.stack([np.asarray(subject.present, dtype=bool) for subject in subjects])
    edges = [np.asarray(subject.edges, dtype=np.int32) for subject in subjects]
    return TrainingCohort(study, ids, present, edges)


def random_rows(
    cohort: TrainingCohort, rows: int, seeds: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Subject and landmark of ``rows`` patches drawn at random from the whole cohort; ``seeds`` name the draw."""
    subjects, landmarks = np.nonzero(cohort.present)
    chosen = numpy_generator(*seeds).integers(0, len(subjects), rows)
    return subjects[chosen], landmarks[chosen]
