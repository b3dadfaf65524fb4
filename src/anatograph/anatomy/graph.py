"""Which landmarks are neighbours: the subject's graph as an edge list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from anatograph.choices import GraphRule
from anatograph.errors import UserError

DEFAULT_RHO_STEPS: dict[GraphRule, float] = {"atlas": 1.2, "distance": 1.5}
"""Default ρ in steps of the landmark grid. In the atlas distances are exact, and 1.2 joins the six face neighbours: a
node keeps its own location. In a subject they stretch, and 1.5 keeps a lung that is 15 % larger connected."""


@dataclass(frozen=True)
class GraphSettings:
    """How the edges of a subject's graph are chosen."""

    rule: GraphRule = "atlas"
    """``atlas``: distance between centres in atlas space, the same edges for every subject. ``distance``: eq. 3,
    distance between centres in the subject. ``overlap``: the published code, shared volume of the patches in subject
    space."""
    rho: float | None = None
    """Threshold in mm for ``atlas`` and ``distance``; None is 1.2 steps of the landmark grid for the first, 1.5 for
    the other."""
    min_overlap: float = 0.13
    """Threshold for ``overlap``: an edge where more than this fraction of a patch is shared."""

    def __post_init__(self) -> None:
        if self.rule not in get_args(GraphRule):
            raise UserError(f"There is no graph rule '{self.rule}'; choose one of {', '.join(get_args(GraphRule))}.")
        if self.rho is not None and not 0 < self.rho < float("inf"):
            raise UserError(f"The graph's rho must be a distance in mm above 0, not {self.rho}.")
        if not 0 <= self.min_overlap < 1:
            raise UserError(f"The graph's min_overlap must lie in [0, 1), not {self.min_overlap}.")


def edges(
    landmarks_subject: ArrayLike,
    landmarks_atlas: ArrayLike,
    rule: GraphRule = "atlas",
    rho: float | None = None,
    *,
    step: float = 26.0,
    patch_size: float = 32.0,
    min_overlap: float = 0.13,
) -> NDArray[np.int32]:
    """Undirected edges of a subject's graph, eq. 3 of the paper and two variants of it.

    Args:
        landmarks_subject: (N, 3) patch centres in the subject, LPS mm.
        landmarks_atlas: (N, 3) the same landmarks in the atlas, LPS mm.
        rule: see `GraphSettings.rule`.
        rho: threshold in mm; an edge where the distance is *below* it. None: 1.2 × ``step`` for ``atlas``,
            1.5 × ``step`` for ``distance``.
        step: spacing of the atlas grid in mm, only used for the default ρ.
        patch_size: edge of a patch in mm, only used by ``overlap``.
        min_overlap: threshold of ``overlap``.

    Returns:
        (E, 2) int32 pairs j < k in ascending order; no self loops, no pair twice.

    Raises:
        UserError: for an unknown rule or a threshold that is not a distance.
    """
    settings = GraphSettings(rule, rho, min_overlap)
    subject, atlas = _points(landmarks_subject), _points(landmarks_atlas)
    if subject.shape != atlas.shape:
        raise ValueError(f"{len(subject)} landmarks of the subject, but {len(atlas)} of the atlas")
    if settings.rule == "overlap":
        pairs = _near(subject, patch_size, np.inf)
        kept = _shared_fraction(subject, pairs, patch_size) > settings.min_overlap
    else:
        points = atlas if settings.rule == "atlas" else subject
        limit = DEFAULT_RHO_STEPS[settings.rule] * step if settings.rho is None else settings.rho
        pairs = _near(points, limit, 2)
        kept = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1) < limit
    pairs = pairs[kept]
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return np.asarray(pairs[order], dtype=np.int32)


def overlap_fractions(landmarks: ArrayLike, patch_size: float = 32.0) -> NDArray[np.float64]:
    """(N, N) fraction of a patch's volume that cubes of ``patch_size`` mm around (N, 3) centres share pairwise."""
    points = _points(landmarks)
    shared = np.ones((len(points), len(points)))
    for axis in range(3):
        distance = np.abs(points[:, None, axis] - points[None, :, axis])
        shared *= np.clip(1 - distance / patch_size, 0, None)
    return shared


def graph_quality(edge_list: ArrayLike, nodes: int) -> dict[str, int]:
    """Figures that show whether a graph carries context: ``edges``, ``isolated_nodes``, ``components``."""
    pairs = np.asarray(edge_list, dtype=np.int64).reshape(-1, 2)
    degree = np.bincount(pairs.ravel(), minlength=nodes)
    matrix = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(nodes, nodes))
    components = connected_components(matrix, directed=False)[0] if nodes else 0
    return {"edges": len(pairs), "isolated_nodes": int((degree == 0).sum()), "components": int(components)}


def _points(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"landmarks must be (N, 3), not {array.shape}")
    return array


def _near(points: NDArray[np.float64], radius: float, norm: float) -> NDArray[np.int64]:
    """(M, 2) pairs j < k within ``radius``, the boundary included, so that the caller can decide on it exactly."""
    pairs = KDTree(points).query_pairs(radius * (1 + 1e-9), p=norm, output_type="ndarray")
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def _shared_fraction(points: NDArray[np.float64], pairs: NDArray[np.int64], patch_size: float) -> NDArray[np.float64]:
    distance = np.abs(points[pairs[:, 0]] - points[pairs[:, 1]])
    return np.asarray(np.clip(1 - distance / patch_size, 0, None).prod(axis=1), dtype=np.float64)
