"""The folder of a synthetic cohort: claimed by its account, filled subject by subject, summed up in a table."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.execution.files import write_text
from anatograph.execution.folders import claim_folder
from anatograph.imaging.volume import Frame
from anatograph.limits import read_json
from anatograph.phantoms.events import follow_from_first_visit
from anatograph.phantoms.settings import PhantomSettings

GENERATOR = 2
"""Version of the generator: equal versions, seeds and settings give equal subjects. Version 1 drew all emphysema in the
upper lobes and all ground glass at the periphery of the bases."""
_ACCOUNT = "phantom.json"
_TRUTH = "truth.json"


def plain_settings(settings: PhantomSettings) -> dict[str, Any]:
    """Settings as JSON holds them."""
    result: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return result


def claim_cohort(folder: Path, account: dict[str, Any]) -> None:
    """Claim ``folder`` for the cohort that ``account`` describes; UserError if it holds something else."""
    claim_folder(folder, _ACCOUNT, {"generator": GENERATOR, **account}, "a phantom cohort")


def described(folder: Path) -> tuple[str, bool]:
    """Of a folder with a phantom cohort, what its scans are, as a phrase, and whether all of them are synthetic.

    The phrase is empty where the folder holds something else.

    Raises:
        OSError: the account of the cohort cannot be read.
        ValueError: it is not JSON.
    """
    if not (folder / _ACCOUNT).is_file():
        return "", False
    account = read_json(folder / _ACCOUNT)
    settings = account.get("settings", {})
    if account.get("onto"):
        return f"half-real: disease drawn into real scans (seed {account.get('seed')})", False
    if ranges := settings.get("ranges"):
        drawn = "scanners drawn at random, slices of {:g} to {:g} mm, noise of {:g} to {:g} HU".format(
            *ranges["slice_mm"], *ranges["noise_hu"]
        )
    else:
        drawn = "scanners " + ", ".join(str(one["site"]) for one in settings.get("scanners", []))
    return f"synthetic phantoms (generator {account.get('generator')}, seed {account.get('seed')}; {drawn})", True


def is_complete(folder: Path, name: str) -> bool:
    """Whether the cohort in ``folder`` holds the subject called ``name``."""
    return (folder / "subjects" / name / _TRUTH).is_file()


@contextmanager
def subject_folder(folder: Path, name: str) -> Iterator[Path]:
    """An empty folder to fill with a subject's files; on leaving without an error it takes its place in the cohort."""
    home = folder / "subjects" / name
    building = home.with_name(f".{name}.part")
    shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
    building.mkdir(parents=True)
    yield building
    building.rename(home)


def write_truth(building: Path, row: dict[str, Any], **truth: Any) -> None:
    """Write the subject's row of the table, and everything else that is true about it."""
    text = json.dumps({"row": row, **truth}, indent=1)
    (building / _TRUTH).write_text(text, encoding="utf-8")


def write_masks(building: Path, masks: dict[str, NDArray[np.uint8]], frame: Frame) -> dict[str, str]:
    """Write true masks (z, y, x); return their columns, relative to the cohort."""
    for name, mask in masks.items():
        write_nifti(mask, frame, building / f"{name}.nii.gz")
    home = Path("subjects") / building.name.removeprefix(".").removesuffix(".part")
    return {f"{name}_mask": str(home / f"{name}.nii.gz") for name in masks}


def write_nifti(array: NDArray[np.generic], frame: Frame, path: Path) -> None:
    """Write an array (z, y, x) on ``frame`` as .nii.gz with fast compression; equal arrays give equal bytes."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(frame.spacing)
    image.SetOrigin(frame.origin)
    image.SetDirection(tuple(frame.direction.ravel()))
    plain = path.with_name(path.name.removesuffix(".gz"))
    sitk.WriteImage(image, str(plain))
    with plain.open("rb") as source, path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:
        shutil.copyfileobj(source, packed, 1 << 20)
    plain.unlink()


def write_table(folder: Path, names: list[str]) -> Path:
    """Write ``cohort.csv`` with the rows of the subjects named, in their order."""
    import pandas as pd

    texts = [(folder / "subjects" / name / _TRUTH).read_text(encoding="utf-8") for name in names]
    rows = [json.loads(text)["row"] for text in texts]
    follow_from_first_visit(rows)
    path = folder / "cohort.csv"
    write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    return path
