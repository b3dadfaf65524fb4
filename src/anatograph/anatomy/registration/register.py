"""Registration of the atlas to a subject: fit, check, retry from other starts, report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.anatomy.registration.affine import fit_affine
from anatograph.anatomy.registration.deformable import fit_deformable
from anatograph.anatomy.registration.maps import AffineMap, AtlasMap, DeformableMap
from anatograph.anatomy.registration.quality import (
    DEFORMABLE,
    Quality,
    deformation_figures,
    judge,
    map_quality,
    overlap,
    side_figures,
)
from anatograph.anatomy.registration.shape import Shape
from anatograph.choices import RegistrationMethod
from anatograph.errors import UserError
from anatograph.imaging.volume import Mask

METHODS: tuple[RegistrationMethod, ...] = get_args(RegistrationMethod)
HOPELESS = 0.3
"""Dice below which registration fails."""
GROSS = 0.6
"""Dice below which every start is tried, even if two agree."""
AGREEMENT = 3.0
"""Two maps are the same when no landmark differs by more than this many mm along an axis."""


@dataclass(frozen=True, eq=False)
class Registration:
    """A map with its quality figures."""

    map: AtlasMap
    """From atlas to subject, and back."""
    method: str
    """One of `METHODS`."""
    quality: Quality
    """Figures by name; ``poor`` says whether the map needs review, ``reasons`` why."""
    notes: tuple[str, ...] = ()
    """Notable events, in plain sentences."""


@dataclass(frozen=True, eq=False)
class _Checked:
    map: AffineMap
    figures: Quality
    reasons: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, float]:
        return len(self.reasons), -float(self.figures["dice"])


def register(atlas: Atlas, lungs: Mask, method: str = "deformable", seed: int = 0) -> Registration:
    """Map the atlas's lungs onto a subject's (eq. 1 of the paper).

    Only the masks are compared: both lungs together for an affine map and by ANTs, right with right and left with left
    by ``deformable``, where both masks part them. Padding, cropping or shifting a mask by whole voxels shifts the
    result with it and changes nothing else.

    Args:
        atlas: with its lungs, LPS mm.
        lungs: the subject's mask, any spacing and direction.
        method: ``deformable`` (ours, diffeomorphic), ``affine`` (ours), ``ants-affine`` (the published recipe),
            ``ants-syn`` (deformable).
        seed: for the ANTs methods; ours are deterministic.

    Raises:
        UserError: unknown method, empty mask, ANTs not installed, or no map overlaps the lungs by a third.
    """
    if method not in METHODS:
        raise UserError(f"there is no registration method '{method}'; choose one of {', '.join(METHODS)}")
    fixed, moving = _atlas_shape(atlas), Shape(lungs)
    notes: list[str] = []
    if method == "ants-affine":
        checked = _published(fixed, moving, atlas, lungs, seed, notes)
    else:
        checked = _affine(fixed, moving, atlas, notes)
    _refuse_hopeless(checked.figures)
    result: AtlasMap = checked.map
    figures, reasons = checked.figures, checked.reasons
    if method in DEFORMATIONS:
        deformed = DEFORMATIONS[method](fixed, moving, checked.map, seed)
        figures = {
            **map_quality(fixed, moving, atlas.landmarks, deformed, checked.map),
            **deformation_figures(fixed, deformed, atlas.landmarks),
            "dice_affine": checked.figures["dice"],
        }
        _refuse_hopeless(figures)
        result = deformed
    figures |= side_figures(fixed, moving, result, checked.map)
    if result is not checked.map:
        reasons = judge(figures, DEFORMABLE)
        if not reasons:
            notes = []  # what the affine start was found wanting in has been made good
    figures |= {"poor": bool(reasons), "reasons": "; ".join(reasons)}
    return Registration(result, method, figures, (*_truncation(fixed, moving), *notes))


def affine_dice(atlas: Atlas, lungs: Mask) -> float:
    """Dice of our affine map from its most likely start, without looking any further."""
    fixed, moving = _atlas_shape(atlas), Shape(lungs)
    _, start = next(_starts(fixed, moving))
    return overlap(fixed, moving, fit_affine(fixed, moving, start).map)


def _ants_syn(atlas: Shape, subject: Shape, affine: AffineMap, seed: int) -> DeformableMap:
    from anatograph.anatomy.registration.ants import deform

    return deform(atlas, subject, affine, seed)


DEFORMATIONS: dict[str, Callable[[Shape, Shape, AffineMap, int], DeformableMap]] = {
    "deformable": lambda atlas, subject, affine, seed: fit_deformable(atlas, subject, affine),
    "ants-syn": _ants_syn,
}
"""Methods that deform: atlas, subject, our affine map to begin with, and seed, to the map atlas→subject."""


def _published(atlas_shape: Shape, subject: Shape, atlas: Atlas, lungs: Mask, seed: int, notes: list[str]) -> _Checked:
    """The published recipe, from our affine map where its own start fails."""
    from anatograph.anatomy.registration.ants import published_affine

    checked = _check(atlas_shape, subject, atlas, published_affine(atlas.lungs, lungs, seed))
    if not checked.reasons:
        return checked
    notes.append(f"the result from the published recipe's own start was rejected: {'; '.join(checked.reasons)}")
    better = _affine(atlas_shape, subject, atlas, notes)
    again = _check(atlas_shape, subject, atlas, published_affine(atlas.lungs, lungs, seed, start=better.map))
    return min(checked, again, key=lambda one: one.rank)


def _refuse_hopeless(figures: Quality) -> None:
    if float(figures["dice"]) < HOPELESS:
        raise UserError(
            f"the lung mask cannot be aligned with the atlas's lungs (best Dice {float(figures['dice']):.2f}); inspect "
            "the mask: is this a chest CT, does the mask cover both lungs, and is the orientation right?"
        )


def _truncation(atlas: Shape, subject: Shape) -> tuple[str, ...]:
    whose = " and ".join(name for name, shape in (("atlas", atlas), ("subject", subject)) if shape.is_cut)
    if not whose:
        return ()
    return (f"the lungs of the {whose} end in a flat face, as if truncated by the scan; what lies beyond is ignored",)


def _affine(atlas_shape: Shape, subject: Shape, atlas: Atlas, notes: list[str]) -> _Checked:
    """Our affine map: one start after another until one passes the checks or two agree; otherwise the best."""
    tried: list[_Checked] = []
    for name, start in _starts(atlas_shape, subject):
        checked = _check(atlas_shape, subject, atlas, fit_affine(atlas_shape, subject, start).map)
        if not checked.reasons:
            return checked
        notes.append(f"affine map from {name} rejected: {'; '.join(checked.reasons)}")
        places = checked.map.to_subject(atlas.landmarks)
        same = [one for one in tried if np.abs(one.map.to_subject(atlas.landmarks) - places).max() < AGREEMENT]
        tried.append(checked)
        if same and not _gross(checked.figures):
            notes.append("two starts agree, so no further start is tried")
            break
    return min(tried, key=lambda one: one.rank)


def _gross(figures: Quality) -> bool:
    return float(figures["dice"]) < GROSS


def _check(atlas_shape: Shape, subject: Shape, atlas: Atlas, map_: AffineMap) -> _Checked:
    figures = map_quality(atlas_shape, subject, atlas.landmarks, map_, map_)
    return _Checked(map_, figures, judge(figures))


@lru_cache(maxsize=4)
def _atlas_shape(atlas: Atlas) -> Shape:
    return Shape(atlas.lungs)


def _starts(atlas: Shape, subject: Shape) -> Iterator[tuple[str, AffineMap]]:
    """Maps to start from, scaled along L, P and S but never reflected, the most likely first."""
    ratio = np.sqrt(np.diag(subject.covariance) / np.diag(atlas.covariance))
    middles = atlas.to_lps(atlas.mean[None])[0], subject.to_lps(subject.mean[None])[0]
    cut = atlas.cut_along_lps | subject.cut_along_lps
    if cut.any():
        yield "the ends that are not truncated", _from_uncut_ends(atlas, subject, ratio, cut)
    yield "moments", _scaled(ratio, *middles)
    boxes = atlas.box, subject.box
    sizes = [high - low for low, high in boxes]
    yield "extents", _scaled(sizes[1] / sizes[0], boxes[0].mean(axis=0), boxes[1].mean(axis=0))
    yield "volumes", _scaled(np.full(3, (subject.volume / atlas.volume) ** (1 / 3)), *middles)
    for axis, name in ((0, "a nod"), (2, "a turn")):
        for angle in (15.0, -15.0):
            yield f"{name} of {angle:+.0f}°", _scaled(ratio, *middles, turn=_rotation(axis, np.radians(angle)))


def _from_uncut_ends(atlas: Shape, subject: Shape, ratio: NDArray[np.float64], cut: NDArray[np.bool_]) -> AffineMap:
    """Along an axis with a truncated face: the scale of the other axes, and the untruncated ends aligned."""
    whole = ~cut.any(axis=0)
    scale = np.where(whole, ratio, np.exp(np.log(ratio[whole]).mean()) if whole.any() else 1.0)
    points = []
    for shape in (atlas, subject):
        point = shape.to_lps(shape.mean[None])[0]
        for axis in np.flatnonzero(cut.any(axis=0)):
            if not cut[:, axis].all():
                point[axis] = shape.box[1 if cut[0, axis] else 0, axis]
        points.append(point)
    return _scaled(scale, *points)


def _scaled(
    scale: NDArray[np.float64],
    atlas_point: NDArray[np.float64],
    subject_point: NDArray[np.float64],
    turn: NDArray[np.float64] | None = None,
) -> AffineMap:
    matrix = np.diag(scale) if turn is None else turn @ np.diag(scale)
    return AffineMap(matrix, subject_point - matrix @ atlas_point)


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[one, one] = matrix[two, two] = np.cos(angle)
    matrix[two, one] = np.sin(angle)
    matrix[one, two] = -np.sin(angle)
    return matrix
