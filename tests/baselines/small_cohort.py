"""A small cohort with holes in its lungs: the share of holes is what every method should find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from anatograph.anatomy.atlas import Atlas, build_atlas
from anatograph.imaging.volume import Frame, Mask

SUBJECTS = 18
SHAPE, SPACING = (44, 50, 70), 5.0
HOLE, TISSUE = -990.0, -800.0


def scan_and_mask(seed: int, share: float) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """HU (z, y, x) of a trunk whose lungs are holes to this share, and the lungs: 1 right (at small x), 2 left."""
    random = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in SHAPE), indexing="ij")
    hu = np.where(((x - 35) / 32) ** 2 + ((y - 25) / 22) ** 2 < 1, 40.0, -1000.0)
    lungs = np.zeros(SHAPE, dtype=np.uint8)
    size = 1 + 0.05 * random.uniform(-1, 1, 3)
    for label, middle in ((1, 20.0), (2, 50.0)):
        inside = ((x - middle) / (10 * size[0])) ** 2 + ((y - 25) / (15 * size[1])) ** 2
        lungs[inside + ((z - 22) / (18 * size[2])) ** 2 < 1] = label
    texture = ndimage.gaussian_filter(random.normal(size=SHAPE), 1.0)
    hu[lungs > 0] = TISSUE
    if share > 0:
        hu[(lungs > 0) & (texture < np.quantile(texture[lungs > 0], share))] = HOLE
    hu += random.normal(0, 10, SHAPE)
    return np.clip(np.rint(hu), -1024, None).astype(np.int16), lungs


def write_image(array: NDArray[np.generic], path: Path, seed: int) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((SPACING,) * 3)
    image.SetOrigin((-170.0 + seed, -120.0, -90.0))
    sitk.WriteImage(image, str(path))


def write_small_cohort(folder: Path) -> Path:
    """Scans, masks and ``cohort.csv``: ``holes`` (0 to 0.5), ``sick`` (more than 0.25), ``patchy`` (not of all)."""
    shares = np.random.default_rng(0).permutation(np.linspace(0, 0.5, SUBJECTS))
    rows = []
    for k, share in enumerate(shares):
        hu, lungs = scan_and_mask(k, float(share))
        write_image(hu, folder / f"{k}.nii.gz", k)
        write_image(lungs, folder / f"{k}_lungs.nii.gz", k)
        rows.append(
            {
                "subject_id": f"p{k:02d}",
                "image": f"{k}.nii.gz",
                "lungs": f"{k}_lungs.nii.gz",
                "holes": round(float(share), 4),
                "sick": "sick" if share > 0.25 else "well",
                "patchy": None if k % 6 == 0 else round(float(share), 4),
            }
        )
    pd.DataFrame(rows).to_csv(folder / "cohort.csv", index=False)
    return folder / "cohort.csv"


def small_atlas() -> Atlas:
    _, lungs = scan_and_mask(100, 0.0)
    return build_atlas(Mask(lungs, Frame(SHAPE, (SPACING,) * 3, (0.0, 0.0, 0.0))), patch_size=16, step=30)
