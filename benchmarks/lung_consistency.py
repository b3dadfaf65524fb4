"""Whether ``threshold`` finds the same lungs in altered copies of a real scan.

    OMP_NUM_THREADS=1 python benchmarks/lung_consistency.py COHORT.csv [--only ID …] [--cases NAME …] [--warps 1]
        [--spacing 2] [--json FILE] [--pictures FOLDER]

COHORT.csv is a cohort table; its masks are not used.  The lungs of each scan are found once.  Then, for each case and
warp, scan and mask are warped together (`anatograph.phantoms.onto.warp`), the scan is altered as the case says, and its
lungs are found again.  The warped mask is the truth, so that an error of the first mask counts as truth too: what is
measured is consistency.  A copy passes with a volume within 5 % of the truth and a Dice of at least 0.96.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.errors import UserError
from anatograph.imaging.lungs import segment_lungs
from anatograph.imaging.reading import read_volume
from anatograph.imaging.resample import axis_aligned
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.phantoms.onto.warp import warp_scan
from anatograph.study.cohort.table import read_cohort

Float = NDArray[np.float32]
VOLUME = 0.05
"""Largest relative error of the volume."""
DICE = 0.96
"""Smallest Dice."""


@dataclass(eq=False)
class Copy:
    """A warped scan while it is altered; the arrays are replaced, never changed in place."""

    hu: Float
    """HU, z, y, x."""
    lungs: NDArray[np.uint8]
    """The truth on the same grid, labels as in `Mask`."""
    spacing: tuple[float, float, float]
    """mm along z, y, x."""
    rng: np.random.Generator


def add_noise(copy: Copy, level: float, grain_mm: float) -> None:
    """Gaussian noise of ``level`` HU, smooth over ``grain_mm`` within a slice."""
    noise = copy.rng.standard_normal(copy.hu.shape, dtype=np.float32)
    if grain_mm:
        ndimage.gaussian_filter(noise, (0, grain_mm / copy.spacing[1], grain_mm / copy.spacing[2]), output=noise)
        noise /= noise.std()
    copy.hu = copy.hu + level * noise


def noisy(copy: Copy) -> None:
    """Low dose: 60 HU of noise with the grain of a soft kernel."""
    add_noise(copy, 60.0, 1.0)


def sharp(copy: Copy) -> None:
    """A sharp kernel: edges overshoot, and 120 HU of white noise."""
    blurred = ndimage.gaussian_filter(copy.hu, [1.2 / s for s in copy.spacing])
    copy.hu = copy.hu + 1.2 * (copy.hu - blurred)
    add_noise(copy, 120.0, 0.0)


def blurred(copy: Copy) -> None:
    """A soft kernel: a blur of 1.8 mm."""
    copy.hu = ndimage.gaussian_filter(copy.hu, [1.8 / s for s in copy.spacing])
    add_noise(copy, 15.0, 1.0)


def thick_slices(copy: Copy) -> None:
    """Slices of about 5 mm."""
    count = max(1, round(5.0 / copy.spacing[0]))
    kept = len(copy.hu) // count * count
    copy.hu = copy.hu[:kept].reshape(-1, count, *copy.hu.shape[1:]).mean(axis=1)
    copy.lungs = np.ascontiguousarray(copy.lungs[count // 2 : kept : count])
    copy.spacing = (copy.spacing[0] * count, *copy.spacing[1:])
    add_noise(copy, 15.0, 1.0)


def narrow_field(copy: Copy) -> None:
    """A round field of view that just holds the lungs, with padding outside it."""
    rows, columns = (np.flatnonzero(copy.lungs.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    middle = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    y, x = np.ogrid[: copy.hu.shape[1], : copy.hu.shape[2]]
    distance = np.hypot((y - middle[0]) * copy.spacing[1], (x - middle[1]) * copy.spacing[2])
    inside = distance < float(distance[copy.lungs.any(axis=0)].max()) - 6.0
    add_noise(copy, 15.0, 1.0)
    copy.hu = np.where(inside, copy.hu, np.float32(-1024))
    copy.lungs = np.where(inside, copy.lungs, np.uint8(0))


def cut_base(copy: Copy) -> None:
    """The scan ends a fifth of the lungs' height above their base."""
    heights = np.flatnonzero(copy.lungs.any(axis=(1, 2)))
    first = int(heights[0] + 0.2 * len(heights))
    copy.hu, copy.lungs = copy.hu[first:], np.ascontiguousarray(copy.lungs[first:])
    add_noise(copy, 15.0, 1.0)


def with_arms(copy: Copy) -> None:
    """Both arms beside the chest, against the skin, in a wider view."""
    extra = round(110.0 / copy.spacing[2])
    wide = ((0, 0), (0, 0), (extra, extra))
    body = copy.hu > -300
    rows, columns = (np.flatnonzero(body.mean(axis=axes) > 0.02) for axes in ((0, 2), (0, 1)))
    copy.hu = np.pad(copy.hu, wide, constant_values=-1000)
    copy.lungs = np.pad(copy.lungs, wide)
    y, x = np.ogrid[: copy.hu.shape[1], : copy.hu.shape[2]]
    middle = float(rows.mean())
    arms = copy.hu.copy()
    for centre in (columns[0] + extra - 42.0 / copy.spacing[2], columns[-1] + extra + 42.0 / copy.spacing[2]):
        radius = np.hypot((y - middle) * copy.spacing[1], (x - centre) * copy.spacing[2])
        for within, hu in ((46.0, -80.0), (40.0, 50.0), (12.0, 600.0), (7.0, 100.0)):
            arms[:, radius < within] = hu
    copy.hu = np.where(copy.hu < -900, arms, copy.hu)
    add_noise(copy, 15.0, 1.0)


def with_abdomen(copy: Copy) -> None:
    """Three hundred millimetres of abdomen below, made of the lowest slice without lung, with gas in the bowel."""
    below = np.flatnonzero(copy.lungs.any(axis=(1, 2)))[0] - 1
    if below < 2:
        raise NotApplicableError
    count = round(300.0 / copy.spacing[0])
    block = np.repeat(copy.hu[0:1], count, axis=0)
    body = ndimage.binary_fill_holes(copy.hu[0] > -300)
    inside = ndimage.binary_erosion(body, iterations=max(1, round(20.0 / copy.spacing[1])))
    block[:, inside & (copy.hu[0] < -300)] = 40  # lung or gas in that slice
    z, y, x = np.ogrid[:count, : block.shape[1], : block.shape[2]]
    places = np.argwhere(inside)
    for _ in range(14):
        centre = (copy.rng.uniform(0.05, 0.98) * count, *places[copy.rng.integers(len(places))])
        radii = copy.rng.uniform((12.0, 10.0, 12.0), (30.0, 24.0, 55.0))
        gone = sum(((g - c) * s / r) ** 2 for g, c, s, r in zip((z, y, x), centre, copy.spacing, radii, strict=True))
        block[(gone < 1) & inside] = -1000
    copy.hu = np.concatenate([block, copy.hu])
    copy.lungs = np.concatenate([np.zeros(block.shape, dtype=np.uint8), copy.lungs])
    add_noise(copy, 15.0, 1.0)


def with_cavities(copy: Copy) -> None:
    """Two cavities of 50 and 30 mm with walls of 4 mm, in the upper right and the middle left lung."""
    hu = copy.hu.copy()
    for side, height, radius in ((Mask.RIGHT, 0.75, 25.0), (Mask.LEFT, 0.5, 15.0)):
        part = copy.lungs == side
        if not part.any():
            continue
        heights = np.flatnonzero(part.any(axis=(1, 2)))
        z0 = int(heights[0] + height * len(heights))
        y0, x0 = np.argwhere(part[z0]).mean(axis=0)
        z, y, x = np.ogrid[: hu.shape[0], : hu.shape[1], : hu.shape[2]]
        away = np.sqrt(sum(((g - c) * s) ** 2 for g, c, s in zip((z, y, x), (z0, y0, x0), copy.spacing, strict=True)))
        hu[(away < radius) & part] = 30
        hu[(away < radius - 4) & part] = -1000
    copy.hu = hu
    add_noise(copy, 15.0, 1.0)


def thin(copy: Copy) -> None:
    """A thin patient: the outer layers of the body gone down to 9 mm from the lungs."""
    step = max(1, round(3.0 / copy.spacing[1]))
    thinned = (slice(None), slice(None, None, step), slice(None, None, step))
    size = (copy.spacing[0], copy.spacing[1] * step, copy.spacing[2] * step)
    near = np.empty(copy.lungs[thinned].shape, dtype=bool)
    outside = np.empty_like(near)
    for k, (lungs, hu) in enumerate(zip(copy.lungs[thinned] > 0, copy.hu[thinned], strict=True)):
        filled = ndimage.binary_fill_holes(hu > -400)
        near[k] = ndimage.distance_transform_edt(~lungs, size[1:]) < 9.0 if lungs.any() else True
        outside[k] = ndimage.distance_transform_edt(filled, size[1:]) < 28.0
    gone = np.repeat(np.repeat(outside & ~near, step, axis=1), step, axis=2)
    gone = gone[:, : copy.hu.shape[1], : copy.hu.shape[2]]
    copy.hu = np.where(gone, np.float32(-1000), copy.hu)
    add_noise(copy, 15.0, 1.0)


class NotApplicableError(Exception):
    """This scan cannot be altered so."""


CASES: dict[str, Callable[[Copy], None]] = {
    "noise": noisy,
    "sharp kernel": sharp,
    "blur": blurred,
    "5 mm slices": thick_slices,
    "narrow field": narrow_field,
    "cut base": cut_base,
    "arms": with_arms,
    "abdomen": with_abdomen,
    "cavities": with_cavities,
    "thin": thin,
}


def altered(volume: Volume, lungs: Mask, case: str, seed: int, spacing: float) -> tuple[Volume, Mask]:
    """A warped and altered copy of a scan with its true lungs. Raises `NotApplicableError`."""
    rng = np.random.default_rng([zlib.crc32(case.encode()), seed])
    warped = warp_scan(volume, lungs, spacing, rng)
    z, y, x = warped.frame.spacing[2], warped.frame.spacing[1], warped.frame.spacing[0]
    copy = Copy(warped.hu, warped.lungs, (z, y, x), rng)
    CASES[case](copy)
    array = np.clip(np.rint(copy.hu), -1024, 3071).astype(np.int16)
    frame = Frame(array.shape, (copy.spacing[2], copy.spacing[1], copy.spacing[0]), warped.frame.origin)
    return Volume(array, frame, source=case), Mask(copy.lungs, frame)


def compare(volume: Volume, truth: Mask) -> tuple[dict[str, Any], Mask | None]:
    """Dice and volume of the lungs found against the truth."""
    started = time.process_time()
    try:
        found = segment_lungs(volume, "threshold").mask
    except UserError as error:
        return {"dice": 0.0, "ratio": 0.0, "passed": False, "refused": str(error)}, None
    both = np.count_nonzero(found.lungs & truth.lungs)
    own, true = int(np.count_nonzero(found.lungs)), int(np.count_nonzero(truth.lungs))
    dice, ratio = 2 * float(both) / (own + true), float(own) / true
    figures = {
        "dice": dice,
        "ratio": ratio,
        "passed": bool(dice >= DICE and abs(ratio - 1) <= VOLUME),
        "litres": own * volume.frame.voxel_volume / 1e6,
        "seconds": time.process_time() - started,
    }
    return figures, found


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per scan, case and warp."""
    for row in read_cohort(options.cohort).rows:
        if options.only and row.subject_id not in options.only:
            continue
        volume = axis_aligned(read_volume(row.image))
        lungs = segment_lungs(volume, "threshold").mask
        for case in options.cases:
            for warp in range(options.warps):
                try:
                    scan, truth = altered(volume, lungs, case, warp, options.spacing)
                except NotApplicableError:
                    continue
                figures, found = compare(scan, truth)
                if options.pictures and not figures["passed"]:
                    draw(options.pictures, f"{row.subject_id} {case} {warp}", scan, truth, found)
                yield {"scan": row.subject_id, "case": case, "warp": warp, **figures}


def draw(folder: Path, name: str, scan: Volume, truth: Mask, found: Mask | None) -> None:
    """Slices of a copy that failed, the truth in green and what was found in red."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(16, 9), dpi=70)
    FigureCanvasAgg(figure)
    place = [np.flatnonzero(truth.lungs.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    axes = figure.subplots(2, 4)
    for column, part in enumerate((0.15, 0.4, 0.65, 0.85)):
        for row, axis in ((0, 0), (1, 1)):
            index = int(place[axis][0] + part * (place[axis][-1] - place[axis][0]))
            shown = axes[row][column]
            shown.imshow(np.take(scan.array, index, axis), cmap="gray", vmin=-1100, vmax=300, aspect="auto",
                         origin="upper" if axis == 0 else "lower")  # fmt: skip
            for mask, colour in ((truth, "lime"), (found, "red")):
                plane = None if mask is None else np.take(mask.lungs, index, axis)
                if plane is not None and plane.any():
                    shown.contour(plane, levels=[0.5], colors=colour, linewidths=0.8)
            shown.axis("off")
    figure.suptitle(name)
    figure.tight_layout()
    figure.savefig(folder / f"{name.replace(' ', '_')}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path, help="cohort table of real scans")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="these scans only")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--warps", type=int, default=1, help="copies for each case")
    parser.add_argument("--spacing", type=float, default=2.0, help="finest voxels of the copies, mm")
    parser.add_argument("--json", type=Path, help="write every row to this file")
    parser.add_argument("--pictures", type=Path, help="write pictures of the copies that fail to this folder")
    options = parser.parse_args()
    found = []
    for row in rows(options):
        found.append(row)
        verdict = "" if row["passed"] else f"  FAILED {row.get('refused', '')}"
        about = f"{row['scan']:10s} {row['case']:13s} {row['warp']}"
        print(f"{about}  Dice {row['dice']:.3f}  volume {row['ratio']:.3f}{verdict}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(
        "\n| case | copies | passed | Dice, mean | least | volume error, mean | most |\n|---|---|---|---|---|---|---|"
    )
    for case in options.cases:
        same = [row for row in found if row["case"] == case]
        if same:
            dice = np.array([row["dice"] for row in same])
            error = 100 * np.abs(np.array([row["ratio"] for row in same]) - 1)
            counts = f"{len(same)} | {sum(row['passed'] for row in same)}"
            errors = f"{error.mean():.1f} % | {error.max():.1f} %"
            print(f"| {case} | {counts} | {dice.mean():.3f} | {dice.min():.3f} | {errors} |")


if __name__ == "__main__":
    main()
