"""The model with random weights: what the architecture achieves before any pretraining."""

from __future__ import annotations

from typing import ClassVar

from anatograph.baselines.method import Learns
from anatograph.baselines.networks.context_model import ContextModelRow


class Untrained(ContextModelRow):
    """The whole model at its initial weights."""

    slug = "untrained"
    title = "Untrained"
    learns: ClassVar[Learns] = "nothing"
    run = "untrained"
    overrides = ("epochs=0",)
