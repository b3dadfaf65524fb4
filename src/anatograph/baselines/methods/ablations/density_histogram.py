"""The model without its learned part: a cumulative density histogram of every patch."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.embedding.sources import item_of
from anatograph.execution.progress import progress_over
from anatograph.learning.model.density import CumulativeHistogram
from anatograph.learning.model.pooling import PoolingSettings, make_pooling
from anatograph.learning.model.shown import shown
from anatograph.learning.model.whitening import MOST, whitening
from anatograph.learning.model.windowing import HU_WINDOW, window
from anatograph.learning.training.presets import PRESETS


class DensityHistogram(CohortMethod):
    """The fixed components of C's feature only: no encoder, no location codes, no graph.

    Of lung tissue at a common inflation, as the default model is shown it. Whitened on the subjects at hand and pooled
    over the regions as the default model's nodes are, so that any advantage of the model over this row is learned.
    """

    slug = "density-shares"
    title = "w/o learning (densities of patches)"
    learns: ClassVar[Learns] = "nothing"

    def __init__(self, progress: bool = True) -> None:
        super().__init__(progress)
        self._regions: NDArray[np.float64] | None = None

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, M · 14) the regions' histograms, pooled as the default model pools: mean, and parts that say where."""
        model = PRESETS["default"].model
        functions = make_pooling(PoolingSettings(model.subject_pooling, model.harmonics), scans.study.atlas.landmarks)
        regions = self.regions(scans)
        self.about = {"pooling": functions.about(regions.shape[2])}
        return np.stack([functions.pool(one) for one in regions])

    def regions(self, scans: Scans) -> NDArray[np.float64]:
        """(S, N, 14) of landmarks, NaN where absent."""
        if self._regions is None:
            histogram = CumulativeHistogram(*HU_WINDOW)
            model = PRESETS["default"].model
            by_subject = []
            for name in progress_over(scans.subject_ids, self.title, "subject", shown=self.progress):
                item = item_of(scans.study.subject(name), model)
                hu = torch.from_numpy(shown(np.asarray(item.patches), item.inside, item.parenchyma_hu, model))
                rows = histogram.fractions(window(hu, *HU_WINDOW)[:, None]).numpy().astype(np.float64)
                rows[~np.asarray(item.present)] = np.nan  # absent as for the model
                by_subject.append(rows)
            regions = np.stack(by_subject)
            self._regions = regions @ whitening(regions[:: -(-len(regions) // MOST)], 0.5)
        return self._regions
