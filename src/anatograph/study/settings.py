"""Settings that turn a scan into patches: all that must be equal for subjects to be comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast, get_args

from anatograph.anatomy.graph import GraphSettings
from anatograph.choices import GraphRule, LungMethod, RegistrationMethod
from anatograph.errors import UserError
from anatograph.imaging.spline import Interpolation


@dataclass(frozen=True)
class PreprocessSettings:
    """Everything besides the atlas that decides what a subject's landmarks, patches and edges are."""

    lungs: LungMethod = "auto"
    """Where the lung mask comes from. ``auto`` takes the mask that the cohort names, else finds the lungs itself."""
    registration: RegistrationMethod = "deformable"
    """How the atlas is mapped onto the subject's lungs."""
    interpolation: Interpolation = "bspline"
    """Between voxels: cubic B-splines as in the paper, or linear."""
    graph_rule: GraphRule = "atlas"
    """Which landmarks are joined, see `anatograph.anatomy.graph.GraphSettings`."""
    rho: float | None = None
    """Threshold of the graph in mm; None is 1.2 steps of the atlas's grid (1.5 for ``distance``)."""
    min_overlap: float = 0.13
    """Threshold of the rule ``overlap``."""
    seed: int = 0
    """For registrations that draw random numbers."""

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("lungs", self.lungs, get_args(LungMethod)),
            ("registration", self.registration, get_args(RegistrationMethod)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
        ):
            if value not in choices:
                raise UserError(f"There is no {name} method '{value}'; choose one of {', '.join(choices)}.")
        GraphSettings(self.graph_rule, self.rho, self.min_overlap)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessSettings:
        """Settings from `to_dict`; one that an older version did not have takes its default.

        Raises:
            UserError: for a setting that this version does not know.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(
                f"This version has no preprocessing setting {', '.join(unknown)}; install a newer anatograph."
            )
        return cls(**cast("dict[str, Any]", dict(values)))
