"""Divergence-based: people as clouds of regions, compared by nearest-neighbour divergence, then embedded.

Schabdach et al. 2017: a subject is the unknown density of the local descriptors of his lungs; divergences between
subjects are estimated from nearest neighbours and turned into a signature vector for each.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.features.kept import kept
from anatograph.baselines.features.knn_divergence import divergences
from anatograph.baselines.features.locally_linear import LocallyLinearEmbedding
from anatograph.baselines.features.survey import survey_of
from anatograph.baselines.method import FoldMethod, Learns, Scans
from anatograph.embedding.api import chosen_device
from anatograph.errors import UserError
from anatograph.learning.seeding import numpy_generator

NEIGHBOUR = 5
"""k of the estimator."""
MOST_REGIONS = {"default": 2000, "quick": 400}
"""Regions of a person that are compared, drawn at random where there are more; cost grows with the square."""
COMPONENTS = 100
"""Length of the signature; never more than a quarter of the people it is fitted on."""
_DRAW = 201


class DivergenceEmbedding(FoldMethod):
    """The embedding is fitted on the training people of a fold; test people are placed among them afterwards."""

    slug = "divergence"
    title = "Divergence-based"
    learns: ClassVar[Learns] = "without labels, in each fold"

    def __init__(self, progress: bool = True) -> None:
        self.progress = progress

    def embed_fold(self, scans: Scans, train: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S, D) places; rows that are neither ``train`` nor ``test`` are NaN."""
        squared = symmetric(self.matrix(scans))
        components = max(1, min(COMPONENTS, len(train) // 4, len(train) - 2))
        neighbours = min(len(train) - 1, components + 1)
        fitted = LocallyLinearEmbedding(squared[np.ix_(train, train)], neighbours, components)
        found = np.full((len(squared), components), np.nan)
        found[train] = fitted.places
        found[test] = fitted.place(squared[np.ix_(test, train)])
        return found

    def matrix(self, scans: Scans) -> NDArray[np.float64]:
        """(S, S) divergences in nats, kept in ``work/divergence``; a pair depends on its two people alone."""
        survey = survey_of(scans, self.progress)
        most = MOST_REGIONS["quick" if scans.preset == "quick" else "default"]
        made_from = {"scans": survey.signature(), "regions": most, "neighbour": NEIGHBOUR, "seed": scans.seed}

        def make() -> dict[str, NDArray[np.float64]]:
            from tqdm import tqdm

            clouds = [_some(survey.regions(row), most, scans.seed) for row in range(len(scans.subject_ids))]
            for name, cloud in zip(scans.subject_ids, clouds, strict=True):
                if len(cloud) <= NEIGHBOUR:
                    raise UserError(
                        f"The lungs of {name} have only {len(cloud)} regions, too few to compare; look at their mask, "
                        "or leave this person out."
                    )
            with tqdm(total=len(clouds), desc="divergences", unit="person", disable=not self.progress) as bar:
                device = chosen_device(scans.device)
                return {"divergences": divergences(clouds, NEIGHBOUR, device, lambda _: bar.update())}

        return np.array(kept(scans.work / "divergence", made_from, make)["divergences"], dtype=np.float64)


def symmetric(one_way: NDArray[np.float64]) -> NDArray[np.float64]:
    """D(p‖q) + D(q‖p), at least 0, 0 on the diagonal: a squared dissimilarity (for Gaussians of one covariance it is
    the squared distance of their means)."""
    both = np.maximum(one_way + one_way.T, 0.0)
    np.fill_diagonal(both, 0.0)
    return both


def _some(regions: NDArray[np.float32], most: int, seed: int) -> NDArray[np.float32]:
    if len(regions) <= most:
        return regions
    # The draw depends on the person's own number of regions alone, so that others cannot change it.
    chosen = numpy_generator(seed, _DRAW, len(regions)).permutation(len(regions))[:most]
    return regions[np.sort(chosen)]
