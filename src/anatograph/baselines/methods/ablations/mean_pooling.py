"""'mean pooling': the ablation whose vector does not say where."""

from __future__ import annotations

from anatograph.baselines.networks.context_model import ContextModelRow


class MeanPooling(ContextModelRow):
    """The plain mean of the whole model's node features (eq. 7), whatever the model's own pooling."""

    slug = "mean-pooling"
    title = "mean pooling"
    pooling = "mean"
