"""The whole model: conditional encoder C and f_l, graph network G."""

from __future__ import annotations

from anatograph.baselines.networks.context_model import ContextModelRow


class Anatograph(ContextModelRow):
    """The mean of the node features after G (eq. 7)."""

    slug = "anatograph"
    title = "Anatograph"
