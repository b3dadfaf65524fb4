"""What every row of the benchmark is: a name, how it learns, and one of three ways to answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anatograph.choices import Device
from anatograph.evaluation.targets import Target
from anatograph.study.store import Study

Learns = Literal["nothing", "without labels", "without labels, in each fold", "labels, in each fold"]


@dataclass(frozen=True, eq=False)
class Scans:
    """The people of a benchmark, S of them, in one order for all methods."""

    study: Study
    """Patches, landmarks and lung masks of everybody (and perhaps of others)."""
    table: pd.DataFrame
    """S rows of the cohort table, with ``subject_id`` and labels, in the order of every array here."""
    work: Path
    """A folder in which methods may keep what is dear to make again, each in a folder of its own name."""
    seed: int = 0
    """Everything random follows from it."""
    preset: str = "default"
    """``default`` has the sizes of the original papers, ``quick`` suits two cores."""
    device: Device = "auto"
    """auto, cpu or cuda."""

    @property
    def subject_ids(self) -> list[str]:
        """S names."""
        return [str(name) for name in self.table["subject_id"]]


class Method(ABC):
    """A row. A subclass is one of the three below."""

    slug: ClassVar[str]
    """Name on the command line, as in ``--methods moco``."""
    title: ClassVar[str]
    """Name in the tables."""
    learns: ClassVar[Learns]
    """What it is fitted on; labels of people to be predicted are never seen."""
    note: str = ""
    """Something a reader of the table must know, as "random weights"."""


class CohortMethod(Method):
    """A vector for each person that no label had a part in, made once for all folds and targets."""

    @abstractmethod
    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, D) features. Raises ``UserError`` when the method cannot be had (weights, an extra)."""

    def regions(self, scans: Scans) -> NDArray[np.float64] | None:
        """(S, N, D) features of landmarks, NaN where absent; None for methods that know no regions."""
        return None


class FoldMethod(Method):
    """A vector for each person from something fitted, without labels, on the training people of a fold only."""

    @abstractmethod
    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S, D) features, rows other than ``train`` and ``test`` ignored; fitted on rows ``train`` alone."""


class SupervisedMethod(Method):
    """A network trained end to end on the training people of a fold for one target."""

    @abstractmethod
    def predict(
        self, scans: Scans, target: Target, train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Predictions for rows ``test`` of the table, fitted on rows ``train`` and their values alone.

        For a regression (n,), on the scale of ``target.values``; for classes (n, C) probabilities in the order of
        ``target.classes``. ``train`` and ``test`` index the table and are a part of ``target.rows``.
        """

    def predict_many(
        self, scans: Scans, targets: Sequence[Target], train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Predictions of several targets on one common fold; a method that can train one network for all overrides it.

        ``train`` and ``test`` index the table and may hold people who lack some of the values. For each target what
        `predict` gives, for those rows of ``test`` that have a value of it, in the order of ``test``. It must not be
        called with folds that differ between targets: a network that has seen a person's other labels has seen him.
        """
        return [
            self.predict(scans, target, train[np.isin(train, target.rows)], test[np.isin(test, target.rows)])
            for target in targets
        ]


def account(method: Method) -> dict[str, Any]:
    """What the report says of a method."""
    return {"slug": method.slug, "method": method.title, "learns": method.learns, "note": method.note}
