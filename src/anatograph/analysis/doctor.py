"""Checks of the installation, and of a cohort's scans, before a long run; each finding says how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from anatograph.errors import UserError

GOOD, POOR, BROKEN = 0, 1, 2
_NEEDED = ("torch", "numpy", "scipy", "pandas", "SimpleITK", "scikit-learn", "zarr", "lightning-fabric")
_EXTRAS = (
    ("lungmask", "lungmask", "lungs by the lungmask network"),
    ("totalsegmentator", "totalsegmentator", "lungs by TotalSegmentator"),
    ("ants", "ants", "registration by ANTs"),
    ("dask", "distributed", "many machines"),
    ("report", "plotly", "an interactive map in the report"),
    ("report", "umap", "UMAP in the report"),
)
_MB_A_SUBJECT = 45


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    status: int
    """0 good, 1 usable with a loss (a scan of several, an odd setting), 2 nothing will work."""
    what: str
    """What was found."""
    mend: str = ""
    """What to do about it."""

    def __str__(self) -> str:
        mark = {GOOD: "ok     ", POOR: "look   ", BROKEN: "BROKEN "}[self.status]
        return f"{mark}{self.what}{f' -> {self.mend}' if self.mend else ''}"


def doctor(cohort: str | Path | None = None) -> list[Finding]:
    """Look at the installation, and at every scan of a cohort by its headers, and return what was found.

    Raises:
        UserError: a cohort table that cannot be read.
    """
    found = [*_python(), *_packages(), *_extras(), *_machine(), _round_trip(), _atlas()]
    if cohort is not None:
        found += _cohort(Path(cohort))
    return found


def _python() -> Iterator[Finding]:
    yield Finding(GOOD, f"Python {'.'.join(map(str, sys.version_info[:3]))}")


def _packages() -> Iterator[Finding]:
    for name in _NEEDED:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(BROKEN, f"{name} is missing", "install again with `pip install anatograph`")
            continue
        yield Finding(GOOD, f"{name} {version}")


def _extras() -> Iterator[Finding]:
    for extra, module, what in _EXTRAS:
        if util.find_spec(module) is None:
            yield Finding(GOOD, f"not installed: {what}", f"if wanted, `pip install 'anatograph[{extra}]'`")
        else:
            yield Finding(GOOD, f"installed: {what}")


def _machine() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads > cores:
        yield Finding(POOR, f"torch would use {threads} threads on {cores} cores", f"set OMP_NUM_THREADS={cores}")
    else:
        yield Finding(GOOD, f"{cores} cores, torch uses {threads} threads")
    if torch.cuda.is_available():
        yield Finding(GOOD, f"GPU: {torch.cuda.get_device_name(0)}")
    else:
        yield Finding(GOOD, "no GPU that torch can use: training runs on the processor")
    memory = _memory_gb()
    if memory is not None:
        poor = memory < 4
        mend = "give fewer workers; preprocessing takes up to about 2.5 GB each" if poor else ""
        yield Finding(POOR if poor else GOOD, f"{memory:.1f} GB of memory are free", mend)
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    mend = f"make room; a subject takes up to {_MB_A_SUBJECT} MB" if free < 5 else ""
    yield Finding(POOR if free < 5 else GOOD, f"{free:.0f} GB of disk are free here", mend)


def _memory_gb() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return values[0] / 1e6 if values else None


def _round_trip() -> Finding:
    """Write a small scan and read it back."""
    import numpy as np

    from anatograph.imaging.reading import read_volume
    from anatograph.imaging.volume import Frame, Volume
    from anatograph.imaging.writing import write_volume

    frame = Frame((20, 32, 32), (1.0, 1.0, 2.0), (5.0, -7.0, 11.0))
    array = np.random.default_rng(0).integers(-1000, 400, frame.shape).astype(np.int16)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scan.nii.gz"
            write_volume(path, Volume(array, frame))
            back = read_volume(path)
    except (UserError, OSError, RuntimeError) as error:
        return Finding(BROKEN, f"a scan could not be written and read: {error}", "check the temporary folder (TMPDIR)")
    if not np.array_equal(back.array, array) or not back.frame.same_grid(frame):
        return Finding(BROKEN, "a scan was read other than it was written", "install SimpleITK again")
    return Finding(GOOD, "a scan is read as it was written")


def _atlas() -> Finding:
    from anatograph.anatomy.atlas import default_atlas

    try:
        atlas = default_atlas()
    except UserError as error:
        return Finding(BROKEN, f"the atlas that ships is not there: {error}", "install anatograph again")
    return Finding(GOOD, f"atlas that ships: {len(atlas)} landmarks, hash {atlas.hash[:12]}")


def _cohort(path: Path) -> Iterator[Finding]:
    from anatograph.study.cohort import read_cohort

    cohort = read_cohort(path)
    rows = cohort.rows
    yield Finding(GOOD, f"{path.name}: {len(rows)} subjects")
    missing = cohort.missing_files()
    for sentence in missing:
        yield Finding(POOR, sentence, "mend the path in the table; paths are relative to it")
    there = [row for row in rows if row.image.exists()]
    with ThreadPoolExecutor(max_workers=4) as pool:
        for row, problem in zip(there, pool.map(lambda row: _header(row.image), there), strict=True):
            if problem:
                yield Finding(POOR, f"{row.subject_id}: {problem}", "mend or replace the scan, or take the row out")
    needed = len(rows) * _MB_A_SUBJECT / 1e3
    free = shutil.disk_usage(path.parent).free / 1e9
    if needed > free:
        yield Finding(
            POOR, f"a study takes up to {needed:.0f} GB, {free:.0f} GB are free beside the table", "make room"
        )
    else:
        yield Finding(GOOD, f"a study takes up to {needed:.1f} GB")
    if rows and len(there) == 0:
        yield Finding(BROKEN, "no scan of the table is there", "check the image column")


def _header(path: Path) -> str:
    """What is wrong with a scan as far as its headers tell, or nothing."""
    import SimpleITK as sitk

    try:
        if path.is_dir():
            from anatograph.imaging.dicom import list_series

            return "" if list_series(path) else "the folder holds no DICOM series"
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) < 3 or any(n != 1 for n in size[3:]):
            return f"{len(size)} dimensions, not 3"
        if min(size[:3]) < 16:
            return f"only {min(size[:3])} slices, fewer than 16"
        if max(reader.GetSpacing()[:3]) > 10:
            return f"slices {max(reader.GetSpacing()[:3]):.1f} mm apart, more than 10"
        if reader.GetNumberOfComponents() != 1:
            return "a colour image, not a CT"
    except UserError as error:
        return str(error)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"cannot be read ({lines[-1] if lines else 'unknown reason'})"
    return ""
