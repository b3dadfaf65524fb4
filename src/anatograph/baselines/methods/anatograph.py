"""The whole model: conditional encoder C and f_l, graph network G."""

from __future__ import annotations

from anatograph.baselines.networks.context_model import ContextModelRow


class Anatograph(ContextModelRow):
    """The node features after G, pooled as the model says: their mean (eq. 7) and parts that say where."""

    slug = "anatograph"
    title = "Anatograph"
