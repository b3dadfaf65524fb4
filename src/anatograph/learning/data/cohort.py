"""What pretraining needs to know about a study: subjects, their landmarks and edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.errors import UserError, counted
from anatograph.learning.seeding import numpy_generator
from anatograph.study.cohort import read_cohort as read_cohort_table
from anatograph.study.settings import PreprocessSettings
from anatograph.typed_settings import nearest


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

    @property
    def parenchyma_hu(self) -> NDArray[np.float64]:
        """(N,) the most frequent density of the lung that each landmark is in, HU."""
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

    def read_inside(self, subject_ids: Sequence[str], landmarks: ArrayLike, /) -> NDArray[np.bool_]:
        """Which voxels of the patches that `read_patches` gives are lung: (B, P, P, P)."""
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
    groups: NDArray[np.int64]
    """(S,): scans of one patient have one number and are never each other's negatives."""
    strata: NDArray[np.int64] | None = None
    """(G,): the stratum of each number in ``groups``, where only subjects of one stratum are each other's negatives."""

    def read(self, subjects: NDArray[np.integer], landmarks: NDArray[np.integer]) -> NDArray[np.int16]:
        """Patches (B, P, P, P) HU of the subjects and landmarks with these indices, (B,) each."""
        patches = self.source.read_patches([self.ids[s] for s in subjects], landmarks)
        return np.ascontiguousarray(patches, dtype=np.int16)

    @property
    def landmarks(self) -> int:
        """N."""
        return int(self.present.shape[1])


def read_cohort(
    study: TrainingStudy,
    groups: Mapping[str, str] | None = None,
    source: PatchSource | None = None,
    strata: Mapping[str, str] | None = None,
) -> TrainingCohort:
    """The subjects of a study, their landmarks and edges in memory, their patches left on disk.

    ``source`` is where patches are read, the study itself if not given (`anatograph.learning.data.shown`).
    ``groups`` names the group of a subject, such as the patient; a subject without one is a group of its own.
    ``strata`` names its stratum, such as the scanner; those without one are a stratum together. A patient's scans of
    two strata get two numbers: they are no negatives of each other in any case.
    """
    ids = list(study.subject_ids)
    subjects = [study.subject(name) for name in ids]
    present = np.stack([np.asarray(subject.present, dtype=bool) for subject in subjects])
    edges = [np.asarray(subject.edges, dtype=np.int32) for subject in subjects]
    names = [(groups or {}).get(name) for name in ids]
    keys = [("subject", name) if group is None else ("group", group) for name, group in zip(ids, names, strict=True)]
    kinds = [(strata or {}).get(name) for name in ids]
    owners = list(zip(keys, kinds, strict=True))
    numbers = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    kind_numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    return TrainingCohort(
        source or study,
        ids,
        present,
        edges,
        np.array([numbers[owner] for owner in owners], dtype=np.int64),
        np.array([kind_numbers[kind] for _, kind in numbers], dtype=np.int64) if strata else None,
    )


def read_groups(table: Path, column: str, subject_ids: Sequence[str]) -> dict[str, str]:
    """The value of ``column`` in a cohort table for each of the subjects that has one.

    Raises:
        UserError: no such table or column, subjects that it does not list, or no subject with a value.
    """
    frame = read_cohort_table(table).table
    if column not in frame.columns:
        near = nearest(column, map(str, frame.columns))
        raise UserError(f"{table} has no column {column!r} to group by; did you mean {near!r}?")
    known = set(subject_ids)
    if missing := sorted(known - set(frame["subject_id"].astype(str))):
        raise UserError(
            f"{table} does not list {counted(len(missing), 'subject')} of the study ({', '.join(missing[:3])}), whose "
            f"{column} is therefore unknown: give a table of all of them as the cohort, with no value where it is not "
            "known, or leave them out with exclude."
        )
    pairs = zip(frame["subject_id"].astype(str), frame[column], strict=True)
    groups = {name: str(value).strip() for name, value in pairs if name in known and not _missing(value)}
    if not groups:
        raise UserError(f"{table}: the column {column!r} has no value for any subject of the study.")
    return groups


def _missing(value: object) -> bool:
    return value is None or value != value or not str(value).strip()


def random_rows(
    cohort: TrainingCohort, rows: int, seeds: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Subject and landmark of ``rows`` patches drawn at random from the whole cohort; ``seeds`` name the draw."""
    subjects, landmarks = np.nonzero(cohort.present)
    chosen = numpy_generator(*seeds).integers(0, len(subjects), rows)
    return subjects[chosen], landmarks[chosen]
