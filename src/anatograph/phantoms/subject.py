"""One synthetic person, scanned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anatograph.imaging.volume import Mask, Volume
from anatograph.phantoms.disease import draw_lesions
from anatograph.phantoms.person import Person, sample_person
from anatograph.phantoms.scanner import scan
from anatograph.phantoms.settings import PhantomSettings
from anatograph.phantoms.thorax.body import BLOOD, Body, reach_of
from anatograph.phantoms.thorax.grid import Stage, stage_for
from anatograph.phantoms.thorax.lungtrees import LungTrees, great_vessels, grow_trees
from anatograph.phantoms.thorax.paint import paint_tube
from anatograph.phantoms.thorax.parenchyma import MASKS, Parenchyma, base_hu
from anatograph.phantoms.variables import clinical_variables

Float = NDArray[np.float32]
_SLAB = 2
_HOLE_HU = -940.0


@dataclass(frozen=True, eq=False)
class PhantomSubject:
    """A synthetic person with everything that is true about him or her."""

    volume: Volume
    """The scan."""
    lungs: Mask
    """True lungs on the grid of the scan: 1 right, 2 left; vessels, airways and disease of the lung are inside."""
    diseases: dict[str, NDArray[np.uint8]]
    """True masks z,y,x of emphysema, paraseptal, ground_glass and consolidation; all four are always there."""
    variables: dict[str, float | int | str]
    """Columns of the cohort table, the true extents among them."""
    person: Person
    """What was drawn."""
    noise_free: NDArray[np.int16]
    """The scan before kernel and noise (calibration error left out), for checking the truth."""


def make_subject(seed: int, index: int = 0, settings: PhantomSettings | None = None) -> PhantomSubject:
    """The ``index``-th person of the cohort with ``seed``: the same bits whatever the size of the cohort."""
    settings = settings or PhantomSettings()
    streams = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, k))) for k in range(6)]
    return draw_person(sample_person(streams[0], settings), settings, streams[1:])


def draw_person(person: Person, settings: PhantomSettings, streams: list[np.random.Generator]) -> PhantomSubject:
    """Draws and scans a given person; ``streams``: five generators for body, trees, lesions, noise, variables."""
    scanner = person.scanner
    step = settings.spacing_mm
    spacing = (step, step, step) if step else (scanner.in_plane_mm, scanner.in_plane_mm, scanner.slice_mm)
    stage = stage_for(person, reach_of(person, settings.field_margin_mm), spacing)
    body = Body(person, stage, streams[0])
    level = np.maximum(body.right_coarse, body.left_coarse)
    trees = grow_trees(level, stage, streams[1], max(8.0, 4.5 * max(spacing)))
    lesions = draw_lesions(person.disease, stage, level, body.cage_coarse, trees.lobules, body.lungs_box, streams[2])
    tissue = Parenchyma(person, stage, body.lungs_box, trees, lesions, streams[1])

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
        hu[start:stop] = block
    _large_tubes(hu, body, trees, stage, person)
    for name in ("emphysema", "paraseptal"):
        # A vessel or the wall of a bronchus that crosses a hole is no hole.
        diseases[name] &= (hu < _HOLE_HU).astype(np.uint8)
    noise_free = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    image = scan(hu, scanner, stage.spacing_zyx, person.bmi, streams[3])
    volume = Volume(image, stage.frame, stage.frame, source="phantom")
    lungs = Mask(labels, stage.frame)
    extents = {name: float(np.count_nonzero(mask) / np.count_nonzero(labels)) for name, mask in diseases.items()}
    liters = np.count_nonzero(labels) * stage.frame.voxel_volume / 1e6
    variables = clinical_variables(person, extents, streams[4])
    variables |= {"lung_volume_l": round(float(liters), 3), "lung_hu": round(base_hu(person), 1)}
    return PhantomSubject(volume, lungs, diseases, variables, person, noise_free)


def _large_tubes(hu: Float, body: Body, trees: LungTrees, stage: Stage, person: Person) -> None:
    """Great vessels, gullet, trachea and bronchi: drawn by distance, blood first, then walls, then air."""
    spacing = stage.spacing_zyx
    lines = great_vessels(body.thorax)
    blood = BLOOD + person.contrast_hu
    for kind, value in (("blood", blood), ("gullet", 38.0)):
        for line in lines[kind]:
            points = stage.to_index(line.points)
            for a, b, r, s in zip(points[:-1], points[1:], line.radii[:-1], line.radii[1:], strict=True):
                paint_tube(hu, a, b, (float(r), float(s)), value, spacing, raise_only=kind == "blood")
    bronchi = trees.bronchi
    radius = np.minimum(0.235 * bronchi.supplied ** (1 / 2.6), 4.2)
    seen = np.flatnonzero(radius > 0.45 * float(spacing.max()) + 0.4)
    starts, ends = stage.to_index(bronchi.start), stage.to_index(bronchi.end)
    tubes = [(starts[i], ends[i], (float(radius[i]), float(0.93 * radius[i]))) for i in seen]
    for line in lines["air"]:
        points = stage.to_index(line.points)
        ends_of = zip(points[:-1], points[1:], line.radii[:-1], line.radii[1:], strict=True)
        tubes += [(a, b, (float(r), float(s))) for a, b, r, s in ends_of]
    for a, b, (r, s) in tubes:
        wall = 0.3 + 0.13 * max(r, s)
        paint_tube(hu, a, b, (r + wall, s + wall), 10.0 if r > 3 else -330.0 + 110.0 * r, spacing, raise_only=True)
    for a, b, radii in tubes:
        paint_tube(hu, a, b, radii, -985.0, spacing)
