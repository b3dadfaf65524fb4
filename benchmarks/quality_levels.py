"""The level that quality control gives to sound scans, and to scans and masks with planted faults.

    OMP_NUM_THREADS=1 python benchmarks/quality_levels.py [--scans COHORT.csv] [--only ID …] [--plant ID …]
        [--phantoms 2] [--faults NAME …] [--json FILE]

Every scan of COHORT.csv and every phantom is prepared as ``anatograph preprocess`` does, with the built-in atlas:
at most one sound scan in ten should be ``check`` or ``reject``.  Then each of `FAULTS` is planted into the phantoms and
into the scans named by ``--plant``: each should be at least ``check``, or refused.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.anatomy.atlas import default_atlas
from anatograph.errors import UserError
from anatograph.imaging.lungs import segment_lungs
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.imaging.resample import axis_aligned
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.phantoms import PhantomSettings, make_subject
from anatograph.study.cohort.table import read_cohort
from anatograph.study.prepare import prepare_subject
from anatograph.study.settings import PreprocessSettings

Planted = tuple[Volume, Mask | None]


def volume_of(volume: Volume, array: NDArray[Any]) -> Volume:
    """``array`` as a scan whose first voxel and spacing are those of another."""
    frame = Frame(array.shape, volume.spacing, volume.origin)
    return replace(volume, array=np.ascontiguousarray(array, dtype=np.int16), frame=frame, stored=None)


def mask_of(mask: Mask, array: NDArray[Any]) -> Mask:
    """The same for a mask."""
    return Mask(np.ascontiguousarray(array, dtype=np.uint8), Frame(array.shape, mask.frame.spacing, mask.frame.origin))


def mirrored(axis: int) -> Callable[[Volume, Mask], Planted]:
    """The scan mirrored along an axis; its lungs have to be found."""
    return lambda volume, _: (volume_of(volume, np.flip(volume.array, axis)), None)


def cut(axis: int, part: float, above: bool) -> Callable[[Volume, Mask], Planted]:
    """A part of the lungs' extent along an axis outside the scan."""

    def plant(volume: Volume, mask: Mask) -> Planted:
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(mask.lungs.any(axis=others))
        least, most = int(where[0] + part * len(where)), int(where[-1] - part * len(where))
        keep = slice(None, most) if above else slice(least, None)
        return volume_of(volume, np.moveaxis(np.moveaxis(volume.array, axis, 0)[keep], 0, axis)), None

    return plant


def swapped_labels(volume: Volume, mask: Mask) -> Planted:
    """Right labelled left and left right."""
    return volume, mask_of(mask, np.array([0, 2, 1, 3], dtype=np.uint8)[mask.array])


def shifted(volume: Volume, mask: Mask) -> Planted:
    """A mask 20 mm to the left of the lungs."""
    return volume, mask_of(mask, np.roll(mask.array, round(20 / volume.spacing[0]), axis=2))


def turned_mask(volume: Volume, mask: Mask) -> Planted:
    """A mask that was mirrored front to back."""
    return volume, mask_of(mask, mask.array[:, ::-1])


def mask_of_another(volume: Volume, mask: Mask) -> Planted:
    """The mask of another subject: a phantom's, at the same place."""
    other = make_subject(77, 3, PhantomSettings(spacing_mm=3.0)).lungs
    here, there = (np.mean(m.box_lps(), axis=0) for m in (mask, other))  # type: ignore[arg-type]
    z, y, x = (np.arange(n) for n in mask.array.shape)
    places = [
        np.rint((axis * step + start - middle + goal - origin) / fine).astype(int)
        for axis, step, start, middle, goal, origin, fine in zip(
            (z, y, x), mask.frame.spacing[::-1], mask.frame.origin[::-1], here[::-1], there[::-1],
            other.frame.origin[::-1], other.frame.spacing[::-1], strict=True)
    ]  # fmt: skip
    array = np.zeros(mask.array.shape, dtype=np.uint8)
    inside = [(p >= 0) & (p < n) for p, n in zip(places, other.array.shape, strict=True)]
    array[np.ix_(*inside)] = other.array[np.ix_(*(p[ok] for p, ok in zip(places, inside, strict=True)))]
    return volume, mask_of(mask, array)


def another_organ(volume: Volume, mask: Mask) -> Planted:
    """Soft tissue below and between the lungs labelled as lung."""
    tissue = (volume.array > 0) & (volume.array < 150) & ndimage.binary_dilation(~mask.lungs, iterations=2)
    tissue = ndimage.binary_opening(tissue, iterations=2)
    heights = np.flatnonzero(mask.lungs.any(axis=(1, 2)))
    tissue[int(heights[0] + 0.45 * len(heights)) :] = False
    half = tissue.shape[2] // 2
    array = tissue.astype(np.uint8)
    array[:, :, half:] *= 2
    return volume, mask_of(mask, array)


def half_the_mask(volume: Volume, mask: Mask) -> Planted:
    """A mask of the right lung alone."""
    return volume, mask_of(mask, np.where(mask.array == Mask.RIGHT, 1, 0))


def filled(volume: Volume, mask: Mask, part: NDArray[np.bool_]) -> Planted:
    """Soft tissue in place of a part of the lungs, with the scan's own noise."""
    array = volume.array.copy()
    level = array[mask.lungs].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, min(float(level.std()), 30.0), int(part.sum()))
    array[part] = np.rint(30 + noise).astype(np.int16)
    return volume_of(volume, array), None


def resized(factor: float) -> Callable[[Volume, Mask], Planted]:
    """A voxel size that is wrong by a factor along every axis."""

    def plant(volume: Volume, _: Mask) -> Planted:
        x, y, z = (factor * step for step in volume.spacing)
        return replace(volume, frame=Frame(volume.array.shape, (x, y, z), volume.origin), stored=None), None

    return plant


def one_lung(volume: Volume, mask: Mask) -> Planted:
    """The left lung without air."""
    return filled(volume, mask, mask.array == Mask.LEFT)


def lobe(side: int, lower: bool) -> Callable[[Volume, Mask], Planted]:
    """A lobe without air: what lies below and behind an oblique plane through a lung, or the rest of it."""

    def plant(volume: Volume, mask: Mask) -> Planted:
        z, y, x = np.nonzero(mask.array == side)
        high, back = ((axis - axis.min()) / max(1, int(np.ptp(axis))) for axis in (z, y))
        chosen = (high < 0.05 + 0.75 * back) == lower
        part = np.zeros(mask.array.shape, dtype=bool)
        part[z[chosen], y[chosen], x[chosen]] = True
        return filled(volume, mask, part)

    return plant


def effusion(volume: Volume, mask: Mask) -> Planted:
    """Fluid in the hind 30 % of the right lung."""
    right = mask.array == Mask.RIGHT
    behind = np.arange(right.shape[1])[None, :, None] > np.percentile(np.nonzero(right)[1], 70)
    return filled(volume, mask, right & behind)


def with_room(volume: Volume, mask: Mask) -> Planted:
    """A mask that includes the room."""
    room = (volume.array < -900) & ~ndimage.binary_dilation(mask.lungs, iterations=3)
    half = room.shape[2] // 2
    array = mask.array.copy()
    array[:, :, :half][room[:, :, :half]] = Mask.RIGHT
    array[:, :, half:][room[:, :, half:]] = Mask.LEFT
    return volume, mask_of(mask, array)


FAULTS: dict[str, Callable[[Volume, Mask], Planted]] = {
    "scan mirrored left to right": mirrored(2),
    "scan front to back": mirrored(1),
    "scan upside down": mirrored(0),
    "base cut by a quarter": cut(0, 0.25, above=False),
    "top cut by a fifth": cut(0, 0.2, above=True),
    "side cut": cut(2, 0.15, above=True),
    "labels swapped": swapped_labels,
    "mask shifted by 20 mm": shifted,
    "mask front to back": turned_mask,
    "mask of another subject": mask_of_another,
    "mask of another organ": another_organ,
    "mask of one lung": half_the_mask,
    "mask with the room": with_room,
    "voxel size times 0.67": resized(0.67),
    "voxel size times 1.5": resized(1.5),
    "one lung without air": one_lung,
    "right lower lobe without air": lobe(Mask.RIGHT, lower=True),
    "left upper lobe without air": lobe(Mask.LEFT, lower=False),
    "effusion": effusion,
}


def judged(volume: Volume, lungs: Mask | None) -> dict[str, Any]:
    """Level, reasons and figures of a scan as `anatograph preprocess` gives them."""
    try:
        subject = prepare_subject(volume, lungs, default_atlas(), PreprocessSettings())
    except UserError as error:
        return {"level": "refused", "reasons": [str(error)]}
    return {
        "level": subject.level,
        "reasons": [str(concern) for concern in subject.concerns],
        "figures": {name: value for name, value in subject.quality.items() if not isinstance(value, str)},
    }


def sound(options: argparse.Namespace) -> Iterator[tuple[str, bool, Volume, Mask | None, Mask | None]]:
    """Name, whether faults are planted, the scan, its lungs where they are, and the mask that comes with it."""
    if options.scans:
        for row in read_cohort(options.scans).rows:
            if options.only and row.subject_id not in options.only:
                continue
            volume = axis_aligned(read_volume(row.image))
            given = read_mask(row.lungs, like=volume) if row.lungs else None
            planted = row.subject_id in options.plant
            lungs = given if given is not None or not planted else segment_lungs(volume, "threshold").mask
            yield row.subject_id, planted, volume, lungs, given
    for index in range(options.phantoms):
        subject = make_subject(21, index, PhantomSettings(spacing_mm=3.0))
        yield f"phantom {index}", True, subject.volume, subject.lungs, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, help="cohort table of sound scans")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="these scans of the table only")
    parser.add_argument("--plant", nargs="+", default=[], metavar="ID", help="scans to plant faults into")
    parser.add_argument("--phantoms", type=int, default=2)
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=FAULTS)
    parser.add_argument("--json", type=Path, help="write every row to this file")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def add(scan: str, fault: str, volume: Volume, lungs: Mask | None) -> None:
        rows.append({"scan": scan, "fault": fault, **judged(volume, lungs)})
        print(f"{scan:10s}  {fault:30s}  {rows[-1]['level']:8s}  {'; '.join(rows[-1]['reasons'])}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1, default=float) + "\n", encoding="utf-8")

    for name, planted, volume, lungs, given in sound(options):
        add(name, "", volume, given)
        for fault in options.faults if planted and lungs is not None else ():
            add(name, fault, *FAULTS[fault](volume, lungs))
    clean = [row["level"] for row in rows if not row["fault"]]
    print(f"\n{sum(level in ('check', 'reject', 'refused') for level in clean)} of {len(clean)} sound scans flagged")
    print("\n| fault | refused | reject | check | missed |\n|---|---|---|---|---|")
    for fault in options.faults:
        levels = [row["level"] for row in rows if row["fault"] == fault]
        counts = [sum(level == wanted for level in levels) for wanted in ("refused", "reject", "check")]
        print(f"| {fault} | {' | '.join(map(str, counts))} | {len(levels) - sum(counts)} |")


if __name__ == "__main__":
    main()
