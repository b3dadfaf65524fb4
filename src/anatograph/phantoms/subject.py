"""One synthetic subject, scanned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Mask, Volume
from anatograph.phantoms.columns import disease_columns, scanner_columns
from anatograph.phantoms.disease.lesions import MASKS, draw_lesions
from anatograph.phantoms.disease.places import Places
from anatograph.phantoms.drawing.body import Body, reach_of
from anatograph.phantoms.drawing.mimics import VariantFields
from anatograph.phantoms.drawing.motion import blur_heart
from anatograph.phantoms.drawing.parenchyma import Parenchyma, base_hu
from anatograph.phantoms.drawing.tubes import draw_large_tubes
from anatograph.phantoms.events import event_columns
from anatograph.phantoms.profile import SubjectProfile, sample_profile
from anatograph.phantoms.raster.grid import stage_for
from anatograph.phantoms.scanner import scan
from anatograph.phantoms.settings import PhantomSettings
from anatograph.phantoms.thorax.lungtrees import grow_trees
from anatograph.phantoms.visits import at_visit, sample_course

Float = NDArray[np.float32]
_SLAB = 2
_HOLE_HU = -940.0


@dataclass(frozen=True, eq=False)
class PhantomSubject:
    """A synthetic subject with its ground truth."""

    volume: Volume
    """The scan."""
    lungs: Mask
    """True lungs on the grid of the scan: 1 right, 2 left; vessels, airways and disease of the lung belong to them."""
    diseases: dict[str, NDArray[np.uint8]]
    """True masks z,y,x, one for each of `MASKS`, without overlap; all are always present."""
    variables: dict[str, float | int | str]
    """Columns of the cohort table, the true extents among them."""
    profile: SubjectProfile
    """What was drawn."""
    noise_free: NDArray[np.int16]
    """The scan before kernel and noise (calibration error left out), for checking the truth."""


def make_subject(
    seed: int, index: int = 0, settings: PhantomSettings | None = None, visit: int = 0, years: float = 0.0
) -> PhantomSubject:
    """Draw subject number ``index`` of the cohort with ``seed``; its bits do not depend on the size of the cohort.

    ``visit`` counts from 0; later visits take place ``years`` after the first (see `at_visit`).
    """
    settings = settings or PhantomSettings()

    def stream(*key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, *key)))

    streams = [stream(k) for k in range(6)]
    profile = sample_profile(streams[0], settings)
    if visit:
        settings = replace(settings, events=False)  # the first visit decides; the table counts from each visit
        profile = at_visit(profile, sample_course(stream(6)), years, stream(7, visit))
        streams[4] = stream(8, visit)
    return draw_subject(profile, settings, streams[1:])


def draw_subject(
    profile: SubjectProfile, settings: PhantomSettings, streams: list[np.random.Generator]
) -> PhantomSubject:
    """Draw and scan a given subject; ``streams``: five generators for body, trees, lesions, noise, variables."""
    scanner = profile.scanner
    step = settings.spacing_mm
    spacing = (step, step, step) if step else (scanner.in_plane_mm, scanner.in_plane_mm, scanner.slice_mm)
    stage = stage_for(
        profile.rotation_deg, profile.scale, profile.shift_mm, reach_of(profile, settings.field_margin_mm), spacing
    )
    body = Body(profile, stage, streams[0])
    level = np.maximum(body.right_coarse, body.left_coarse)
    trees = grow_trees(level, stage, streams[1], max(8.0, 4.5 * max(spacing)))
    places = Places(stage, level, body.cage_coarse)
    lesions = draw_lesions(profile.disease, places, trees.lobules, body.lungs_box, streams[2])
    variants = VariantFields(profile.variants, places, body.lungs_box, streams[1])
    tissue = Parenchyma(profile, places, trees, lesions, variants, streams[1])

    shape = stage.frame.shape
    hu = np.empty(shape, dtype=np.float32)
    labels = np.zeros(shape, dtype=np.uint8)
    diseases = {name: np.zeros(shape, dtype=np.uint8) for name in MASKS}
    box = (slice(None), *body.lungs_box)
    for start in range(0, shape[0], _SLAB):
        stop = min(start + _SLAB, shape[0])
        block = body.slab(start, stop)
        lung, split = body.lung.slab(start, stop), body.split.slab(start, stop)
        labels[start:stop][box] = np.where(lung > 0, np.where(split > 0, np.uint8(Mask.LEFT), np.uint8(Mask.RIGHT)), 0)
        for name, mask in tissue.blend(block[box], lung, start, stop).items():
            diseases[name][start:stop][box] = mask
        blur_heart(block, body.heart, profile.variants.motion_mm, stage.frame.spacing[0], start, stop)
        hu[start:stop] = block
    draw_large_tubes(hu, body, trees, stage, profile)
    for name in ("emphysema", "paraseptal"):
        # A vessel or bronchial wall that crosses a hole is not part of it.
        diseases[name] &= (hu < _HOLE_HU).astype(np.uint8)
    noise_free = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    image = scan(hu, scanner, stage.spacing_zyx, profile.bmi, streams[3])
    volume = Volume(image, stage.frame, stage.frame, source="phantom")
    lungs = Mask(labels, stage.frame)
    litres = np.count_nonzero(labels) * stage.frame.voxel_volume / 1e6
    variables: dict[str, float | int | str] = {
        "age": profile.age,
        "sex": profile.sex,
        **scanner_columns(scanner, stage.frame.spacing),
        **disease_columns(profile.disease, profile.age, diseases, labels, streams[4]),
        "bmi": round(profile.bmi, 1),
        "height_cm": round(profile.height_cm, 1),
        "lung_volume_l": round(float(litres), 3),
        "lung_hu": round(base_hu(profile), 1),
    }
    if settings.events:
        variables |= event_columns(variables, streams[4])
    return PhantomSubject(volume, lungs, diseases, variables, profile, noise_free)
