"""Registration of the atlas to a subject: fit, check, retry from other starts, report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas
from anatograph.anatomy.registration.affine import fit_affine
from anatograph.anatomy.registration.maps import AffineMap, AtlasMap
from anatograph.anatomy.registration.quality import Quality, judge, map_quality
from anatograph.anatomy.registration.shape import Shape
from anatograph.errors import UserError
from anatograph.imaging.volume import Mask

METHODS = ("affine", "ants-affine", "ants-syn")
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


def register(atlas: Atlas, lungs: Mask, method: str = "affine", seed: int = 0) -> Registration:
    """Map the atlas's lungs onto a subject's (eq. 1 of the paper).

    Only the masks are compared, right and left lung together; side labels are ignored. Padding, cropping or shifting
    a mask by whole voxels shifts the result with it and changes nothing else.

    Args:
        atlas: with its lungs, LPS mm.
        lungs: the subject's mask, any spacing and direction.
        method: ``affine`` (ours), ``ants-affine`` (the published recipe), ``ants-syn`` (deformable).
        seed: for the ANTs methods; ``affine`` is deterministic.

    Raises:
        UserError: unknown method, empty mask, ANTs not installed, or no map overlaps the lungs by a third.
    """
    if method not in METHODS:
        raise UserError(f"there is no registration method '{method}'; choose one of {', '.join(METHODS)}")
    fixed, moving = _atlas_shape(atlas), Shape(lungs)
    notes: list[str] = []
    if fixed.is_cut or moving.is_cut:
        whose = " and ".join(name for name, shape in (("atlas", fixed), ("subject", moving)) if shape.is_cut)
        notes.append(
            f"the lungs of the {whose} end in a flat face, as if truncated by the scan; what lies beyond is ignored"
        )
    if method == "ants-affine":
        from anatograph.anatomy.registration.ants import published_affine

        found = published_affine(atlas.lungs, lungs, seed)
        checked = _check(fixed, moving, atlas, found)
        if checked.reasons:
            notes.append(f"the result from the published recipe's own start was rejected: {'; '.join(checked.reasons)}")
            better = _affine(fixed, moving, atlas, notes)
            again = _check(fixed, moving, atlas, published_affine(atlas.lungs, lungs, seed, start=better.map))
            checked = min(checked, again, key=lambda one: one.rank)
        result: AtlasMap = checked.map
        figures, reasons = checked.figures, checked.reasons
    else:
        checked = _affine(fixed, moving, atlas, notes)
        result, figures, reasons = checked.map, checked.figures, checked.reasons
        if method == "ants-syn" and float(figures["dice"]) >= HOPELESS:
            from anatograph.anatomy.registration.ants import deform, deformation_quality

            deformed = deform(fixed, moving, checked.map, seed)
            figures = {
                **map_quality(fixed, moving, atlas.landmarks, deformed, checked.map),
                **deformation_quality(fixed, deformed, atlas.landmarks),
                "dice_affine": checked.figures["dice"],
            }
            result, reasons = deformed, judge(figures)
    if float(figures["dice"]) < HOPELESS:
        raise UserError(
            f"the lung mask cannot be aligned with the atlas's lungs (best Dice {float(figures['dice']):.2f}); inspect "
            "the mask: is this a chest CT, does the mask cover both lungs, and is the orientation right?"
        )
    return Registration(result, method, {**figures, "poor": bool(reasons), "reasons": "; ".join(reasons)}, tuple(notes))


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
