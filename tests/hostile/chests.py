"""Scans that can be read, and are not a whole chest the right way up."""

# ruff: noqa: E501 - what the user sees stands here as one line
from __future__ import annotations

from pathlib import Path

import numpy as np

from anatograph.imaging.volume import Frame, Mask
from hostile.case import case
from hostile.material import person, save


def _grid(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z, y, x = np.meshgrid(*(np.arange(n) * 4.0 - (n - 1) * 2 for n in shape), indexing="ij")
    return z, y, x


def _noisy(hu: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 15, hu.shape)
    return np.clip(np.rint(hu + noise), -1024, 3000).astype(np.int16)


@case(
    "CT of a head",
    "No lungs were found in SCAN: the air inside the body does not look like lung. Check that the scan covers the chest, or give a lung mask.",
    "chest",
)
def head(folder: Path) -> Path:
    z, y, x = _grid((60, 70, 60))
    r = (x / 75) ** 2 + (y / 95) ** 2 + (z / 100) ** 2
    hu = np.select([r < 0.8, r < 0.92, r < 1], [35.0, 900.0, 40.0], -1000.0)
    for cx, cy, cz, rx, ry, rz in (  # sinuses, cells of the mastoids, pharynx
        (-20, -60, -40, 14, 12, 16), (20, -60, -40, 14, 12, 16), (0, -70, 20, 18, 6, 10), (-55, 10, -40, 8, 8, 14),
        (55, 10, -40, 8, 8, 14), (0, -40, -60, 8, 20, 40),
    ):  # fmt: skip
        hu[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1] = -950
    return save(folder, _noisy(hu), Frame(hu.shape, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))


@case(
    "CT of an abdomen, with gas in the bowel",
    "level reject, flagged: …the map of the atlas folds (Jacobian …)…",
    "chest",
)
def abdomen(folder: Path) -> Path:
    z, y, x = _grid((70, 60, 88))
    r = (x / 165) ** 2 + (y / 112) ** 2
    hu = np.select([r < 0.8, r < 1], [45.0, -100.0], -1000.0)
    hu[(x / 18) ** 2 + ((y - 60) / 18) ** 2 < 1] = 300
    rng = np.random.default_rng(0)
    for _ in range(14):
        cx, cy, cz, size = rng.uniform(-100, 100), rng.uniform(-60, 10), rng.uniform(-120, 120), rng.uniform(12, 30)
        hu[((x - cx) / size) ** 2 + ((y - cy) / size) ** 2 + ((z - cz) / (1.5 * size)) ** 2 < 1] = -980
    return save(folder, _noisy(hu), Frame(hu.shape, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0)))


@case(
    "CT of an abdomen that shows the bases of the lungs",
    "Only … landmarks lie inside the scan, which shows too little of the lungs (an abdomen or a neck, or lungs cut short); use a scan of the whole chest.",
    "chest",
)
def bases(folder: Path) -> Path:
    array = person().volume.array
    return save(folder, array[: len(array) // 3])


@case("the top of the lungs not in the scan", "usable, flagged: …the top of the lungs is not in the scan…", "chest")
def no_top(folder: Path) -> Path:
    array = person().volume.array
    return save(folder, array[: round(0.75 * len(array))])


@case(
    "a field of view narrower than the lungs", "usable, flagged: …the sides of the lungs are outside the scan…", "chest"
)
def narrow(folder: Path) -> Path:
    array = person().volume.array
    columns = np.flatnonzero((person().lungs.array > 0).any(axis=(0, 1)))
    return save(folder, array[:, :, columns[0] + 4 :])


@case("one lung (after pneumonectomy, or full of fluid)", "usable, flagged: …one lung is missing…", "chest")
def one_lung(folder: Path) -> Path:
    array = np.where(person().lungs.array == Mask.LEFT, 25, person().volume.array)
    return save(folder, array)


@case(
    "both lungs without air",
    "No lungs were found in SCAN: the air inside the body does not look like lung. Check that the scan covers the chest, or give a lung mask.",
    "chest",
)
def no_air(folder: Path) -> Path:
    return save(folder, np.where(person().lungs.array > 0, 30, person().volume.array))


@case(
    "upside down: the header has head and foot exchanged",
    "level reject, flagged: …the lungs fit the atlas better upside down (Dice …, not …)…",
    "chest",
)
def upside_down(folder: Path) -> Path:
    return save(folder, person().volume.array[::-1])


@case(
    "back to front: the header has front and back exchanged",
    "level reject, flagged: …the spine lies in front of the lungs, so the scan seems flipped…",
    "chest",
)
def turned(folder: Path) -> Path:
    return save(folder, person().volume.array[:, ::-1])


@case(
    "turned about the long axis (a prone scan labelled supine)",
    "level reject, flagged: …the spine lies in front of the lungs, so the scan seems flipped…",
    "chest",
)
def rolled(folder: Path) -> Path:
    return save(folder, person().volume.array[:, ::-1, ::-1])


@case(
    "left and right exchanged",
    "usable, flagged: …the heart lies to the right of the spine: mirrored or turned, unless dextrocardia…",
    "chest",
)
def exchanged(folder: Path) -> Path:
    return save(folder, person().volume.array[:, :, ::-1])


@case("contrast agent in the vessels", "usable, noted: …the scan seems contrast-enhanced…", "chest")
def enhanced(folder: Path) -> Path:
    array = person().volume.array
    return save(folder, np.where((array > 10) & (array < 90) & (person().lungs.array == 0), array + 150, array))


@case("a metal implant", "usable, noted: …ml of metal in the scan…", "chest")
def metal(folder: Path) -> Path:
    array = person().volume.array.copy()
    y, x = (n // 2 for n in array.shape[1:])
    array[30:60, y + 14 : y + 17, x - 1 : x + 2] = 3071
    return save(folder, array)


@case("a field of view of more than a metre", "usable", "chest")
def wide(folder: Path) -> Path:
    array = person().volume.array
    side = [(260 - n) // 2 for n in array.shape[1:]]
    return save(folder, np.pad(array, ((0, 0), *((n, n) for n in side)), constant_values=-1000))


@case("slices 8 mm apart", "usable, noted: slices 8 mm apart", "chest")
def thick(folder: Path) -> Path:
    frame = person().volume.frame
    return save(folder, person().volume.array[::2], Frame(frame.shape, (4.0, 4.0, 8.0), frame.origin))


@case("1,500 slices of 0.25 mm", "usable…", "chest")
def thin(folder: Path) -> Path:
    frame = person().volume.frame
    array = np.repeat(person().volume.array, 16, axis=0)[-1500:]
    return save(folder, array, Frame(frame.shape, (4.0, 4.0, 0.25), frame.origin))


@case("a phantom at 4 mm, nothing odd", "usable", "chest")
def plain(folder: Path) -> Path:
    return save(folder, person().volume.array)
