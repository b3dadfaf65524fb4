"""Divergence-based: subjects as point clouds of regions, compared by nearest-neighbour divergence, then embedded.

Schabdach et al. 2017: a subject is the unknown density of the local descriptors of their lungs; divergences between
subjects are estimated from nearest neighbours and turned into a signature vector for each.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.features.cache import cached
from anatograph.baselines.features.knn_divergence import divergences
from anatograph.baselines.features.locally_linear import LocallyLinearEmbedding
from anatograph.baselines.features.scan_features import scan_features
from anatograph.baselines.method import FoldMethod, Learns, Scans
from anatograph.embedding.api import chosen_device
from anatograph.errors import UserError
from anatograph.execution.progress import Progress
from anatograph.learning.seeding import numpy_generator

NEIGHBOUR = 5
"""k of the estimator."""
MAX_REGIONS = {"default": 2000, "quick": 400}
"""Regions of a subject that are compared, sampled where there are more; the cost is quadratic."""
COMPONENTS = 100
"""Length of the signature; at most a quarter of the number of subjects it is fitted on."""
_SAMPLE = 201


class DivergenceEmbedding(FoldMethod):
    """The embedding is fitted on the training subjects of a fold; held-out subjects are placed afterwards."""

    slug = "divergence"
    title = "Divergence-based"
    learns: ClassVar[Learns] = "without labels, in each fold"

    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S, D) coordinates; rows in neither ``train`` nor ``test`` are NaN."""
        squared = symmetric(self.matrix(scans))
        components = max(1, min(COMPONENTS, len(train) // 4, len(train) - 2))
        neighbours = min(len(train) - 1, components + 1)
        fitted = LocallyLinearEmbedding(squared[np.ix_(train, train)], neighbours, components)
        embedded = np.full((len(squared), components), np.nan)
        embedded[train] = fitted.places
        embedded[test] = fitted.place(squared[np.ix_(test, train)])
        return embedded

    def matrix(self, scans: Scans) -> NDArray[np.float64]:
        """(S, S) divergences in nats, cached in ``work/divergence``; an entry depends on its two subjects alone."""
        features = scan_features(scans, self.progress)
        most = scans.sized(MAX_REGIONS)
        made_from = {"scans": features.signature(), "regions": most, "neighbour": NEIGHBOUR, "seed": scans.seed}

        def make() -> dict[str, NDArray[np.float64]]:
            clouds = [_sampled(features.regions(row), most, scans.seed) for row in range(len(scans.subject_ids))]
            for name, cloud in zip(scans.subject_ids, clouds, strict=True):
                if len(cloud) <= NEIGHBOUR:
                    raise UserError(
                        f"The lungs of {name} have only {len(cloud)} regions, too few to compare; check their mask, or "
                        "remove this subject from the cohort table."
                    )
            with Progress("divergences", len(clouds), "subject", self.progress) as bar:
                device = chosen_device(scans.device)
                return {"divergences": divergences(clouds, NEIGHBOUR, device, lambda _: bar.step())}

        return np.array(cached(scans.work / "divergence", made_from, make)["divergences"], dtype=np.float64)


def symmetric(one_way: NDArray[np.float64]) -> NDArray[np.float64]:
    """D(p‖q) + D(q‖p), at least 0, 0 on the diagonal: a squared dissimilarity (for Gaussians of equal covariance it is
    the squared Mahalanobis distance of their means)."""
    both = np.maximum(one_way + one_way.T, 0.0)
    np.fill_diagonal(both, 0.0)
    return both


def _sampled(regions: NDArray[np.float32], most: int, seed: int) -> NDArray[np.float32]:
    if len(regions) <= most:
        return regions
    # The sample depends only on the subject's own number of regions, so other subjects cannot change it.
    chosen = numpy_generator(seed, _SAMPLE, len(regions)).permutation(len(regions))[:most]
    return regions[np.sort(chosen)]
