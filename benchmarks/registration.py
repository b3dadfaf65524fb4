"""Landmark errors, overlap and times of registration: known maps, breathing pairs, real scans and phantoms.

    OMP_NUM_THREADS=1 python benchmarks/registration.py [--pairs DATA] [--scans COHORT] [--phantoms 12] [--synthetic 10]
        [--methods affine deformable ants-syn] [--json OUT]

DATA holds for each pair the masks ``NAME_exp_lungs.nii.gz`` and ``NAME_insp_lungs.nii.gz`` and the landmarks
``NAME_exp_landmarks_lps_mm.csv`` and ``NAME_insp_landmarks_lps_mm.csv`` (x, y, z, row by row the same point); the
expiration scan plays the atlas. COHORT is a cohort table; its lungs are given or found, and the built-in atlas is
mapped onto them. Phantoms are compared with their truth in two ways, see `relative`. Times are CPU seconds of this
process and the one that ANTs runs in, on one thread.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from anatograph.anatomy.atlas import Atlas, build_atlas, default_atlas
from anatograph.anatomy.registration import METHODS, AffineMap, register
from anatograph.errors import UserError
from anatograph.imaging.lungs import segment_lungs
from anatograph.imaging.reading import read_mask, read_volume
from anatograph.imaging.resample import axis_aligned
from anatograph.imaging.volume import Frame, Mask
from anatograph.phantoms.raster.grid import rotation_matrix
from anatograph.phantoms.settings import PhantomSettings
from anatograph.phantoms.subject import make_subject
from anatograph.phantoms.thorax.shape import BASE, LUNG_HEIGHT, Thorax
from anatograph.study.cohort.table import read_cohort

Row = dict[str, Any]


def cpu_seconds() -> float:
    """User time of this process and its children."""
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(atlas: Atlas, lungs: Mask, method: str, points: np.ndarray, goals: dict[str, np.ndarray]) -> Row:
    """Figures of one registration; for each truth the mean distance in mm of mapped ``points`` from it."""
    started = cpu_seconds()
    try:
        result = register(atlas, lungs, method)
    except UserError as error:
        return {"method": method, "refused": str(error)}
    seconds = cpu_seconds() - started
    mapped = result.map.to_subject(points)
    errors = {name: float(np.linalg.norm(mapped - goal, axis=1).mean()) for name, goal in goals.items()}
    return {"method": method, **errors, "cpu_s": seconds, **result.quality, "notes": list(result.notes)}


def synthetic(atlas: Atlas, seed: int) -> tuple[Mask, AffineMap]:
    """The atlas mask after a random affine map about its centre: entries within 6 %, shifts within 25 mm."""
    rng = np.random.default_rng(seed)
    matrix = np.eye(3) + rng.uniform(-0.06, 0.06, (3, 3))
    middle = atlas.landmarks.mean(axis=0)
    truth = AffineMap(matrix, middle + rng.uniform(-25, 25, 3) - matrix @ middle)
    frame, margin = atlas.lungs.frame, 60
    image = sitk.GetImageFromArray(atlas.lungs.lungs.astype(np.uint8))
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    origin = tuple(value - margin for value in frame.origin)
    size = [n + 2 * margin for n in image.GetSize()]
    nearest = sitk.sitkNearestNeighbor
    moved = sitk.Resample(
        image, size, truth.to_itk().GetInverse(), nearest, origin, (1, 1, 1), np.eye(3).ravel().tolist(), 0
    )
    array = sitk.GetArrayFromImage(moved)
    return Mask(array, Frame(array.shape, (1.0, 1.0, 1.0), origin)), truth


def synthetic_rows(count: int) -> Iterator[Row]:
    atlas = default_atlas()
    for seed in range(count):
        lungs, truth = synthetic(atlas, seed)
        goals = {"error_mm": truth.to_subject(atlas.landmarks)}
        yield {"kind": "synthetic", "case": str(seed), **measure(atlas, lungs, "affine", atlas.landmarks, goals)}


def pair_rows(data: Path, methods: list[str]) -> Iterator[Row]:
    for path in sorted(data.glob("*_exp_lungs.nii.gz")):
        case = path.name.removesuffix("_exp_lungs.nii.gz")
        atlas = build_atlas(read_mask(path))
        lungs = read_mask(data / f"{case}_insp_lungs.nii.gz")
        points, goals = (
            np.loadtxt(data / f"{case}_{breath}_landmarks_lps_mm.csv", delimiter=",", skiprows=1)
            for breath in ("exp", "insp")
        )
        nothing = float(np.linalg.norm(points - goals, axis=1).mean())
        design = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        best = design @ np.linalg.lstsq(design, goals, rcond=None)[0]
        about = {"kind": "pair", "case": case}
        yield {**about, "method": "identity", "error_mm": nothing}
        yield {**about, "method": "best affine", "error_mm": float(np.linalg.norm(best - goals, axis=1).mean())}
        for method in methods:
            yield {**about, **measure(atlas, lungs, method, points, {"error_mm": goals})}


def scan_rows(table: Path, methods: list[str]) -> Iterator[Row]:
    atlas = default_atlas()
    for row in read_cohort(table).rows:
        volume = axis_aligned(read_volume(row.image))
        lungs = read_mask(row.lungs, like=volume) if row.lungs else segment_lungs(volume).mask
        for method in methods:
            found = measure(atlas, lungs, method, atlas.landmarks, {})
            yield {"kind": "scan", "case": row.subject_id, **found}


def phantom_rows(count: int, methods: list[str]) -> Iterator[Row]:
    atlas = default_atlas()
    inner = atlas.landmarks[atlas.lungs.contains(atlas.landmarks)]
    for index in range(count):
        subject = make_subject(11, index, PhantomSettings(spacing_mm=2.0))
        profile = subject.profile
        matrix = rotation_matrix(profile.rotation_deg) * np.asarray(profile.scale)
        goals = {
            "error_fixed_mm": inner @ matrix.T + profile.shift_mm,
            "error_relative_mm": relative(Thorax(profile.shape), inner) @ matrix.T + profile.shift_mm,
        }
        for method in methods:
            yield {"kind": "phantom", "case": str(index), **measure(atlas, subject.lungs, method, inner, goals)}


def relative(thorax: Thorax, points: np.ndarray) -> np.ndarray:
    """Where places of the average thorax lie in another: at the same part of the way between wall, dome and apex.

    The other truth takes equal thorax coordinates for the same place. Fissures and vessels are drawn at those, while
    chest wall and diaphragm move with the shape, so that the truth of the phantoms lies between the two.
    """

    def parts(thorax: Thorax, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, ...]:
        half, back, front = thorax.wall(z.copy())
        return half, (back + front) / 2, (back - front) / 2, thorax.diaphragm_height(x, y)

    top = BASE + LUNG_HEIGHT
    x, y, z = points.T
    half, middle, depth, dome = parts(Thorax(), x, y, z)
    across, along, up = x / half, (y - middle) / depth, (z - dome) / (top - dome)
    for _ in range(60):
        half, middle, depth, _ = parts(thorax, x, y, z)
        x, y = across * half, middle + along * depth
        dome = parts(thorax, x, y, z)[3]
        z = 0.5 * z + 0.5 * (dome + up * (top - dome))
    return np.stack([x, y, z], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, help="folder of the breathing pairs")
    parser.add_argument("--scans", type=Path, help="cohort table of real scans")
    parser.add_argument("--phantoms", type=int, default=0, help="number of phantoms")
    parser.add_argument("--synthetic", type=int, default=0, help="number of known affine maps")
    parser.add_argument("--methods", nargs="+", default=["affine", "deformable"], choices=METHODS)
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    sources = [synthetic_rows(options.synthetic), phantom_rows(options.phantoms, options.methods)]
    sources += [pair_rows(options.pairs, options.methods)] if options.pairs else []
    sources += [scan_rows(options.scans, options.methods)] if options.scans else []
    found = []
    for row in chain(*sources):
        found.append(row)
        print("  ".join([f"{row['kind']} {row['case']:10s} {row['method']:11s}", *_figures([row])]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("means:")
    for kind, method in dict.fromkeys((row["kind"], row["method"]) for row in found):
        same = [row for row in found if (row["kind"], row["method"]) == (kind, method)]
        print("  ".join([f"{kind} ({len(same)}) {method:11s}", *_figures(same)]))


SHOWN = ("error_mm", "error_fixed_mm", "error_relative_mm", "dice", "landmarks_outside", "inverse_error_mm", "cpu_s")


def _figures(rows: list[Row]) -> list[str]:
    """Means of the figures that all the rows have, in words."""
    shown = [name for name in SHOWN if all(name in row for row in rows)]
    return [f"{name} {np.mean([row[name] for row in rows]):.3f}" for name in shown]


if __name__ == "__main__":
    main()
