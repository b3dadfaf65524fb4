"""One half-real scan."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.phantoms.columns import disease_columns, scanner_columns
from anatograph.phantoms.disease.description import Disease
from anatograph.phantoms.disease.lesions import draw_lesions
from anatograph.phantoms.disease.sampling import sample_disease
from anatograph.phantoms.events import event_columns
from anatograph.phantoms.onto.anatomy import lung_places
from anatograph.phantoms.onto.painting import paint_lesions
from anatograph.phantoms.onto.warp import warp_scan
from anatograph.phantoms.scanner import scan
from anatograph.phantoms.settings import PhantomSettings, Scanner, sample_scanner
from anatograph.phantoms.thorax.lungtrees import supply_points

_LOBULE_MM = 8.0
_AVERAGE_BMI = 26.0
_AVERAGE_AGE = 60.0


@dataclass(frozen=True, eq=False)
class HalfRealScan:
    """A real scan with disease drawn into it, and the truth about what was drawn."""

    image: NDArray[np.int16]
    """HU, z, y, x."""
    frame: Frame
    """Where the voxels lie."""
    lungs: NDArray[np.uint8]
    """Labels as `Mask`."""
    masks: dict[str, NDArray[np.uint8]]
    """True masks of what was drawn, one for each of `MASKS`; disease that the patient has is in none."""
    columns: dict[str, float | int | str]
    """Columns of the cohort table."""
    disease: Disease
    """What was drawn."""
    scanner: Scanner
    """What the acquisition was made to look like."""


def draw_onto(
    volume: Volume,
    lungs: Mask,
    name: str,
    number: int,
    seed: int,
    settings: PhantomSettings,
    age: float | None = None,
    repeat: int = 0,
) -> HalfRealScan:
    """Draw disease number ``number`` into a real scan called ``name``: the same bits for the same arguments.

    The scan is warped a little, disease is painted in, then a kernel, more noise and a calibration error are applied.
    ``settings.spacing_mm`` is the finest voxel size of the result; ``age`` in years enters lung function (60 where it
    is not known). Chance depends on seed, name and number alone. ``repeat`` counts scans of the same day from 0: the
    same disease and lung function, another warp and other noise.
    """
    entropy = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()), number))
    plan, warp, lobules, lesion, noise, function = (np.random.default_rng(child) for child in entropy.spawn(6))
    if repeat:
        again = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()), number, repeat))
        warp, noise = (np.random.default_rng(child) for child in again.spawn(2))
    disease = sample_disease(plan, settings)
    scanner = sample_scanner(plan, settings)
    warped = warp_scan(volume, lungs, settings.spacing_mm, warp)
    places, box = lung_places(warped.lungs, warped.frame)
    points = supply_points(places.depth, places.stage, _LOBULE_MM, lobules)
    lesions = draw_lesions(disease, places, points, box, lesion)
    masks = paint_lesions(warped.hu, warped.lungs, lesions, places)
    image = scan(warped.hu, scanner, places.stage.spacing_zyx, _AVERAGE_BMI, noise)
    columns: dict[str, float | int | str] = {
        **scanner_columns(scanner, warped.frame.spacing),
        **disease_columns(disease, _AVERAGE_AGE if age is None else age, masks, warped.lungs, function),
        "lung_volume_l": round(float(np.count_nonzero(warped.lungs)) * warped.frame.voxel_volume / 1e6, 3),
    }
    if settings.events:
        columns |= event_columns(columns if age is None else columns | {"age": age}, function)
    return HalfRealScan(image, warped.frame, warped.lungs, masks, columns, disease, scanner)
