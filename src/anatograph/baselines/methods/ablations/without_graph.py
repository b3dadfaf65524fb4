"""'w/o Graph': the ablation without message passing."""

from __future__ import annotations

from pathlib import Path

from anatograph.baselines.networks.context_model import ContextModelRow, read_config
from anatograph.errors import UserError


class WithoutGraph(ContextModelRow):
    """The patch features of the whole model, pooled as its nodes are, without message passing between patches.

    The graph loss never reaches E (Algorithm 1 updates only G with it), so E without G is the same E as in the whole
    model; pretraining it again would only add random variation.
    """

    slug = "without-graph"
    title = "w/o Graph"
    before_graph = True

    def check(self, folder: Path) -> None:
        """Refuse a model without location codes; whether it has a graph does not matter."""
        if not read_config(folder)["architecture"].get("conditional", True):
            raise UserError(f"{folder} is a model without location codes; 'w/o Graph' keeps them.")
