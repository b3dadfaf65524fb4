"""Registration of the atlas to a subject: choose a method, try, check, try again, report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from anatograph.anatomy.atlas import Atlas
from anatograph.anatomy.registration.affine import Fit, fit_affine
from anatograph.anatomy.registration.maps import AffineMap, AtlasMap
from anatograph.anatomy.registration.quality import Quality, judge, map_quality
from anatograph.anatomy.registration.shape import Shape
from anatograph.errors import UserError
from anatograph.imaging.volume import Mask

METHODS = ("affine", "ants-affine", "ants-syn")


@dataclass(frozen=True, eq=False)
class Registration:
    """A map that was checked."""

    map: AtlasMap
    """From atlas to subject, and back."""
    method: str
    """One of `METHODS`."""
    quality: Quality
    """Figures by name; ``poor`` says whether the map should be looked at, ``reasons`` why."""
    notes: tuple[str, ...] = ()
    """What happened on the way, in plain sentences."""


def register(atlas: Atlas, lungs: Mask, method: str = "affine", seed: int = 0) -> Registration:
    """Map the atlas's lungs onto a subject's.

    Only lung masks are compared, right and left together. The result does not depend on how the mask is padded.

    Args:
        atlas: with its lungs, LPS mm.
        lungs: the subject's mask, any spacing and direction.
        method: ``affine`` (ours), ``ants-affine`` (the published recipe), ``ants-syn`` (deformable, eq. 1).
        seed: for the ANTs methods; ``affine`` uses no chance.

    Raises:
        UserError: unknown method, empty mask, or ANTs not installed.
    """
    if method not in METHODS:
        raise UserError(f"there is no registration '{method}'; choose one of {', '.join(METHODS)}")
    fixed, moving = _atlas_shape(atlas), Shape(lungs)
    best: tuple[int, float, Fit, Quality] | None = None
    notes: list[str] = []
    for name, start in _starts(fixed, moving):
        fit = fit_affine(fixed, moving, start)
        figures = map_quality(fixed, moving, atlas.landmarks, fit.map, fit.map)
        reasons = judge(figures)
        rank = (len(reasons), -float(figures["dice"]))
        if best is None or rank < best[:2]:
            best = (*rank, fit, figures)
        if not reasons:
            break
        notes.append(f"affine from {name} not accepted: {'; '.join(reasons)}")
    assert best is not None
    figures = best[3]
    reasons = judge(figures)
    figures = {**figures, "poor": bool(reasons), "reasons": "; ".join(reasons)}
    return Registration(best[2].map, method, figures, tuple(notes))


@lru_cache(maxsize=4)
def _atlas_shape(atlas: Atlas) -> Shape:
    return Shape(atlas.lungs)


def _starts(atlas: Shape, subject: Shape) -> Iterator[tuple[str, AffineMap]]:
    """Maps to start from, never a reflection: by moments, by extent, by volume."""
    yield "moments", _scaled(atlas, subject, subject.spread / atlas.spread, atlas.mean, subject.mean)
    yield "extents", _scaled(atlas, subject, subject.size / atlas.size, atlas.size / 2, subject.size / 2)
    ratio = np.full(3, (subject.volume / atlas.volume) ** (1 / 3))
    yield "volumes", _scaled(atlas, subject, ratio, atlas.mean, subject.mean)


def _scaled(
    atlas: Shape, subject: Shape, scale: np.ndarray, atlas_point: np.ndarray, subject_point: np.ndarray
) -> AffineMap:
    matrix = subject.direction @ np.diag(scale) @ atlas.direction.T
    goal = subject.to_lps(subject_point[None])[0]
    return AffineMap(matrix, goal - matrix @ atlas.to_lps(atlas_point[None])[0])
