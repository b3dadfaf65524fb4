"""Checks of the installation, and of a cohort's scans, before a long run; each finding says how to fix it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from anatograph.checkup.cohort import look_at_cohort
from anatograph.checkup.findings import BROKEN, GOOD, POOR, Finding
from anatograph.errors import UserError, counted
from anatograph.execution.memory import WORKER_GB

__all__ = ["Finding", "doctor"]

_NEEDED = ("torch", "numpy", "scipy", "pandas", "SimpleITK", "pydicom", "scikit-learn", "zarr")
_EXTRAS = (
    ("lungmask", "lungmask", "lungmask"),
    ("totalsegmentator", "totalsegmentator", "TotalSegmentator"),
    ("ants", "ants", "ANTs"),
    ("dask", "distributed", "Dask"),
    ("report", "umap", "UMAP"),
    ("hub", "huggingface_hub", "the client of the Hugging Face hub"),
)


def doctor(cohort: str | Path | None = None) -> list[Finding]:
    """Check the installation and, by its headers, every scan of a cohort.

    Raises:
        UserError: a cohort table that cannot be read.
    """
    found = [*_python(), *_packages(), *_extras(), *_machine(), _round_trip(), _atlas(), _model()]
    if cohort is not None:
        found += look_at_cohort(Path(cohort))
    return found


def _python() -> Iterator[Finding]:
    from anatograph._version import __version__

    yield Finding(GOOD, f"anatograph {__version__}, Python {'.'.join(map(str, sys.version_info[:3]))}")


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
            yield Finding(GOOD, f"optional: {what} is not installed", f"if wanted, `pip install 'anatograph[{extra}]'`")
        else:
            yield Finding(GOOD, f"{what} available")
    yield from _weights()


def _weights() -> Iterator[Finding]:
    """Weights that the optional networks need, which nothing downloads."""
    from anatograph.imaging.lungs.choose import WEIGHTS_VARIABLE

    named = os.environ.get(WEIGHTS_VARIABLE, "")
    if named and not Path(named).is_file():
        yield Finding(POOR, f"{WEIGHTS_VARIABLE} names {named}, which is not a file", "correct it, or unset it")
    elif named:
        yield Finding(GOOD, f"weights of lungmask: {named}")
    elif util.find_spec("lungmask") is not None:
        yield Finding(
            GOOD,
            "lungmask has no weights, so `--lungs auto` uses the built-in method",
            f"if wanted, give --lung-weights FILE or set {WEIGHTS_VARIABLE}",
        )


def _machine() -> Iterator[Finding]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads > cores:
        yield Finding(
            POOR,
            f"torch would use {counted(threads, 'thread')} on {counted(cores, 'core')}",
            f"set OMP_NUM_THREADS={cores}",
        )
    else:
        yield Finding(GOOD, f"{counted(cores, 'core')}, torch uses {counted(threads, 'thread')}")
    if torch.cuda.is_available():
        on_card = torch.cuda.get_device_properties(0).total_memory / 1e9
        yield Finding(GOOD, f"GPU: {torch.cuda.get_device_name(0)}, {on_card:.0f} GB")
    elif shutil.which("nvidia-smi") is not None:
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        yield Finding(
            POOR, f"there is a GPU driver, but torch was built {built} and cannot use it", "install torch for it"
        )
    else:
        yield Finding(GOOD, "no GPU that torch can use: training runs on the processor")
    memory = _memory_gb()
    if memory is not None:
        poor = memory < 4
        fix = f"use fewer workers; one that preprocesses needs about {WORKER_GB} GB" if poor else ""
        yield Finding(POOR if poor else GOOD, f"{memory:.1f} GB of memory are free", fix)
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    fix = "make room; a subject takes about 40 MB" if free < 5 else ""
    yield Finding(POOR if free < 5 else GOOD, f"{free:.0f} GB of disk are free here", fix)


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
        return Finding(BROKEN, "a scan was not read as it was written", "install SimpleITK again")
    return Finding(GOOD, "read/write self-test passed")


def _model() -> Finding:
    """Whether the files of the model that ships are those released."""
    from anatograph.learning.releases.shipped import default_release

    try:
        release = default_release()
        faults = [] if release is None else release.damaged()
    except UserError as error:
        return Finding(BROKEN, str(error), "install anatograph again")
    if release is None:
        return Finding(GOOD, "this build ships no model", "give --model, or get one with `anatograph pull OWNER/NAME`")
    if faults:
        return Finding(BROKEN, f"the model {release.name}: {'; '.join(faults)}", "install anatograph again")
    return Finding(GOOD, f"model {release.name}, every file is as released")


def _atlas() -> Finding:
    from anatograph.anatomy.atlas import default_atlas

    try:
        atlas = default_atlas()
    except UserError as error:
        return Finding(BROKEN, f"the built-in atlas is missing: {error}", "install anatograph again")
    return Finding(GOOD, f"built-in atlas: {len(atlas)} landmarks, hash {atlas.hash[:12]}")
