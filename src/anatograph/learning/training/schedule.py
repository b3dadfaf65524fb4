"""Algorithm 1 as a list of updates, and the learning rate of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

Level = Literal["patch", "graph"]


class Place(NamedTuple):
    """The position of an update in Algorithm 1."""

    epoch: int
    """t - 1: completed turns of both levels."""
    level: Level
    """The level that is trained."""
    update: int
    """Number of earlier updates of this level, over all epochs."""
    left: int
    """Updates of this level left in this epoch, this one included."""


@dataclass(frozen=True)
class Schedule:
    """T_max epochs, each of ``patch_updates`` updates of E and then ``graph_updates`` of G."""

    epochs: int
    """T_max."""
    patch_updates: int
    """Of each epoch: T_l rounds over all landmarks."""
    graph_updates: int
    """Of each epoch: T_g."""

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return self.epochs * (self.patch_updates + self.graph_updates)

    def place(self, update: int) -> Place:
        """The position of update number ``update`` (from 0)."""
        epoch, within = divmod(update, self.patch_updates + self.graph_updates)
        if within < self.patch_updates:
            return Place(epoch, "patch", epoch * self.patch_updates + within, self.patch_updates - within)
        within -= self.patch_updates
        return Place(epoch, "graph", epoch * self.graph_updates + within, self.graph_updates - within)

    def of_level(self, level: Level) -> int:
        """Updates of a level in the whole run."""
        return self.epochs * (self.patch_updates if level == "patch" else self.graph_updates)


def learning_rate(update: int, total: int, top: float, warmup: float = 0.0) -> float:
    """A level's learning rate at its own update ``update`` of ``total``: a linear rise, then half a cosine to 0.

    One cosine over the whole run for each level. (The published code gives the graph level ten times as many epochs
    as its cosine expects, so that its rate runs up and down five times.)
    """
    rising = math.ceil(total * warmup)
    if update < rising:
        return top * (update + 1) / rising
    return top * 0.5 * (1.0 + math.cos(math.pi * (update - rising) / max(1, total - rising)))
