"""Parametric response mapping where the breathing is real and the densities are known.

    python benchmarks/response_on_breaths.py DATA OUT

DATA holds for each pair the masks ``NAME_exp_lungs.nii.gz`` and ``NAME_insp_lungs.nii.gz`` and the expert landmarks
``NAME_exp_landmarks_lps_mm.csv`` and ``NAME_insp_landmarks_lps_mm.csv`` (x, y, z, row by row the same point). Patches
of emphysema and of trapped gas are drawn into the lungs at inspiration and carried to expiration by a thin-plate spline
through the landmarks, which the commands do not see. Printed for each size of patch: true and found shares of the lung.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RBFInterpolator

import anatograph
from anatograph.imaging.volume import Mask

Array = NDArray[np.float64]
CLASSES = ("normal", "fsad", "emphysema")
INSPIRATION_HU, EXPIRATION_HU = np.array([-880.0, -880.0, -985.0]), np.array([-740.0, -895.0, -970.0])
SHARES = (0.75, 0.15, 0.10)
"""Shares of the classes at inspiration."""
TURN = np.array([-1.0, -1.0, 1.0])
"""The headers of these masks exchange front and back, and left and right, as the quality check of a study says."""
NOISE_HU, WALL_MM, TISSUE_HU, AIR_HU = 15.0, 15.0, 40.0, -1000.0


def turned(lungs: Mask) -> Mask:
    """The mask of an upright frame turned by half a turn about S."""
    frame = lungs.frame
    x, y = (-(frame.origin[k] + (frame.shape[2 - k] - 1) * frame.spacing[k]) for k in (0, 1))
    return Mask(np.ascontiguousarray(lungs.array[:, ::-1, ::-1]), replace(frame, origin=(x, y, frame.origin[2])))


def drawn_classes(lungs: Mask, patch_mm: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Number in `CLASSES` of every voxel: a smooth random field whose patches are about ``patch_mm`` wide, cut into
    emphysema, trapped gas around it, and normal lung, by the shares within the lungs."""
    sigma = [patch_mm / 4 / step for step in lungs.frame.spacing[::-1]]
    field = ndimage.gaussian_filter(random.normal(size=lungs.array.shape), sigma)
    cuts = np.quantile(field[lungs.lungs], np.cumsum(SHARES)[:-1])
    return np.digitize(field, cuts)


def counterparts(expiration: Mask, points_exp: Array, points_insp: Array) -> Array:
    """(n, 3) places in the inspiratory scan of the lung voxels at expiration, by the landmarks."""
    z, y, x = np.nonzero(expiration.lungs)
    places = expiration.frame.to_lps(np.stack([x, y, z], axis=1).astype(np.float64))
    return places + RBFInterpolator(points_exp, points_insp - points_exp)(places)


def write(path: Path, lungs: Mask, hu_inside: Array, random: np.random.Generator) -> None:
    """A scan: the densities (n,) in the lungs, a wall of soft tissue around them, air outside."""
    import SimpleITK as sitk

    wall = ndimage.distance_transform_edt(~lungs.lungs, sampling=lungs.frame.spacing[::-1]) < WALL_MM
    array = np.where(wall, TISSUE_HU, AIR_HU)
    array[lungs.lungs] = hu_inside
    array += random.normal(0, NOISE_HU, array.shape)
    for folder, values in (("image", np.rint(array).astype(np.int16)), ("lungs", lungs.array.astype(np.uint8))):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(lungs.frame.spacing)
        image.SetOrigin(lungs.frame.origin)
        sitk.WriteImage(image, str(path / f"{folder}.nii.gz"), True)


def draw_pair(data: Path, name: str, patches: list[int], out: Path) -> list[dict[str, object]]:
    """Two rows of the cohort table for each size of patch, with the true shares at expiration."""
    sides = ("insp", "exp")
    masks = {breath: turned(anatograph.read_mask(data / f"{name}_{breath}_lungs.nii.gz")) for breath in sides}
    points = {
        breath: pd.read_csv(data / f"{name}_{breath}_landmarks_lps_mm.csv").to_numpy(np.float64) * TURN
        for breath in sides
    }
    place = masks["insp"].frame.to_index(counterparts(masks["exp"], points["exp"], points["insp"])).T[::-1]
    rows: list[dict[str, object]] = []
    for patch_mm in patches:
        random = np.random.default_rng(patch_mm)
        number = drawn_classes(masks["insp"], patch_mm, random)
        carried = ndimage.map_coordinates(number, place, order=0, mode="nearest")
        inside = {"insp": INSPIRATION_HU[number[masks["insp"].lungs]], "exp": EXPIRATION_HU[carried]}
        true = dict(zip(CLASSES, np.bincount(carried, minlength=3) / len(carried), strict=True))
        for breath, mask in masks.items():
            folder = out / f"{name}-{patch_mm}-{breath}"
            folder.mkdir(parents=True, exist_ok=True)
            write(folder, mask, inside[breath], random)
            rows.append({"subject_id": folder.name, "image": folder / "image.nii.gz", "lungs": folder / "lungs.nii.gz",
                         "pair": f"{name}-{patch_mm}", "patch_mm": patch_mm, "breath": breath, **true})  # fmt: skip
    return rows


def main() -> None:
    """Draw the pairs, map them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patches", type=int, nargs="+", default=[30], help="width in mm")
    chosen = parser.parse_args()
    out = chosen.out.resolve()
    names = sorted(path.name[: -len("_exp_lungs.nii.gz")] for path in chosen.data.glob("*_exp_lungs.nii.gz"))
    cohort = out / "cohort.csv"
    if not cohort.is_file():
        drawn = [row for name in names for row in draw_pair(chosen.data, name, chosen.patches, out)]
        pd.DataFrame(drawn).to_csv(cohort, index=False)
    anatograph.preprocess(cohort, out / "study", lungs="given")
    found = anatograph.densitometry(
        out / "study", out / "densitometry.parquet", cohort=cohort, pair_by="pair", breath="breath"
    )
    assert found.pairs is not None
    assert len(found.pairs), found.account.failures
    table = found.pairs.merge(pd.read_csv(cohort), on="subject_id")
    print(f"{len(table)} pairs; counterpart inside the lungs: {table['prm_inside'].mean():.2f} on average\n")
    print("| patches, mm | class | true, % | found, % | error, mean | error, largest |\n|---|---|---|---|---|---|")
    for patch, rows in table.groupby("patch_mm"):
        for name in CLASSES:
            true, measured = 100 * rows[name], 100 * rows[f"whole_prm_{name}"]
            error = (measured - true).abs()
            said = f"{true.mean():.1f} | {measured.mean():.1f} | {error.mean():.1f} | {error.max():.1f}"
            print(f"| {patch} | {name} | {said} |")
        print(f"| {patch} | emptying emphysema | 0 | {100 * rows['whole_prm_emptying_emphysema'].mean():.1f} | | |")


if __name__ == "__main__":
    main()
