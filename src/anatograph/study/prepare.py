"""From one scan to landmarks, patches and graph, in memory: the same way for a study and for a single CT."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from anatograph.anatomy.atlas import Atlas
from anatograph.anatomy.graph import edges, graph_quality
from anatograph.anatomy.lung_tissue import inside_lungs, parenchyma
from anatograph.anatomy.patches import cut_patches
from anatograph.anatomy.places import on_right
from anatograph.anatomy.registration import Registration, affine_dice, register
from anatograph.anatomy.registration.quality import Limits
from anatograph.errors import UserError
from anatograph.imaging.lungs import LungResult, lung_quality, segment_lungs, surroundings
from anatograph.imaging.lungs.quality import MISSING_SHARE
from anatograph.imaging.reading import read_mask
from anatograph.imaging.resample import axis_aligned, resample_labels
from anatograph.imaging.volume import Mask, Volume
from anatograph.study.quality.chest import chest_figures
from anatograph.study.quality.levels import Figure, judge
from anatograph.study.settings import PreprocessSettings
from anatograph.study.subject import PreparedSubject
from anatograph.study.versions import versions_of

LEAST_ML = 250.0
"""Less segmented lung than this is not a lung: the smallest adults breathe out to some 800 ml."""
FEWEST_INSIDE = 1 / 3
"""A scan that holds fewer of the landmarks is not a chest CT, or shows too little of the chest."""
BETTER_TURNED = 0.08
"""Dice by which a mirrored mask must fit better before anything is said."""
BETTER_IN_DOUBT = 0.03
"""The same where bone does not show clearly which way the patient faces; sound lungs fit worse by 0.06 to 0.13."""
UNCLEAR_SPINE = 0.15
"""``spine_behind`` below which the spine does not stand out from contrast agent and calcified cartilage."""


class Stages:
    """The stage a subject is in, and how long each took; a failure is reported with its stage."""

    def __init__(self) -> None:
        self.timings: dict[str, float] = {}
        self.current = "start"

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a stage. After an error ``current`` still names it."""
        self.current = name
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - begin


def prepare_subject(
    volume: Volume,
    lungs: Mask | str | Path | None,
    atlas: Atlas,
    settings: PreprocessSettings | None = None,
    *,
    subject_id: str = "",
    weights: Path | None = None,
    stages: Stages | None = None,
) -> PreparedSubject:
    """Landmarks, patches and graph of one scan.

    Args:
        volume: the scan, HU, any orientation.
        lungs: its lung mask or the file of one, if there is one. ``auto`` and ``given`` use it, the other methods
            find the lungs themselves.
        atlas: the atlas whose landmarks are mapped.
        settings: defaults if not given.
        subject_id: for the result.
        weights: of a lung network, see `anatograph.imaging.lungs.segment_lungs`.
        stages: filled with the time of each stage.

    Raises:
        UserError: no lungs found, no mask where one is required, or a method that cannot run.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    settings = settings or PreprocessSettings()
    stages = stages or Stages()
    oblique = not volume.frame.is_axis_aligned
    with stages("align"):
        volume = axis_aligned(volume, settings.interpolation)
    with stages("lungs"):
        found = _lungs(volume, lungs, settings, weights)
        if found.method != "given" and float(found.quality["volume_ml"]) < LEAST_ML:
            raise UserError(
                f"Only {float(found.quality['volume_ml']):.0f} ml of lung with air were found in "
                f"{volume.source or 'the scan'}; check that it is a chest CT, or give a lung mask."
            )
        around = surroundings(found.mask, volume)
        chest = chest_figures(volume, found.mask, given=found.method == "given")
    # Sums over several threads round differently, and one subject is too little work for them.
    with threadpool_limits(1):
        with stages("register"):
            unclear = float(around["spine_behind"]) < UNCLEAR_SPINE
            registration, doubts = _register(atlas, found.mask, settings, unclear)
            landmarks = registration.map.to_subject(atlas.landmarks)
        with stages("patches"):
            patches, present = cut_patches(volume, landmarks, atlas.patch_size, settings.interpolation)
        if present.mean() < FEWEST_INSIDE:
            raise UserError(
                f"Only {int(present.sum())} of {len(landmarks)} landmarks lie inside the scan, which shows too little "
                "of the lungs (an abdomen or a neck, or lungs cut short); use a scan of the whole chest."
            )
        with stages("patches"):
            inside = inside_lungs(found.mask, landmarks, atlas.patch_size)
            right = on_right(atlas)
            density = parenchyma(patches[present], inside[present], right[present])
    with stages("graph"):
        pairs = edges(
            landmarks,
            atlas.landmarks,
            settings.graph_rule,
            settings.rho,
            step=atlas.step,
            patch_size=atlas.patch_size,
            min_overlap=settings.min_overlap,
        )
        graph = graph_quality(pairs, len(landmarks))
    quality: dict[str, Figure] = {
        **{f"lungs_{name}": value for name, value in found.quality.items()},
        **density.figures(),
        **chest,
        **{f"scan_{name}": value for name, value in around.items()},
        "scan_coarsest_mm": float(max(volume.spacing)),
        **{f"registration_{name}": value for name, value in registration.quality.items()},
        "landmarks": len(landmarks),
        "landmarks_outside_scan": int((~present).sum()),
        "landmarks_outside_scan_fraction": float((~present).mean()),
        "landmarks_outside_lungs": int((~found.mask.contains(landmarks)).sum()),
        **graph,
    }
    return PreparedSubject(
        subject_id=subject_id,
        landmarks=landmarks,
        patches=patches,
        present=present,
        inside=inside,
        parenchyma_hu=density.at(right),
        edges=pairs,
        lungs=found.mask,
        map=registration.map,
        volume=volume,
        quality=quality,
        concerns=judge(quality, found.method, (*volume.flags, *doubts)),
        notes=(*volume.notes, *found.notes, *registration.notes),
        lung_method=found.method,
        step_versions=versions_of(found.method, settings.registration, oblique),
        timings=stages.timings,
    )


def _lungs(
    volume: Volume, lungs: Mask | str | Path | None, settings: PreprocessSettings, weights: Path | None
) -> LungResult:
    if lungs is None:
        if settings.lungs == "given":
            raise UserError("lungs is 'given', but the table names no mask for this scan; name one, or use 'auto'.")
        return segment_lungs(volume, settings.lungs, weights)
    if settings.lungs != "auto" and settings.lungs != "given":
        result = segment_lungs(volume, settings.lungs, weights)
        note = f"the given mask was not used, because lungs is '{settings.lungs}'"
        return LungResult(result.mask, result.method, result.quality, (*result.notes, note))
    if isinstance(lungs, Mask):
        mask = lungs
        if not mask.frame.same_grid(volume.frame):
            mask = Mask(resample_labels(lungs.array, lungs.frame, volume.frame), volume.frame)
    else:
        mask = read_mask(lungs, like=volume)
    notes = ("auto used the given mask",) if settings.lungs == "auto" else ()
    return LungResult(mask, "given", lung_quality(mask, volume), notes)


def _register(atlas: Atlas, lungs: Mask, settings: PreprocessSettings, unclear: bool) -> tuple[Registration, list[str]]:
    """The atlas mapped onto the lungs, and what is unusual about it, in words; ``unclear``: where the spine lies is.

    Where one lung is missing, the atlas's lung of that side is left out too, so that the other lies on its like and
    the landmarks of the missing one come to lie where it was.
    """
    counts = [int(np.count_nonzero(lungs.array == label)) for label in range(4)]
    largest = max(counts[Mask.RIGHT], counts[Mask.LEFT])
    sides = [side for side in (Mask.RIGHT, Mask.LEFT) if counts[side] and counts[side] >= MISSING_SHARE * largest]
    if len(sides) == 1 and not counts[Mask.UNSIDED] and (atlas.lungs.array == sides[0]).any():
        atlas, lungs = replace(atlas, lungs=_only(atlas.lungs, sides[0])), _only(lungs, sides[0])
    found = register(atlas, lungs, settings.registration, settings.seed)
    here = float(found.quality.get("dice_affine", found.quality["dice"]))
    well = here > Limits.dice and not found.quality["poor"]
    if len(sides) < 2 or (well and not unclear):
        return found, []
    # A poor map may be that of a scan that was turned over: then its mirror image fits far better. Affine maps are
    # compared, as a deformable one may lay the atlas even onto lungs that are upside down.
    for axis, name in ((0, "upside down"), (1, "front to back")):
        turned = Mask(np.ascontiguousarray(np.flip(lungs.array, axis)), lungs.frame)
        there = affine_dice(atlas, turned)
        if there > here + (BETTER_IN_DOUBT if unclear and axis == 1 else BETTER_TURNED):
            fit = f"the lungs fit the atlas better {name} (Dice {there:.2f}, not {here:.2f})"
            return found, [f"{fit}: check the scan's orientation"]
    return found, []


def _only(mask: Mask, side: int) -> Mask:
    return Mask(np.where(mask.array == side, np.uint8(side), np.uint8(0)), mask.frame)
