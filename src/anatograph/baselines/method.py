"""The interface of a benchmark row: a name, what it learns from, and one of three ways to predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.baselines.options import MethodOptions
from anatograph.choices import Device
from anatograph.evaluation.targets import Target
from anatograph.study.store import Study

Learns = Literal["nothing", "without labels", "without labels, in each fold", "labels, in each fold", "elsewhere"]
Sized = TypeVar("Sized")


@dataclass(frozen=True, eq=False)
class Scans:
    """The S subjects of a benchmark, in one order for all methods."""

    study: Study
    """Patches, landmarks and lung masks of all of them (and possibly of further subjects)."""
    table: pd.DataFrame
    """S rows of the cohort table, with ``subject_id`` and labels, in the order of every array here."""
    work: Path
    """Folder for intermediate results that are costly to recompute; each method has a subfolder of its own name."""
    seed: int = 0
    """Seed of everything random."""
    preset: str = "default"
    """``default`` has the sizes of the original papers, ``quick`` suits two cores."""
    device: Device = "auto"
    """auto, cpu or cuda."""

    @property
    def subject_ids(self) -> list[str]:
        """S identifiers."""
        return [str(name) for name in self.table["subject_id"]]

    def sized(self, by_preset: Mapping[str, Sized]) -> Sized:
        """The entry of a table of sizes (``default``, ``quick``) that belongs to this preset."""
        return by_preset["quick" if self.preset == "quick" else "default"]


class Method(ABC):
    """A row. Concrete classes derive from one of the three below."""

    slug: ClassVar[str]
    """Name on the command line, as in ``--methods moco``."""
    title: ClassVar[str]
    """Name in the tables."""
    learns: ClassVar[Learns]
    """What it is fitted on; labels of held-out subjects are never seen."""
    note: str = ""
    """Something a reader of the table must know, such as "random weights"."""
    updates: int | None = None
    """Updates of the networks trained for this row (of one, where each fold has its own); None where there are none."""

    def __init__(self, progress: bool = True) -> None:
        """``progress``: whether to show progress bars."""
        self.progress = progress

    @classmethod
    def from_options(cls, options: MethodOptions) -> Self:
        """The row with whatever the user supplied for it."""
        return cls(progress=options.progress)


class CohortMethod(Method):
    """One vector per subject, computed without labels, once for all folds and targets."""

    about: Mapping[str, Any] = MappingProxyType({})
    """What `embed` knows of its features when it has run, as `anatograph.embedding.table.write_embeddings` takes it."""

    @abstractmethod
    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, D) features. Raises ``UserError`` when the method is unavailable (weights, an extra)."""

    def regions(self, scans: Scans) -> NDArray[np.float64] | None:
        """(S, N, D) features of landmarks, NaN where absent; None for methods without regions."""
        return None


class FoldMethod(Method):
    """One vector per subject from a model fitted, without labels, on the training subjects of a fold only."""

    @abstractmethod
    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S, D) features, fitted on rows ``train`` alone; rows in neither ``train`` nor ``test`` are ignored."""


class SupervisedMethod(Method):
    """A network trained end to end on the training subjects of a fold for one target."""

    @abstractmethod
    def predict(
        self, scans: Scans, target: Target, train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Predictions for rows ``test`` of the table, fitted on rows ``train`` and their values alone.

        For a regression (n,), on the scale of ``target.values``; for classes (n, C) probabilities in the order of
        ``target.classes``. ``train`` and ``test`` index the table and are subsets of ``target.rows``.
        """

    def predict_many(
        self, scans: Scans, targets: Sequence[Target], train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Predictions of several targets on one common fold; methods that share one network override it.

        ``train`` and ``test`` index the table and may contain subjects without a value of some target. For each target
        returns what `predict` returns, for those rows of ``test`` that have a value of it, in the order of ``test``. It
        must not be called with folds that differ between targets: a network trained on a subject's other labels has
        seen that subject.
        """
        return [
            self.predict(scans, target, train[np.isin(train, target.rows)], test[np.isin(test, target.rows)])
            for target in targets
        ]


def describe(method: Method) -> dict[str, Any]:
    """How the report identifies a method."""
    return {
        "slug": method.slug,
        "method": method.title,
        "learns": method.learns,
        "note": method.note,
        "updates": method.updates,
    }
