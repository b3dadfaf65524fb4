"""The prediction that uses nothing about a subject."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.method import Learns, Scans, SupervisedMethod
from anatograph.evaluation.targets import Target


class Majority(SupervisedMethod):
    """The same prediction for every subject: the mean of the training subjects, or their class frequencies."""

    slug = "majority"
    title = "Majority class, mean"
    learns: ClassVar[Learns] = "labels, in each fold"

    def predict(
        self, scans: Scans, target: Target, train: NDArray[np.int64], test: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """See `SupervisedMethod.predict`."""
        values = target.values[np.isin(target.rows, train)]
        if not target.classes:
            return np.full(len(test), values.mean())
        counts = np.bincount(values.astype(np.int64), minlength=len(target.classes))
        return np.tile(counts / counts.sum(), (len(test), 1))
