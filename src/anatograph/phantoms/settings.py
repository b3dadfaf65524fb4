"""Settings of a synthetic cohort: its scanners and the grid it is drawn on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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


@dataclass(frozen=True)
class ScannerRanges:
    """Ranges from which ``--sites random`` samples the scanner of a subject; (low, high), evenly unless stated."""

    in_plane_mm: tuple[float, float] = (0.6, 1.0)
    """Pixel spacing."""
    slice_mm: tuple[float, float] = (0.7, 5.0)
    """Slice thickness and distance, evenly on a logarithmic scale."""
    noise_hu: tuple[float, float] = (8.0, 60.0)
    """Noise, evenly on a logarithmic scale."""
    blur_mm: tuple[float, float] = (0.3, 0.9)
    """Sigma of the kernel."""
    sharpening: tuple[float, float] = (-0.5, 0.7)
    """Edge enhancement; below 0 there is none."""
    offset_hu: tuple[float, float] = (-20.0, 20.0)
    """Calibration error."""
    contrast_share: float = 0.25
    """Probability of contrast agent."""
    flat_table_share: float = 0.2
    """Probability of a flat couch."""


RANGES = ScannerRanges()
"""What phantoms are scanned with."""
RANDOM = "random"
"""Name of the site of a sampled scanner, and of ``--sites`` that asks for it."""


ADDED: tuple[Scanner, ...] = (
    Scanner("A", 1.0, 1.0, 0.0, 0.0, 0.0, 0.0),
    Scanner("B", 1.0, 1.0, 10.0, 0.65, 0.0, -8.0),
    Scanner("C", 1.0, 1.0, 24.0, 0.25, 0.4, 10.0),
)
"""What half-real scans are made to look like on top of their own acquisition: A leaves them as they are. Voxels are
the scan's own."""
ADDED_RANGES = ScannerRanges(
    noise_hu=(2.0, 32.0), blur_mm=(0.0, 0.75), sharpening=(-0.4, 0.5), offset_hu=(-12.0, 12.0), contrast_share=0.0
)
"""The same for ``--sites random``."""


_DISEASED_ONTO = 0.875
DISEASES: tuple[str, ...] = ("copd", "covid")
"""What can be drawn: emphysema (and paraseptal emphysema), and ground glass (and consolidation)."""


@dataclass(frozen=True)
class PhantomSettings:
    """What a synthetic cohort is drawn with. Equal settings and seeds give equal bits on one machine."""

    scanners: tuple[Scanner, ...] = SCANNERS
    """The sites; each subject is scanned at one of them, chosen at random."""
    spacing_mm: float | None = None
    """Isotropic voxel size of every scan in place of the scanners' own; 2.5 makes small, fast scans for tests."""
    ranges: ScannerRanges | None = None
    """Ranges to sample a scanner for every subject from, in place of one of ``scanners``."""
    diseased_share: float = 0.75
    """Share of subjects with any disease."""
    diseases: tuple[str, ...] | None = None
    """Diseases of the diseased subjects, of ``DISEASES``; None is all of them, with a few subjects having both."""
    events: bool = False
    """Whether the table has time-to-event columns (see `event_columns`)."""
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


def settings_of(
    spacing_mm: float | None = None,
    sites: str | None = None,
    diseases: str | None = None,
    events: bool = False,
    onto: bool = False,
) -> PhantomSettings:
    """Settings from the words of `anatograph.phantom`, of a synthetic cohort or one drawn ``onto`` real scans.

    Raises:
        UserError: an unknown scanner or disease, or a voxel size out of range.
    """
    known, ranges = (ADDED, ADDED_RANGES) if onto else (SCANNERS, RANGES)
    return PhantomSettings(
        scanners=known if sites == RANDOM else scanners_of(sites, known),
        spacing_mm=spacing_mm,
        ranges=ranges if sites == RANDOM else None,
        diseased_share=_DISEASED_ONTO if onto else PhantomSettings.diseased_share,
        diseases=diseases_of(diseases),
        events=events,
    )


def scanners_of(sites: str | None, known_scanners: tuple[Scanner, ...] = SCANNERS) -> tuple[Scanner, ...]:
    """The scanners named in a comma-separated list such as "A,C"; all of them without one. UserError if unknown."""
    if not sites:
        return known_scanners
    known = {s.site: s for s in known_scanners}
    names = [name.strip() for name in sites.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError(
            f"Unknown phantom site {', '.join(unknown) or repr(sites)}; choose from {', '.join(known)}, or {RANDOM}."
        )
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


def sample_scanner(rng: np.random.Generator, settings: PhantomSettings) -> Scanner:
    """The scanner of one subject; the same random numbers are drawn with and without ``ranges``."""
    chosen = settings.scanners[int(rng.integers(len(settings.scanners)))]
    u = rng.random(8)
    if settings.ranges is None:
        return chosen
    r = settings.ranges

    def between(ends: tuple[float, float], share: float, logarithmic: bool = False) -> float:
        low, high = np.log(ends) if logarithmic else ends
        value = low + (high - low) * share
        return float(np.exp(value) if logarithmic else value)

    return Scanner(
        site=RANDOM,
        in_plane_mm=round(between(r.in_plane_mm, u[0]), 3),
        slice_mm=round(between(r.slice_mm, u[1], logarithmic=True), 2),
        noise_hu=round(between(r.noise_hu, u[2], logarithmic=True), 1),
        blur_mm=round(between(r.blur_mm, u[3]), 3),
        sharpening=round(max(between(r.sharpening, u[4]), 0.0), 3),
        offset_hu=round(between(r.offset_hu, u[5]), 1),
        flat_table=bool(u[6] < r.flat_table_share),
        contrast_share=r.contrast_share,
    )
