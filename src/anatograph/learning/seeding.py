"""Stateless seeding: a random draw is a function of its name, so no generator state is saved or kept in order."""

from __future__ import annotations

import numpy as np
import torch

INITIAL, PATCH_ORDER, GRAPH_ORDER, PATCH_VIEWS, GRAPH_VIEWS, GRAPH_PAIRS, RECALIBRATE, FIRST_KEYS, STATISTICS = range(9)
"""The purpose of a draw: its second number, after the run's seed."""


def numpy_generator(*names: int) -> np.random.Generator:
    """A generator for the draw named by ``names`` (non-negative integers)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(names)))


def generator(*names: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for the draw named by ``names`` (non-negative integers)."""
    seed = int(np.random.SeedSequence(names).generate_state(1, np.uint64)[0]) & (2**63 - 1)
    return torch.Generator(device).manual_seed(seed)
