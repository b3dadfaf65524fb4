"""What is left of the model where nothing is learnt: the shares of densities in every patch."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from anatograph.baselines.method import CohortMethod, Learns, Scans
from anatograph.learning.model.density import DensityShares
from anatograph.learning.model.whitening import MOST, whitening
from anatograph.learning.model.windowing import HU_WINDOW, window


class DensitySharesRow(CohortMethod):
    """The last numbers of C's feature alone, which are not learnt: no encoder, no location codes, no graph.

    Whitened by the people at hand and averaged over the regions as the model's nodes are, so that what the model has
    more than this row is what it learnt.
    """

    slug = "density-shares"
    title = "w/o learning (densities of patches)"
    learns: ClassVar[Learns] = "nothing"

    def __init__(self, progress: bool = True) -> None:
        self.progress = progress
        self._found: NDArray[np.float64] | None = None

    def embed(self, scans: Scans) -> NDArray[np.float64]:
        """(S, 14) the mean of the regions' shares."""
        return np.asarray(np.nanmean(self.regions(scans), axis=1))

    def regions(self, scans: Scans) -> NDArray[np.float64]:
        """(S, N, 14) of landmarks, NaN where absent."""
        if self._found is None:
            shares = DensityShares(*HU_WINDOW)
            found = []
            for name in tqdm(scans.subject_ids, desc=self.title, unit="subject", disable=not self.progress):
                subject = scans.study.subject(name)
                hu = torch.from_numpy(np.array(subject.patches, dtype=np.int16))
                rows = shares.shares(window(hu, *HU_WINDOW)[:, None]).numpy().astype(np.float64)
                rows[~subject.present] = np.nan
                found.append(rows)
            regions = np.stack(found)
            self._found = regions @ whitening(regions[:: -(-len(regions) // MOST)], 0.5)
        return self._found
