"""Bag of words: how often each of K kinds of region occurs in a person's lungs (Schabdach et al. 2017)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.features.survey import survey_of
from anatograph.baselines.method import FoldMethod, Learns, Scans

WORDS = {"default": 100, "quick": 48}
"""Size of the codebook by preset; never more than one word for ten regions."""


class Codebook:
    """K kinds of region: scaling and cluster centres, fitted on the regions of some people."""

    def __init__(self, regions: list[NDArray[np.float32]], words: int, seed: int) -> None:
        """``regions``: (R, D) descriptors of each person to fit on."""
        from sklearn.cluster import MiniBatchKMeans

        everything = np.concatenate(regions).astype(np.float64)
        self.mean = everything.mean(axis=0)
        spread = everything.std(axis=0)
        self.spread = np.where(spread > 1e-6, spread, 1.0)
        self.words = max(1, min(words, len(everything) // 10))
        self.model: Any = MiniBatchKMeans(self.words, random_state=seed, n_init=3, batch_size=2048)
        self.model.fit((everything - self.mean) / self.spread)

    def shares(self, regions: NDArray[np.float32]) -> NDArray[np.float64]:
        """(K,) share of each word among a person's regions (R, D); adds up to 1."""
        word = self.model.predict((regions.astype(np.float64) - self.mean) / self.spread)
        return np.asarray(np.bincount(word, minlength=self.words) / len(word), dtype=np.float64)


class BagOfWords(FoldMethod):
    """The codebook is fitted on the training people of the fold alone."""

    slug = "kmeans"
    title = "K-Means"
    learns: ClassVar[Learns] = "without labels, in each fold"

    def __init__(self, progress: bool = True) -> None:
        self.progress = progress

    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S, K) shares of the words; rows that are neither ``train`` nor ``test`` are NaN."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        survey = survey_of(scans, self.progress)
        with threadpool_limits(1):  # the same sums whatever the machine is doing
            words = WORDS["quick" if scans.preset == "quick" else "default"]
            codebook = Codebook([survey.regions(int(row)) for row in train], words, scans.seed)
            found = np.full((len(scans.subject_ids), codebook.words), np.nan)
            for row in (*train, *test):
                found[row] = codebook.shares(survey.regions(int(row)))
        return found
