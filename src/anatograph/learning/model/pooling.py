"""Pooling that keeps place: a subject as the mean over its regions, and as weighted means that say where.

    S'_m = mean over j of a_m(j) h'_j,   m = 0 … M - 1

Part 0 has a_0 = 1 and is the paper's pooling (eq. 7).  The others weight the landmarks by a function u_m on the atlas:
its first graph harmonics, its first moments, or its zones.  A linear probe with weights W_m on S'_m stays a sum over
regions, M_j = Σ_m a_m(j) W_m · h'_j, so eq. 10 stays exact.

A landmark that a subject lacks takes the mean of the subject's other regions.  That makes
a_m(j) = n/N (u_m(j) + (1/n) Σ_{k absent} u_m(k)) for its n of N landmarks, leaves a_0 at 1, and lets a lung that is the
same everywhere have the value 0 in all other parts, however much of it was scanned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist

from anatograph.choices import PoolingRule
from anatograph.errors import UserError

MOST_PARTS = 64
_NEIGHBOURS = 1.2
"""Landmarks nearer than this many steps of the atlas grid are joined, as in the atlas graph."""
_DECIMALS = 8
"""To which harmonics are rounded, so that the order of sums in an eigensolver does not reach the embedding."""
_SAME = 1e-6
"""Relative distance below which eigenvalues count as equal."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PoolingSettings:
    """How regions become a subject's vector."""

    rule: PoolingRule = "mean"
    """See `PoolingRule`."""
    harmonics: int = 4
    """Parts of the rule ``harmonics``, the constant one included."""

    def __post_init__(self) -> None:
        if self.rule not in get_args(PoolingRule):
            raise UserError(f"The pooling must be one of {', '.join(get_args(PoolingRule))}, not '{self.rule}'.")
        if not 1 <= self.harmonics <= MOST_PARTS:
            raise UserError(f"The number of harmonics must be between 1 and {MOST_PARTS}, not {self.harmonics}.")


@dataclass(frozen=True, eq=False)
class Pooling:
    """The functions u_m on one atlas."""

    settings: PoolingSettings
    """What was chosen."""
    functions: Array
    """(M, N) u_m(j), the first all ones, the others with mean 0 and mean square 1 over the atlas."""
    meanings: tuple[str, ...]
    """(M,) each part in words: what is high where it is high."""

    @property
    def parts(self) -> int:
        """M."""
        return len(self.functions)

    def weights(self, present: NDArray[np.bool_]) -> Array:
        """(M, N) a_m(j) for the landmarks that a subject has (N,); 0 at the absent ones."""
        if self.parts == 1:
            return present.astype(np.float64)[None]
        share = present.mean()
        absent = self.functions[:, ~present].sum(axis=1) / max(int(present.sum()), 1)
        return np.where(present, share * (self.functions + absent[:, None]), 0.0)

    def pool(self, nodes: NDArray[np.float32] | Array) -> Array:
        """Features of regions (N, F), NaN where absent, to the subject's S' (M · F,), part after part.

        Raises:
            ValueError: no region is present, or regions of another atlas.
        """
        if len(nodes) != self.functions.shape[1]:
            raise ValueError(f"{len(nodes)} regions do not fit an atlas of {self.functions.shape[1]} landmarks")
        present = np.asarray(np.isfinite(nodes).all(axis=1))
        if not present.any():
            raise ValueError("none of the subject's landmarks is present")
        rows = nodes[present].astype(np.float64)
        return np.asarray(self.weights(present)[:, present] @ rows / len(rows)).ravel()

    def contributions(self, weights: ArrayLike, nodes: NDArray[np.float32] | Array) -> Array:
        """M_j (N,) of a direction W (M · F,) in regions (N, F), NaN where absent; their mean is W · S'."""
        direction = np.asarray(weights, dtype=np.float64).reshape(self.parts, -1)
        present = np.asarray(np.isfinite(nodes).all(axis=1))
        each = nodes.astype(np.float64) @ direction.T
        return np.where(present, (self.weights(present).T * each).sum(axis=1), np.nan)

    def about(self, features: int, learnt: int = 0) -> dict[str, Any]:
        """For the metadata of a table with ``features`` numbers a part; `settings_from` and `Parts.from_about` read it.

        ``learnt``: how many of them are learnt, where the others are densities that no layer mixes with these.
        """
        apart = {"learnt_per_part": learnt} if 0 < learnt < features else {}
        return {
            "rule": self.settings.rule,
            "harmonics": self.settings.harmonics,
            "parts": list(self.meanings),
            "features_per_part": features,
            **apart,
        }


@dataclass(frozen=True)
class Parts:
    """What the features of a subject consist of, for a probe that may scale some against others."""

    count: int = 1
    """Parts of one length; the first says nothing of place."""
    learnt: int = 0
    """How many features at the beginning of each part are learnt, the others being densities; 0 if all are alike."""

    @classmethod
    def from_about(cls, about: Mapping[str, Any]) -> Parts:
        """What `Pooling.about` wrote; one part where nothing was written."""
        return cls(len(about.get("parts", ())) or 1, int(about.get("learnt_per_part", 0)))

    def widths(self, features: int) -> tuple[int, ...]:
        """Features in each block that has a scale of its own, of ``features`` in all: a part, or two blocks a part."""
        size = features // self.count
        return ((self.learnt, size - self.learnt) if self.learnt else (size,)) * self.count


ONE_PART = Parts()


def settings_from(about: Mapping[str, Any] | None) -> PoolingSettings:
    """What `Pooling.about` wrote; the mean where nothing was written, as by earlier versions."""
    rule, count = (about or {}).get("rule", "mean"), (about or {}).get("harmonics", PoolingSettings.harmonics)
    if not isinstance(count, int):
        raise UserError(f"The number of harmonics must be a whole number, not {count!r}.")
    return PoolingSettings(rule, count)


def make_pooling(settings: PoolingSettings, landmarks: ArrayLike) -> Pooling:
    """The functions of a rule on the landmarks (N, 3), LPS mm, of an atlas.

    The same landmarks give the same functions: harmonics have fixed signs, and where eigenvalues coincide a fixed
    basis.
    """
    points = np.ascontiguousarray(landmarks, dtype=np.float64)
    return _made(settings, points.tobytes(), len(points))


@lru_cache(maxsize=8)
def _made(settings: PoolingSettings, points: bytes, count: int) -> Pooling:
    marks = np.frombuffer(points, dtype=np.float64).reshape(count, 3)
    ones = np.ones((1, count))
    meanings: tuple[str, ...]
    if settings.rule == "mean" or (settings.rule == "harmonics" and settings.harmonics == 1):
        return Pooling(settings, ones, ("mean over the lungs",))
    if count < 2:
        raise UserError("An atlas of one landmark has no places to distinguish; give --pooling mean.")
    if settings.rule == "moments":
        functions, meanings = (
            _normalised(marks.T),
            ("left minus right", "posterior minus anterior", "upper minus lower"),
        )
    elif settings.rule == "zones":
        functions, meanings = _zones(marks)
    else:
        functions = harmonics(marks, settings.harmonics)[1:]
        meanings = tuple(f"harmonic {m}: {_in_words(u, marks)}" for m, u in enumerate(functions, start=1))
    functions = np.vstack([ones, functions])
    functions.setflags(write=False)
    return Pooling(settings, functions, ("mean over the lungs", *meanings))


def harmonics(landmarks: Array, count: int) -> Array:
    """(M, N) the first ``count`` eigenvectors of the Laplacian of the atlas graph, of mean square 1.

    Landmarks (N, 3) are joined where they are nearer than 1.2 steps of their grid, and parts that this leaves apart at
    their nearest points, so that the constant is the only function without change.  The sign makes
    the correlation with the axis that a function resembles most positive: upper, left and posterior are high.
    """
    number = len(landmarks)
    count = min(count, number)
    laplacian = _laplacian(landmarks)
    values, vectors = np.linalg.eigh(laplacian)
    axes = _normalised(landmarks.T)
    # What fixes a basis where eigenvalues coincide: axes, their products, and the landmarks' order.
    first, second, third = axes
    fixed = np.vstack([axes[[2, 0, 1]], third * first, third * second, first * second, np.linspace(-1, 1, number)])
    found = [np.ones(number)]
    start = 1
    while len(found) < count:
        stop = start + 1
        while stop < number and values[stop] - values[start] < _SAME * max(values[start], values[-1] * _SAME):
            stop += 1
        found += list(_oriented(vectors[:, start:stop], fixed))
        start = stop
    return np.asarray(np.round(np.array(found[:count], dtype=np.float64), _DECIMALS), dtype=np.float64)


def _oriented(space: Array, fixed: Array) -> Array:
    """(k, N) a basis of the columns of ``space`` (N, k) that depends on the space alone, of mean square 1."""
    number, size = space.shape
    basis: list[Array] = []
    seen = ((fixed @ space) ** 2).sum(axis=1) / np.maximum((fixed**2).sum(axis=1), 1e-12)
    ahead = np.argsort(-np.round(seen[:3], 6), kind="stable")  # the axis that the space resembles most
    for wanted in [*fixed[ahead], *fixed[3:], *np.eye(number)]:
        shadow = space @ (space.T @ wanted)
        for known in basis:
            shadow -= known * (known @ shadow)
        length = np.linalg.norm(shadow)
        if length > 1e-4 * np.linalg.norm(wanted):
            basis.append(shadow / length)
        if len(basis) == size:
            break
    return np.asarray(np.array(basis, dtype=np.float64) * np.sqrt(number), dtype=np.float64)


def _laplacian(landmarks: Array) -> Array:
    """(N, N) degree minus adjacency of the atlas graph."""
    distance = cdist(landmarks, landmarks)
    step = float(np.median(np.partition(distance, 1, axis=1)[:, 1]))
    joined = distance < _NEIGHBOURS * step
    # Edges within the graph cost nothing here, so only those are added that join its parts.
    tree = minimum_spanning_tree(np.where(joined, 1e-6 * step, distance)).toarray() > 0
    adjacency = (joined | tree | tree.T).astype(np.float64)
    np.fill_diagonal(adjacency, 0.0)
    return np.diag(adjacency.sum(axis=1)) - adjacency


def _zones(landmarks: Array) -> tuple[Array, tuple[str, ...]]:
    """Right and left, each in thirds of its height: (6, N) and their names, those that hold no landmark left out."""
    middle = (landmarks[:, 0].min() + landmarks[:, 0].max()) / 2
    functions, names = [], []
    for side, inside in (("right", landmarks[:, 0] < middle), ("left", landmarks[:, 0] >= middle)):
        low, high = landmarks[inside, 2].min(), landmarks[inside, 2].max()
        third = np.clip(3 * (landmarks[:, 2] - low) / max(high - low, 1e-6), 0, 2.999).astype(int)
        for level, name in ((2, "upper"), (1, "middle"), (0, "lower")):
            zone = inside & (third == level)
            if zone.any() and not zone.all():
                functions.append(zone / zone.mean())
                names.append(f"{side} {name} minus the lungs")
    return _normalised(np.array(functions)), tuple(names)


def _normalised(functions: Array) -> Array:
    """Functions (m, N) with mean 0 and mean square 1; one that is constant becomes 0."""
    centred = functions - functions.mean(axis=1, keepdims=True)
    size = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    return np.asarray(centred / np.where(size > 1e-9, size, 1.0))


def _in_words(function: Array, landmarks: Array) -> str:
    """The axis that a function (N,) runs along, where one explains half of it."""
    along = _normalised(landmarks.T) @ function / len(function)
    axis = int(np.abs(along).argmax())
    if along[axis] ** 2 < 0.5:
        return "a finer pattern"
    ends = (("left", "right"), ("posterior", "anterior"), ("upper", "lower"))[axis]
    high, low = ends if along[axis] > 0 else ends[::-1]
    return f"{high} minus {low}"
