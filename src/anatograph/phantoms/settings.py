"""Settings of a synthetic cohort: its scanners and the grid it is drawn on."""

from __future__ import annotations

from dataclasses import dataclass

from anatograph.errors import UserError


@dataclass(frozen=True)
class Scanner:
    """A site's CT scanner and its usual protocol."""

    site: str
    """Name of the site, as in the ``site`` column."""
    in_plane_mm: float
    """Pixel spacing."""
    slice_mm: float
    """Distance between slices, and their thickness."""
    noise_hu: float
    """Standard deviation of the noise in the middle of the lungs of an average subject, after the kernel."""
    blur_mm: float
    """Gaussian sigma of the reconstruction kernel: large is a soft kernel with grainy, correlated noise."""
    sharpening: float
    """Edge enhancement of the kernel (0 none); sharp lung kernels overshoot at edges and make noise blue."""
    offset_hu: float
    """Calibration error: HU added to everything but the air outside the patient."""
    flat_table: bool = False
    """A flat couch (radiotherapy) instead of a curved one."""
    contrast_share: float = 0.0
    """Share of subjects scanned with contrast agent."""


SCANNERS: tuple[Scanner, ...] = (
    Scanner("A", 1.0, 1.0, 26.0, 0.45, 0.0, 0.0),
    Scanner("B", 0.88, 1.5, 15.0, 0.75, 0.0, -14.0, contrast_share=0.3),
    Scanner("C", 0.80, 2.0, 42.0, 0.35, 0.55, 12.0),
    Scanner("D", 0.95, 2.5, 20.0, 0.60, 0.25, -5.0, flat_table=True, contrast_share=0.15),
)
"""The four sites of the default cohort."""


DISEASES: tuple[str, ...] = ("copd", "covid")
"""What can be drawn: emphysema (and paraseptal emphysema), and ground glass (and consolidation)."""


@dataclass(frozen=True)
class PhantomSettings:
    """What a synthetic cohort is drawn with. Equal settings and seeds give equal bits on one machine."""

    scanners: tuple[Scanner, ...] = SCANNERS
    """The sites; each subject is scanned at one of them, chosen at random."""
    spacing_mm: float | None = None
    """Isotropic voxel size of every scan in place of the scanners' own; 2.5 makes small, fast scans for tests."""
    diseased_share: float = 0.75
    """Share of subjects with any disease."""
    diseases: tuple[str, ...] | None = None
    """Diseases of the diseased subjects, of ``DISEASES``; None is all of them, with a few subjects having both."""
    field_margin_mm: float = 12.0
    """Air around the body in the field of view."""

    def __post_init__(self) -> None:
        if not self.scanners:
            raise UserError("A phantom cohort needs at least one scanner; name a site.")
        if self.spacing_mm is not None and not 0.5 <= self.spacing_mm <= 6.0:
            raise UserError(f"Phantom spacing of {self.spacing_mm} mm; choose a voxel size from 0.5 to 6 mm.")
        if not 0.0 <= self.diseased_share <= 1.0:
            raise UserError(f"The share of diseased subjects is {self.diseased_share}; choose a number from 0 to 1.")
        if self.diseases is not None and (not self.diseases or set(self.diseases) - set(DISEASES)):
            raise UserError(f"Phantom diseases {self.diseases}; choose from {', '.join(DISEASES)}.")


def scanners_of(sites: str | None) -> tuple[Scanner, ...]:
    """The scanners named in a comma-separated list such as "A,C"; all of them without one. UserError if unknown."""
    if not sites:
        return SCANNERS
    known = {s.site: s for s in SCANNERS}
    names = [name.strip() for name in sites.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError(f"Unknown phantom site {', '.join(unknown) or repr(sites)}; choose from {', '.join(known)}.")
    return tuple(known[name] for name in dict.fromkeys(names))


def diseases_of(text: str | None) -> tuple[str, ...] | None:
    """The diseases named in a comma-separated list such as "covid"; None where that is all. UserError if unknown."""
    if not text:
        return None
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in DISEASES]
    if unknown or not names:
        raise UserError(
            f"Unknown phantom disease {', '.join(unknown) or repr(text)}; choose from {', '.join(DISEASES)}."
        )
    chosen = tuple(name for name in DISEASES if name in names)
    return None if chosen == DISEASES else chosen
