"""A synthetic cohort on disk: scans, true masks and the table."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from anatograph.errors import UserError
from anatograph.execution.files import write_text
from anatograph.execution.folders import claim_folder
from anatograph.execution.progress import progress_over
from anatograph.imaging.volume import Frame
from anatograph.phantoms.dicom import write_series
from anatograph.phantoms.settings import PhantomSettings, diseases_of, scanners_of
from anatograph.phantoms.subject import PhantomSubject, make_subject

Format = Literal["nifti", "dicom"]
_VERSION = 1
_ACCOUNT = "phantom.json"


@dataclass(frozen=True)
class _Job:
    out: str
    index: int
    seed: int
    format: Format
    settings: PhantomSettings


def write_cohort(
    out: str | Path,
    subjects: int,
    seed: int = 0,
    format: Format = "nifti",
    workers: int = 1,
    *,
    spacing_mm: float | None = None,
    sites: str | None = None,
    diseases: str | None = None,
    settings: PhantomSettings | None = None,
    progress: bool = True,
) -> Path:
    """Write a synthetic cohort of ``subjects`` subjects into the folder ``out`` and return its ``cohort.csv``.

    A subject depends on ``seed`` and its number alone, not on the size of the cohort or the ``workers``. An
    interrupted cohort continues where it stopped; finished subjects are kept. ``spacing_mm`` draws every scan on
    isotropic voxels of that size; ``sites`` names scanners, as in "A,C"; ``diseases`` names the diseases of the
    diseased, as in "covid"; each overrides ``settings``.

    Raises UserError when ``out`` holds anything other than this cohort, or a number is out of range.
    """
    folder = Path(out)
    if subjects < 1 or subjects > 99_999:
        raise UserError(f"A phantom cohort cannot have {subjects} subjects; choose 1 to 99999.")
    if workers < 1:
        raise UserError(f"{workers} workers cannot draw a cohort; choose at least one.")
    if seed < 0:
        raise UserError(f"The seed {seed} is negative; choose 0 or more.")
    if format not in ("nifti", "dicom"):
        raise UserError(f"Unknown phantom format {format!r}; choose nifti or dicom.")
    settings = settings or PhantomSettings()
    if spacing_mm is not None:
        settings = replace(settings, spacing_mm=spacing_mm)
    if sites is not None:
        settings = replace(settings, scanners=scanners_of(sites))
    if diseases is not None:
        settings = replace(settings, diseases=diseases_of(diseases))
    account = {"version": _VERSION, "seed": seed, "format": format, "settings": _plain(settings)}
    claim_folder(folder, _ACCOUNT, account, "a phantom cohort")

    jobs = [_Job(str(folder), i, seed, format, settings) for i in range(subjects)]
    missing = [job for job in jobs if not (_home(job) / "truth.json").is_file()]
    for _ in progress_over(_run(missing, workers), "phantom", "subject", total=len(missing), shown=progress):
        pass
    return _write_table(folder, jobs)


def subject_name(index: int) -> str:
    """subject_id of subject number ``index``."""
    return f"phantom-{index + 1:04d}"


def _plain(settings: PhantomSettings) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    if result["diseases"] is None:  # accounts of versions without this setting stay valid
        del result["diseases"]
    return result


def _home(job: _Job) -> Path:
    return Path(job.out) / "subjects" / subject_name(job.index)


def _run(jobs: list[_Job], workers: int) -> Iterator[str]:
    if workers == 1 or len(jobs) < 2:
        yield from map(_work, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), maxtasksperchild=20) as pool:
        yield from pool.imap_unordered(_work, jobs)


def _work(job: _Job) -> str:
    """Draw one subject into a temporary folder and rename it when complete."""
    name = subject_name(job.index)
    home = _home(job)
    building = home.with_name(f".{name}.part")
    shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
    building.mkdir(parents=True)
    subject = make_subject(job.seed, job.index, job.settings)
    _write_subject(subject, building, job, name)
    building.rename(home)
    return name


def _write_subject(subject: PhantomSubject, folder: Path, job: _Job, name: str) -> None:
    frame = subject.volume.frame
    relative = Path("subjects") / name
    row: dict[str, Any] = {"subject_id": name}
    if job.format == "nifti":
        write_nifti(subject.volume.array, frame, folder / "image.nii.gz")
        row["image"] = str(relative / "image.nii.gz")
    else:
        key = f"{job.seed}/{job.index}/{json.dumps(_plain(job.settings), sort_keys=True)}"
        profile = subject.profile
        write_series(subject.volume, folder / "dicom", key, name, profile.sex, profile.age, profile.scanner.site)
        row["image"] = str(relative / "dicom")
    write_nifti(subject.lungs.array, frame, folder / "lungs.nii.gz")
    row["lungs"] = str(relative / "lungs.nii.gz")
    row |= subject.variables
    for disease, mask in subject.diseases.items():
        write_nifti(mask, frame, folder / f"{disease}.nii.gz")
        row[f"{disease}_mask"] = str(relative / f"{disease}.nii.gz")
    truth = {"row": row, "person": asdict(subject.profile)}
    (folder / "truth.json").write_text(json.dumps(truth, indent=1), encoding="utf-8")


def write_nifti(array: NDArray[np.generic], frame: Frame, path: Path) -> None:
    """Write an array (z, y, x) on ``frame`` as .nii.gz with fast compression; equal arrays give equal bytes."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    sitk.WriteImage(frame.to_image(array), str(plain))
    with plain.open("rb") as source, path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:
        shutil.copyfileobj(source, packed, 1 << 20)
    plain.unlink()


def _write_table(folder: Path, jobs: list[_Job]) -> Path:
    import pandas as pd

    rows = [json.loads((_home(job) / "truth.json").read_text(encoding="utf-8"))["row"] for job in jobs]
    path = folder / "cohort.csv"
    write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    return path
