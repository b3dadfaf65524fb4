"""Is a map plausible? Quality figures for every subject, and the limits beyond which a map is called poor.

The figures, as `register` returns them; in ``subject.json`` each carries the prefix ``registration_``:

==============================  ========================================================================================
``dice``                        of the mapped atlas mask with the subject's, both lungs together
``dice_right``, ``dice_left``   the same for one lung; absent where the masks do not part the lungs
``dice_affine``                 ``dice`` of the affine map that a deformable one started from
``landmarks_outside``           fraction of the landmarks inside the atlas's lungs that fall outside the subject's
``scale_x`` … ``determinant``   of the affine part, see `affine_figures`
``jacobian_min``, ``_max``      of the whole map's determinant in the atlas's lungs
``folded``                      fraction of the displacement grid with a determinant of 0 or less: 0 as it should be
``inverse_error_mm``            mean distance between a point and itself mapped there and back, landmarks and lungs
``inverse_error_max_mm``        the largest of them
``expected_SIDE_ml``            volume of the mapped atlas's lung; SIDE is right or left
``found_SIDE_ml``               volume of the subject's lung
``expected_SIDE_THIRD_ml``      the same by thirds of the atlas's height, THIRD being upper, middle or lower
``found_SIDE_THIRD_ml``         volume of the subject's lung that the map assigns to that third
``poor``, ``reasons``           the verdict of `judge`
==============================  ========================================================================================

Jacobian, folding and inverse figures exist for deformable maps, the volumes where the masks part the lungs. A
deformable map follows the mask, so ``found`` stays near ``expected`` even where a lobe is missing from the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.registration.maps import AffineMap, AtlasMap, DeformableMap
from anatograph.anatomy.registration.shape import CELL, FINEST, Shape
from anatograph.imaging.volume import Mask

Quality = dict[str, float | bool | str]


@dataclass(frozen=True)
class Limits:
    """Beyond any of these a map is poor."""

    dice: float = 0.75
    """Minimum Dice of the mapped atlas mask with the subject's; an affine map between two subjects mostly reaches 0.8
    to 0.9, and below 0.75 a high diaphragm or a small lung leaves landmarks in the abdomen."""
    landmarks_outside: float = 0.30
    """Maximum fraction of the landmarks inside the atlas's lungs that may fall outside the subject's."""
    scale: tuple[float, float] = (0.55, 1.8)
    """Range of the scale factors along the principal axes."""
    rotation: float = 30.0
    """Maximum rotation in degrees."""
    jacobian: tuple[float, float] = (0.0, 10.0)
    """Range of the Jacobian determinant of a deformable map."""
    inverse_error: float = 2.0
    """Maximum mean distance in mm between a landmark and itself mapped there and back."""


DEFORMABLE = Limits(dice=0.9, landmarks_outside=0.10)
"""A deformable map reaches a Dice of 0.96 and more on sound scans; below 0.9 the masks hardly correspond."""

_SIDES = {Mask.RIGHT: "right", Mask.LEFT: "left"}
_THIRDS = ("lower", "middle", "upper")


def overlap(atlas: Shape, subject: Shape, map_: AtlasMap, side: int = 0) -> float:
    """Dice of the mapped atlas mask with the subject's, from points every 4 mm in both; of one side, or 0 for both.

    Dice is the harmonic mean of the two fractions: the subject's lung that is the atlas's, and the other way round.
    Lung beyond a face at which the scan cut the other mask does not count: its true extent is unknown.
    """
    in_subject, in_atlas = subject.field(FINEST, side).inside(2), atlas.field(FINEST, side).inside(2)
    back, forth = map_.to_atlas(subject.to_lps(in_subject)), map_.to_subject(atlas.to_lps(in_atlas))
    return _dice(atlas, subject, back, forth, side)


def _dice(
    atlas: Shape, subject: Shape, to_atlas: NDArray[np.float64], to_subject: NDArray[np.float64], side: int
) -> float:
    """Dice from points of the subject's lungs mapped to the atlas, and of the atlas's mapped to the subject."""
    shared = []
    for shape, lps in ((atlas, to_atlas), (subject, to_subject)):
        points = shape.to_own(lps)
        hit = shape.field(FINEST, side).sample(points)[0] > 0.5
        shared.append(float(hit[shape.known(points, 1e-3) > 0].mean()) if len(points) else 0.0)
    return 2 * shared[0] * shared[1] / max(shared[0] + shared[1], 1e-9)


def affine_figures(matrix: NDArray[np.float64]) -> Quality:
    """Scale factors along the atlas's x, y, z, smallest and largest stretch, rotation in degrees, determinant."""
    left, stretch, right = np.linalg.svd(matrix)
    rotation = left @ right
    angle = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1.0, 1.0))))
    scale = np.linalg.norm(matrix, axis=0)
    return {
        "scale_x": float(scale[0]),
        "scale_y": float(scale[1]),
        "scale_z": float(scale[2]),
        "stretch_min": float(stretch[-1]),
        "stretch_max": float(stretch[0]),
        "rotation_deg": angle,
        "determinant": float(np.linalg.det(matrix)),
    }


def map_quality(
    atlas: Shape, subject: Shape, landmarks: NDArray[np.float64], map_: AtlasMap, affine: AffineMap
) -> Quality:
    """Dice, landmarks outside, and the figures of the affine part; see `judge` for the verdict.

    ``landmarks_outside`` counts only landmarks whose centre is inside the atlas's own lungs: many patches touch the
    lung only with a corner. ``landmarks`` is (N, 3) LPS mm of the atlas.
    """
    inside = _inside(atlas, landmarks)
    mapped = map_.to_subject(landmarks)
    lost = ~_inside(subject, mapped)
    figures: Quality = {
        "dice": float(overlap(atlas, subject, map_)),
        "landmarks_outside": float((lost & inside).sum() / max(int(inside.sum()), 1)),
    }
    return {**figures, **affine_figures(affine.matrix)}


def deformation_figures(atlas: Shape, map_: DeformableMap, landmarks: NDArray[np.float64]) -> Quality:
    """Jacobian determinants, folding and inverse consistency of a deformable map."""
    places, determinants = map_.forward.determinants()
    inside = _inside(atlas, places)
    in_lungs = determinants[inside] * np.linalg.det(map_.affine.matrix)
    points = np.concatenate([landmarks, places[inside]])
    errors = np.linalg.norm(map_.to_atlas(map_.to_subject(points)) - points, axis=1)
    return {
        "jacobian_min": float(in_lungs.min()),
        "jacobian_max": float(in_lungs.max()),
        "folded": float((determinants <= 0).mean()),
        "inverse_error_mm": float(errors.mean()),
        "inverse_error_max_mm": float(errors.max()),
    }


def side_figures(atlas: Shape, subject: Shape, map_: AtlasMap, affine: AffineMap) -> Quality:
    """Dice by side, and the volume expected from the mapped atlas against that found, by side and third, in ml.

    Empty where either mask does not part the lungs. The thirds are of the height of that lung in the atlas.
    """
    figures: Quality = {}
    determinant = float(np.linalg.det(affine.matrix))
    for side in (side for side in atlas.sides if side in subject.sides):
        name = _SIDES[side]
        in_atlas = atlas.to_lps(atlas.field(FINEST, side).inside(2))
        in_subject = subject.to_lps(subject.field(FINEST, side).inside(2))
        back = map_.to_atlas(in_subject)
        figures[f"dice_{name}"] = _dice(atlas, subject, back, map_.to_subject(in_atlas), side)
        points, volumes = in_atlas, np.full(len(in_atlas), (2 * CELL) ** 3)
        if isinstance(map_, DeformableMap):
            points, stretch = map_.forward.determinants()
            occupancy = atlas.field(FINEST, side).sample(atlas.to_own(points))[0]
            # Scaled so that without any deformation it is the volume of the atlas's lung to the last voxel.
            volumes = stretch * occupancy * (volumes.sum() / occupancy.sum())
        height = float(in_atlas[:, 2].min()), float(in_atlas[:, 2].max())
        figures |= _thirds(f"expected_{name}", points, volumes * determinant, height)
        figures |= _thirds(f"found_{name}", back, np.full(len(back), (2 * CELL) ** 3), height)
    return figures


def _thirds(
    name: str, points: NDArray[np.float64], volumes: NDArray[np.float64], height: tuple[float, float]
) -> Quality:
    """Sums of ``volumes`` (N,), mm³, over points (N, 3) of the atlas and over thirds of a height, in ml."""
    third = np.clip((points[:, 2] - height[0]) / max(height[1] - height[0], 1e-6) * 3, 0, 2.999).astype(np.int64)
    parts = np.bincount(third, weights=volumes, minlength=3) / 1000
    figures: Quality = {f"{name}_ml": float(parts.sum())}
    return figures | {f"{name}_{word}_ml": float(part) for part, word in zip(parts, _THIRDS, strict=True)}


def judge(figures: Quality, limits: Limits = Limits()) -> tuple[str, ...]:
    """Reasons why a map with these figures is poor, in plain sentences; empty if it is acceptable."""
    reasons = []
    dice, outside = float(figures["dice"]), float(figures["landmarks_outside"])
    if float(figures["determinant"]) <= 0:
        reasons.append("the map is a reflection")
    if dice < limits.dice:
        reasons.append(f"the mapped atlas overlaps the lungs with a Dice of only {dice:.2f} (below {limits.dice})")
    if outside > limits.landmarks_outside:
        reasons.append(
            f"{outside:.0%} of the inner landmarks fall outside the lungs (above {limits.landmarks_outside:.0%})"
        )
    low, high = float(figures["stretch_min"]), float(figures["stretch_max"])
    if low < limits.scale[0] or high > limits.scale[1]:
        reasons.append(f"the lungs are {low:.2f} to {high:.2f} times the atlas's, beyond {limits.scale}")
    if float(figures["rotation_deg"]) > limits.rotation:
        reasons.append(f"the lungs are rotated by {float(figures['rotation_deg']):.0f}° (above {limits.rotation:.0f}°)")
    if "jacobian_min" in figures:
        reasons += [
            f"the mapped {name} lung of the atlas overlaps the subject's with a Dice of only {value:.2f} "
            f"(below {limits.dice}): are right and left labelled correctly?"
            for name in _SIDES.values()
            if (value := float(figures.get(f"dice_{name}", 1.0))) < limits.dice <= dice
        ]
        low, high = float(figures["jacobian_min"]), float(figures["jacobian_max"])
        if low <= limits.jacobian[0] or high > limits.jacobian[1]:
            reasons.append(f"the deformation folds or tears (Jacobian {low:.2f} to {high:.2f})")
    if float(figures.get("inverse_error_mm", 0.0)) > limits.inverse_error:
        reasons.append(f"the inverse is off by {float(figures['inverse_error_mm']):.1f} mm on average")
    return tuple(reasons)


def _inside(shape: Shape, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(shape.field(FINEST).sample(shape.to_own(points))[0] > 0.5)
