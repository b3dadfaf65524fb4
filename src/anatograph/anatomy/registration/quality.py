"""Is a map plausible? Quality figures for every subject, and the limits beyond which a map is called poor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.registration.maps import AffineMap, AtlasMap
from anatograph.anatomy.registration.shape import FINEST, Shape

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
    """Range of a deformable map's Jacobian determinant, relative to its affine part."""
    inverse_error: float = 2.0
    """Maximum mean distance in mm between a landmark and itself mapped there and back."""


def overlap(atlas: Shape, subject: Shape, map_: AtlasMap) -> float:
    """Dice of the mapped atlas mask with the subject's, from points every 4 mm in both lungs.

    Dice is the harmonic mean of the two fractions: the subject's lung that is the atlas's, and the other way round.
    Lung beyond a face at which the scan cut the other mask does not count: its true extent is unknown.
    """
    in_subject, in_atlas = subject.field(FINEST).inside(2), atlas.field(FINEST).inside(2)
    to_atlas = atlas.to_own(map_.to_atlas(subject.to_lps(in_subject)))
    to_subject = subject.to_own(map_.to_subject(atlas.to_lps(in_atlas)))
    shared = []
    for shape, points in ((atlas, to_atlas), (subject, to_subject)):
        hit = shape.field(FINEST).sample(points)[0] > 0.5
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
        low, high = float(figures["jacobian_min"]), float(figures["jacobian_max"])
        if low <= limits.jacobian[0] or high > limits.jacobian[1]:
            reasons.append(f"the deformation folds or tears (Jacobian {low:.2f} to {high:.2f})")
    if float(figures.get("inverse_error_mm", 0.0)) > limits.inverse_error:
        reasons.append(f"the inverse is off by {float(figures['inverse_error_mm']):.1f} mm on average")
    return tuple(reasons)


def _inside(shape: Shape, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(shape.field(FINEST).sample(shape.to_own(points))[0] > 0.5)
