"""What a deeper or shallower breath does to the features, and a later scan as it would be at the earlier breath."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.study.store import Study

Array = NDArray[np.float64]
_LEAST_SCANS, _LEAST_PAIRS, _LEAST_SPREAD = 10, 10, 0.03


@dataclass(frozen=True, eq=False)
class BreathEffect:
    """The change of every feature at every landmark per unit of the natural log of the lung volume."""

    slope: NDArray[np.float32]
    """(N, F), shrunk towards 0 where it is no larger than its error."""
    source: str
    """Where it was learnt, in words."""

    def at_volume(self, nodes: NDArray[np.float32], volume: float, wanted: float) -> NDArray[np.float32]:
        """Features (N, F) of a scan of lung volume ``volume`` as at the volume ``wanted`` (same unit)."""
        return np.asarray(nodes + self.slope * np.log(wanted / volume), dtype=np.float32)


def lung_volumes(study: Study, names: Sequence[str]) -> Array:
    """(n,) volume of the lung mask of each scan, ml; NaN where the study does not know it."""
    return np.array([study.subject(name).lung_volume_ml for name in names], dtype=np.float64)


def fit_breath(
    features: NDArray[np.float32], volumes: Array, pairs: Sequence[tuple[int, int]] = ()
) -> BreathEffect | None:
    """Learn the effect of the lung volume from scans (n, N, F) with ``volumes`` (n,); None where it cannot be.

    From repeat scans (``pairs`` of rows) where at least ten differ in volume (root mean square of the log ratio at
    least 0.03): the same patient at another breath.  Else from all scans: different patients, whose volume also differs
    by size, so that the correction is approximate.  Least squares at each landmark, times max(0, 1 - (F - 2) / Σ t²)
    (James and Stein), t being each feature's slope over its standard error.
    """
    logs = np.log(volumes)
    usable = [(a, b) for a, b in pairs if np.isfinite(logs[[a, b]]).all()]
    if len(usable) >= _LEAST_PAIRS:
        first, second = (np.array(side) for side in zip(*usable, strict=True))
        apart = logs[second] - logs[first]
        if np.sqrt((apart**2).mean()) >= _LEAST_SPREAD:
            differences = features[second].astype(np.float64) - features[first]
            return BreathEffect(_slopes(differences, apart, False), f"{len(usable)} pairs of repeat scans")
    known = np.isfinite(logs)
    if known.sum() < _LEAST_SCANS or logs[known].std() < _LEAST_SPREAD:
        return None
    source = f"{int(known.sum())} different scans, whose lung volume differs by body size as well as by breath"
    return BreathEffect(_slopes(features[known].astype(np.float64), logs[known], True), source)


def _slopes(values: Array, x: Array, centred: bool) -> NDArray[np.float32]:
    """(N, F) shrunk slopes of ``values`` (n, N, F), NaN where a landmark is absent, on ``x`` (n,); 0 where unknown."""
    here = np.isfinite(values[..., :1])
    count = here.sum(axis=0)
    weight = np.where(here, 1.0, 0.0)
    filled = np.where(here, values, 0.0)
    column = x[:, None, None] * weight
    if centred:
        column = column - weight * (column.sum(axis=0) / np.maximum(count, 1))
        filled = filled - weight * (filled.sum(axis=0) / np.maximum(count, 1))
    square = (column**2).sum(axis=0)
    safe = np.maximum(square, 1e-12)
    slope = (column * filled).sum(axis=0) / safe
    left = ((filled - column * slope) ** 2).sum(axis=0) / np.maximum(count - 1 - centred, 1)
    t2 = (slope**2 / np.maximum(left / safe, 1e-300)).sum(axis=1)
    features = values.shape[2]
    kept = np.clip(1 - max(features - 2, 1) / np.maximum(t2, 1e-12), 0.0, 1.0)
    kept = np.where(count[:, 0] >= _LEAST_PAIRS, kept, 0.0)
    return np.asarray(slope * kept[:, None], dtype=np.float32)
