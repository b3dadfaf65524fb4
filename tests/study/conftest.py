"""A small atlas, small scans and a small cohort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anatograph.anatomy.atlas import Atlas, build_atlas
from anatograph.imaging.reading import write_mask, write_volume
from anatograph.imaging.volume import Frame, Mask, Volume


def _scan(seed: int = 0, spacing: float = 4.0) -> tuple[Volume, Mask]:
    """A trunk with two ellipsoid lungs, (48, 60, 80) voxels of 4 mm; sizes and texture differ with the seed."""
    rng = np.random.default_rng(seed)
    shape = (48, 60, 80)
    frame = Frame(shape, (spacing,) * 3, (-158.0 + seed, -118.0, -200.0 - seed))
    z, y, x = (np.arange(n, dtype=np.float64)[tuple(slice(None) if k == a else None for k in range(3))] for a, n in
               enumerate(shape))  # fmt: skip
    array = np.full(shape, -1000.0)
    array[np.broadcast_to(((x - 40) / 36) ** 2 + ((y - 30) / 26) ** 2 < 1, shape)] = 40
    size = 1 + 0.1 * rng.uniform(-1, 1, 3)
    labels = np.zeros(shape, dtype=np.uint8)
    for label, centre in ((1, 23.0), (2, 57.0)):
        inside = (
            ((x - centre) / (11 * size[0])) ** 2 + ((y - 30) / (18 * size[1])) ** 2 + ((z - 24) / (20 * size[2])) ** 2
        )
        labels[np.broadcast_to(inside < 1, shape)] = label
    texture = rng.normal(0, 40, shape) + 30 * np.sin(x / 3) * np.cos(z / 4)
    array = np.where(labels > 0, -850 + texture, array + rng.normal(0, 10, shape))
    volume = Volume(np.clip(np.rint(array), -1024, None).astype(np.int16), frame)
    return volume, Mask(labels, frame)


@pytest.fixture(scope="session")
def scan() -> Callable[..., tuple[Volume, Mask]]:
    """Makes a volume and its lungs from a seed."""
    return _scan


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    """About 150 landmarks of 16 mm patches every 24 mm."""
    return build_atlas(_scan(100)[1], patch_size=16, step=24)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scans with masks, and their table."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = ["subject_id,image,lungs,age"]
    for seed in range(6):
        volume, mask = _scan(seed)
        write_volume(folder / f"{seed}.nii.gz", volume)
        write_mask(folder / f"{seed}_lungs.nii.gz", mask)
        rows.append(f"p{seed:02d},{seed}.nii.gz,{seed}_lungs.nii.gz,{50 + seed}")
    path = folder / "cohort.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


Pixels = NDArray[np.int16]
