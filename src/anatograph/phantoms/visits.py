"""Repeat visits of a subject: the same anatomy in another position, with disease that progressed or resolved."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anatograph.phantoms.profile import SubjectProfile

_SHIFT_MM = (4.0, 4.0, 15.0)
_MOST_EMPHYSEMA = 0.6


@dataclass(frozen=True)
class Course:
    """How the diseases of one subject change with time."""

    emphysema_per_year: float
    """Growth of the extent of emphysema, cysts and air trapping relative to the first visit."""
    opacities_per_year: float
    """Rate at which ground glass and consolidation resolve, exponentially; negative where they spread."""


def sample_course(rng: np.random.Generator) -> Course:
    """Sample a course: emphysema grows by 0 to 20 % of itself a year, ground glass mostly resolves."""
    return Course(float(rng.uniform(0.0, 0.2)), float(rng.uniform(-0.2, 1.2)))


def at_visit(profile: SubjectProfile, course: Course, years: float, rng: np.random.Generator) -> SubjectProfile:
    """The subject ``years`` after the first visit; ``rng`` for where it lies in the scanner.

    Breath, posture and anatomy stay, so that two visits at the same time differ by position and noise alone.
    """
    disease = profile.disease
    grown = 1.0 + course.emphysema_per_year * years
    left = float(np.exp(-course.opacities_per_year * years))
    shift = [float(a + b) for a, b in zip(profile.shift_mm, rng.normal(0.0, _SHIFT_MM), strict=True)]
    return replace(
        profile,
        age=profile.age + round(years),
        shift_mm=(shift[0], shift[1], shift[2]),
        disease=replace(
            disease,
            emphysema=min(grown * disease.emphysema, _MOST_EMPHYSEMA),
            paraseptal=grown * disease.paraseptal,
            air_trapping=min(grown * disease.air_trapping, 0.9),
            ground_glass=min(left * disease.ground_glass, 0.7),
            consolidation=min(left * disease.consolidation, 0.2),
        ),
    )
