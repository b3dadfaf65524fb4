"""The profile of a synthetic subject: body, breath, posture, scanner and diseases."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anatograph.phantoms.disease.description import Disease
from anatograph.phantoms.disease.mimics import NormalVariants, sample_variants
from anatograph.phantoms.disease.sampling import sample_disease
from anatograph.phantoms.settings import PhantomSettings, Scanner, sample_scanner
from anatograph.phantoms.thorax.shape import ThoraxShape


@dataclass(frozen=True)
class SubjectProfile:
    """Everything about a subject that is decided before drawing."""

    sex: str
    """F or M."""
    age: int
    """Years."""
    height_cm: float
    """Body height."""
    bmi: float
    """kg/m²."""
    scale: tuple[float, float, float]
    """Size of the thorax along x, y, z relative to the reference."""
    breath: float
    """1 full inspiration, 0 expiration."""
    hyperinflation: float
    """HU by which the lung is darker than its breath explains, without any hole."""
    rotation_deg: tuple[float, float, float]
    """Posture: rotation about x, y, z in degrees."""
    shift_mm: tuple[float, float, float]
    """Where the thorax lies in the scanner, LPS mm."""
    shape: ThoraxShape
    """Form of the thorax."""
    contrast_hu: float
    """HU added to blood."""
    scanner: Scanner
    """Where the subject was scanned."""
    disease: Disease
    """What the subject has."""
    variants: NormalVariants = field(default_factory=NormalVariants)
    """Normal anatomy that imitates disease."""


def sample_profile(rng: np.random.Generator, settings: PhantomSettings) -> SubjectProfile:
    """Sample one subject; ``rng`` is used for nothing else."""
    disease = sample_disease(rng, settings)
    scanner = sample_scanner(rng, settings)
    male = bool(rng.random() < 0.52)
    age = int(np.clip(rng.normal(63 if disease.emphysema else 57, 11), 30, 89))
    height = float(np.clip(rng.normal(176 if male else 163, 6.5), 148, 200))
    bmi = float(np.clip(rng.normal(26.5 - 12 * disease.emphysema, 4.2), 17.5, 41.0))
    breath = float(np.clip(rng.normal(0.82, 0.16), 0.2, 1.0))
    size = (height / 170.0) ** 0.8 * (1.015 if male else 0.955)
    own = rng.normal(0.0, 1.0, 3)
    hyper = disease.emphysema * 0.35 + max(float(rng.normal(0.0, 0.04)), -0.03)
    out = 1.0 - breath
    scale = (
        size * (1.0 + 0.032 * own[0] - 0.03 * out),
        size * (1.0 + 0.038 * own[1] - 0.09 * out + 0.4 * hyper),
        size * (1.0 + 0.042 * own[2] - 0.05 * out),
    )
    dome = 80.0 + 52.0 * out - 90.0 * hyper + float(rng.normal(0.0, 5.0))
    shape = ThoraxShape(
        heart_scale=float(np.clip(rng.normal(0.95 + 0.002 * (age - 60) + 0.05 * out, 0.07), 0.82, 1.3)),
        heart_shift=float(rng.normal(0.0, 5.0)),
        dome_right=float(np.clip(dome, 52.0, 132.0)),
        dome_left=float(np.clip(dome - rng.normal(12.0, 5.0), 45.0, 126.0)),
        mediastinum_scale=float(np.clip(rng.normal(0.95 + 0.012 * (bmi - 26.0), 0.06), 0.75, 1.2)),
        kyphosis=float(rng.normal(0.25 * (age - 57), 3.0)),
        barrel=float(rng.normal(70.0 * hyper, 4.0)),
        squareness=float(np.clip(rng.normal(0.0, 0.6), -1.0, 1.0)),
        wave=tuple(float(v) for v in rng.normal(0.0, 3.0, 4)),
    )
    rotation = rng.normal(0.0, (2.5, 1.8, 3.0))
    shift = rng.normal(0.0, (7.0, 8.0, 25.0))
    contrast = float(rng.uniform(90, 190)) if rng.random() < scanner.contrast_share else 0.0
    return SubjectProfile(
        sex="M" if male else "F",
        age=age,
        height_cm=height,
        bmi=bmi,
        scale=scale,
        breath=breath,
        hyperinflation=float(np.clip(rng.normal(12.0, 14.0), -10.0, 45.0)),
        rotation_deg=(float(rotation[0]), float(rotation[1]), float(rotation[2])),
        shift_mm=(float(shift[0]), float(shift[1]), float(shift[2])),
        shape=shape,
        contrast_hu=contrast,
        scanner=scanner,
        disease=disease,
        variants=sample_variants(rng, breath, age),
    )
