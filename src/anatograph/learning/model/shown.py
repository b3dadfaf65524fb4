"""What a model is shown of a subject's patches: lung alone, at a common inflation, where its settings say so."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.lung_tissue import lung_tissue
from anatograph.learning.model.config import ModelConfig


def needs_lungs(config: ModelConfig) -> bool:
    """Whether patches are not shown as they are, so that lung masks are needed beside them."""
    return config.lungs_only or config.inflation > 0


def shown(
    patches: NDArray[np.int16], inside: NDArray[np.bool_] | None, parenchyma_hu: ArrayLike | None, config: ModelConfig
) -> NDArray[np.int16]:
    """One subject's patches (B, P, P, P) HU as the model sees them, before the window.

    ``inside`` (B, P, P, P) says which voxels are lung, ``parenchyma_hu`` (B,) is the most frequent density of the lung
    that each patch is in (`anatograph.anatomy.lung_tissue`); both are needed only where `needs_lungs`.

    Raises:
        ValueError: one of them is needed and not given, or ``inside`` is not of these patches.
    """
    if not needs_lungs(config):
        return patches
    if parenchyma_hu is None or (config.lungs_only and inside is None):
        raise ValueError("this model is shown lung tissue alone: give which voxels are inside, and parenchyma_hu")
    if inside is not None and inside.shape != patches.shape:
        raise ValueError(f"inside has shape {inside.shape}, not {patches.shape} as the patches")
    if np.shape(parenchyma_hu) not in ((), (len(patches),)):
        raise ValueError(f"parenchyma_hu has shape {np.shape(parenchyma_hu)}, not ({len(patches)},) as the patches")
    return lung_tissue(patches, inside if config.lungs_only else None, parenchyma_hu, config.inflation)
