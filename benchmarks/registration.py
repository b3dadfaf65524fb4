"""Landmark errors and times of registration: maps known by construction, and pairs of breaths with expert landmarks.

    OMP_NUM_THREADS=1 python benchmarks/registration.py DATA [--methods affine ants-syn] [--synthetic 10] [--json OUT]

DATA holds ``atlas_lungs.nii.gz`` and, for each pair, ``NAME_exp_lungs.nii.gz``, ``NAME_insp_lungs.nii.gz`` and
``NAME_exp_landmarks_lps_mm.csv``, ``NAME_insp_landmarks_lps_mm.csv`` (x, y, z; corresponding rows are the same
point). The expiratory scan serves as the atlas. Times are CPU seconds of this process and the one that ANTs runs in, on
one thread.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from anatograph.anatomy.atlas import Atlas, build_atlas
from anatograph.anatomy.registration import AffineMap, register
from anatograph.imaging.reading import read_mask
from anatograph.imaging.volume import Frame, Mask


def cpu_seconds() -> float:
    """User time of this process and its children."""
    return sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(atlas: Atlas, lungs: Mask, method: str, points: np.ndarray, goals: np.ndarray) -> dict[str, Any]:
    started = cpu_seconds()
    result = register(atlas, lungs, method)
    seconds = cpu_seconds() - started
    errors = np.linalg.norm(result.map.to_subject(points) - goals, axis=1)
    return {
        "method": method,
        "error_mm": float(errors.mean()),
        "error_max_mm": float(errors.max()),
        "cpu_s": seconds,
        **result.quality,
        "notes": list(result.notes),
    }


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


def rows(data: Path, methods: list[str], count: int) -> Iterator[dict[str, Any]]:
    if count:
        atlas = build_atlas(read_mask(data / "atlas_lungs.nii.gz"))
        for seed in range(count):
            lungs, truth = synthetic(atlas, seed)
            goals = truth.to_subject(atlas.landmarks)
            yield {"case": f"synthetic {seed}", **measure(atlas, lungs, "affine", atlas.landmarks, goals)}
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
        yield {"case": case, "method": "nothing", "error_mm": nothing}
        yield {"case": case, "method": "best affine", "error_mm": float(np.linalg.norm(best - goals, axis=1).mean())}
        for method in methods:
            yield {"case": case, **measure(atlas, lungs, method, points, goals)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--methods", nargs="+", default=["affine"], choices=["affine", "ants-affine", "ants-syn"])
    parser.add_argument("--synthetic", type=int, default=10, help="number of maps known by construction")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    options = parser.parse_args()
    found = []
    for row in rows(options.data, options.methods, options.synthetic):
        found.append(row)
        seconds = f"{row['cpu_s']:8.1f} s" if "cpu_s" in row else ""
        dice = f"  Dice {row['dice']:.3f}" if "dice" in row else ""
        print(f"{row['case']:14s} {row['method']:12s} {row['error_mm']:7.3f} mm {seconds}{dice}", flush=True)
    for method in dict.fromkeys(row["method"] for row in found):
        for kind in ("synthetic", "pairs"):
            of = [
                r["error_mm"] for r in found if r["method"] == method and (kind in r["case"]) == (kind == "synthetic")
            ]
            if of:
                print(f"mean of {kind:12s} {method:12s} {np.mean(of):7.3f} mm ({len(of)})")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
