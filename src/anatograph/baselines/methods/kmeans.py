"""Bag of words: how often each of K kinds of region occurs in a subject's lungs (Schabdach et al. 2017)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.features.scan_features import scan_features
from anatograph.baselines.method import FoldMethod, Learns, Scans

WORDS = {"default": 100, "quick": 48}
"""Size of the codebook by preset; at most one word per ten regions."""


class Codebook:
    """K kinds of region: scaling and cluster centres, fitted on the regions of some subjects."""

    def __init__(self, regions: list[NDArray[np.float32]], words: int, seed: int) -> None:
        """``regions``: (R, D) descriptors of each subject to fit on."""
        from sklearn.cluster import MiniBatchKMeans

        pooled = np.concatenate(regions).astype(np.float64)
        self.mean = pooled.mean(axis=0)
        spread = pooled.std(axis=0)
        self.spread = np.where(spread > 1e-6, spread, 1.0)
        self.words = max(1, min(words, len(pooled) // 10))
        self.model: Any = MiniBatchKMeans(self.words, random_state=seed, n_init=3, batch_size=2048)
        self.model.fit((pooled - self.mean) / self.spread)

    def shares(self, regions: NDArray[np.float32]) -> NDArray[np.float64]:
        """(K,) share of each word among a subject's regions (R, D); sums to 1."""
        word = self.model.predict((regions.astype(np.float64) - self.mean) / self.spread)
        return np.asarray(np.bincount(word, minlength=self.words) / len(word), dtype=np.float64)


class BagOfWords(FoldMethod):
    """The codebook is fitted on the training subjects of the fold alone."""

    slug = "kmeans"
    title = "K-Means"
    learns: ClassVar[Learns] = "without labels, in each fold"

    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S, K) shares of the words; rows in neither ``train`` nor ``test`` are NaN."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        features = scan_features(scans, self.progress)
        with threadpool_limits(1):  # the order of summation must not depend on the number of threads
            codebook = Codebook([features.regions(int(row)) for row in train], scans.sized(WORDS), scans.seed)
            shares = np.full((len(scans.subject_ids), codebook.words), np.nan)
            for row in (*train, *test):
                shares[row] = codebook.shares(features.regions(int(row)))
        return shares
