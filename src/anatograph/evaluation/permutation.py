"""The level of chance: the same cross-validation with shuffled targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from anatograph.evaluation.metrics import LOWER_IS_BETTER
from anatograph.evaluation.scores import Predictions, Score, score
from anatograph.evaluation.targets import Target


def level_of_chance(
    target: Target,
    groups: NDArray[np.int64] | None,
    observed: Sequence[Score],
    permutations: int,
    seed: int,
    rounds: Callable[[Target], list[Predictions]],
) -> list[dict[str, str | float | int]]:
    """Rows of ``permutations.csv``: each observed score, mean and deviation with shuffled labels, and p.

    ``rounds`` cross-validates a target.  Labels that are one per group (``groups`` (n,)) are shuffled between groups.
    """
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {s.metric: [] for s in observed}
    for _ in range(permutations):
        shuffled = target.shuffled(random, groups)
        for s in score(shuffled, rounds(shuffled), groups, seed, bootstraps=0):
            drawn[s.metric].append(s.mean)
    rows: list[dict[str, str | float | int]] = []
    for s in observed:
        values = np.array([v for v in drawn[s.metric] if np.isfinite(v)])
        as_good = (values <= s.mean if s.metric in LOWER_IS_BETTER else values >= s.mean).sum()
        rows.append(
            {
                "target": target.name,
                "metric": s.metric,
                "observed": s.mean,
                "chance_mean": float(values.mean()) if len(values) else float("nan"),
                "chance_std": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                "p": float((1 + as_good) / (1 + len(values))),
                "permutations": len(values),
            }
        )
    return rows
