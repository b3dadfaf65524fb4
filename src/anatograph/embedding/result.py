"""What `embed` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.study.quality.levels import Concern, Figure, Level, worst


@dataclass(frozen=True)
class ScanQuality:
    """How far the embedding of one CT can be trusted."""

    concerns: tuple[Concern, ...]
    """Everything out of the ordinary, the gravest first."""
    figures: Mapping[str, Figure]
    """The quality figures by name, such as ``registration_dice`` and ``lungs_volume_ml``."""

    @property
    def level(self) -> Level:
        """``ok``, ``note``, ``check`` or ``reject``: that of the gravest concern."""
        return worst([concern.level for concern in self.concerns])


@dataclass(frozen=True, eq=False)
class Embedded:
    """Vectors of one CT, or of the subjects of a study or cohort."""

    subject_ids: list[str]
    """(n,) their ids."""
    features: NDArray[np.float32]
    """(n, M · F) a vector each, S' of the paper: the mean over the regions, and further parts that say where."""
    landmarks: NDArray[np.float64]
    """(N, 3) LPS mm, the centres of the regions: of one CT, where they lie in the scan; otherwise, in the atlas."""
    regions: NDArray[np.float32] | None = None
    """(n, N, F) a vector for each region, h' of the paper, NaN where the scan does not reach; of one CT (N, F); None
    where they went to ``OUT.regions.zarr``."""
    table: Path | None = None
    """``OUT.parquet``, if written."""
    account: RunAccount | None = None
    """Failures and timings, if written."""
    notes: tuple[str, ...] = ()
    """What was chosen or repaired."""
    quality: ScanQuality | None = None
    """Of one CT; None for a study or cohort, whose figures are in ``STUDY/quality.csv``."""
    study: Path | None = None
    """The study that the subjects come from, where it is kept."""

    @property
    def subject(self) -> NDArray[np.float32]:
        """(M · F,) the vector of the only subject.

        Raises:
            UserError: where there are several.
        """
        if len(self.subject_ids) != 1:
            raise UserError(f"There are {len(self.subject_ids)} subjects here; take the rows of `features`.")
        vector: NDArray[np.float32] = self.features[0]
        return vector

    @property
    def vector(self) -> NDArray[np.float32]:
        """The same as ``subject``."""
        return self.subject
