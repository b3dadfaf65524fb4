"""One pass over the scans for all methods: each is read once, and what the methods need of it is stored on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.baselines.features.cubes import lung_box, lung_cube, lung_views
from anatograph.baselines.features.density_figures import density_figures
from anatograph.baselines.features.supervoxels import describe_regions
from anatograph.baselines.method import Scans
from anatograph.errors import UserError
from anatograph.execution.files import clear_leftovers, whole_folder
from anatograph.execution.progress import progress_over
from anatograph.study.original_scan import original_scan
from anatograph.study.store import Study

VERSION = 1
SIZES = {"default": (256, 256), "quick": (64, 64)}
"""Side of the whole-lung cube (the paper resizes scans to 256³ for MoCo) and of the 2D views, by preset."""
_WORKERS = 2
_SMALL = 64
"""Cubes up to this side stay in memory."""
_PARTS = ("figures", "cube", "views", "regions")


class ScanFeatures:
    """What the methods take from the original scans of the subjects of a benchmark.

    Computed on first use and stored in ``work/scans-PRESET/SUBJECT/``; a subject whose scan or lung mask has changed
    since is read again.
    """

    def __init__(self, scans: Scans, progress: bool = True) -> None:
        """Read what is missing.

        Raises:
            UserError: scans that are no longer where the study found them, or cannot be read; all are named.
        """
        self.subject_ids = scans.subject_ids
        self.size, self.view_size = scans.sized(SIZES)
        self.folder = scans.work / f"scans-{scans.preset}"
        marks = {name: self._mark(scans.study, name) for name in self.subject_ids}
        missing = [name for name in self.subject_ids if not self._has(name, marks[name])]
        if missing:
            self._read(scans.study, missing, marks, progress)

    def density(self) -> NDArray[np.float64]:
        """(S, K) measures of density, see `anatograph.baselines.features.density_figures.FIGURES`."""
        return np.stack([self._load(name, "figures") for name in self.subject_ids]).astype(np.float64)

    def cubes(self, rows: Sequence[int] | NDArray[np.int64], size: int | None = None) -> NDArray[np.float32]:
        """(B, n, n, n) HU of whole lungs; ``size`` n divides the stored one, voxels are then averaged."""
        step = self.size // (size or self.size)
        return np.stack([_averaged(self._load(self.subject_ids[int(r)], "cube"), step) for r in rows])

    def views(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, 4, n, n) HU of the slices `anatograph.baselines.features.cubes.VIEWS`."""
        return np.stack([self._load(self.subject_ids[int(r)], "views") for r in rows]).astype(np.float32)

    def regions(self, row: int) -> NDArray[np.float32]:
        """(R, D) descriptors of the regions of one subject's lungs; R differs between subjects."""
        return np.asarray(self._load(self.subject_ids[row], "regions"), dtype=np.float32)

    def signature(self) -> list[str]:
        """A fingerprint of every subject's scan and mask: whether something computed from them is still valid."""
        return [(self.folder / name / "mark.txt").read_text(encoding="utf-8") for name in self.subject_ids]

    def _load(self, name: str, part: str) -> NDArray[Any]:
        """Small arrays stay in memory, large ones are read each time."""
        file = self.folder / name / f"{part}.npy"
        return _in_memory(file) if self.size <= _SMALL else np.asarray(np.load(file, allow_pickle=False))

    def _mark(self, study: Study, name: str) -> str:
        """Changes when the scan, its lung mask or the features computed from them change."""
        subject = study.subject(name)
        mask = hashlib.blake2b((subject.folder / "lungs.nii.gz").read_bytes(), digest_size=16).hexdigest()
        digest = subject.about["source"].get("digest", "")
        return f"{VERSION} {self.size} {self.view_size} {digest} {mask}"

    def _has(self, name: str, mark: str) -> bool:
        file = self.folder / name / "mark.txt"
        return file.is_file() and file.read_text(encoding="utf-8") == mark

    def _read(self, study: Study, missing: list[str], marks: dict[str, str], progress: bool) -> None:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        workshop = self.folder / ".unfinished"
        clear_leftovers(workshop)
        faults: dict[str, str] = {}
        # Sums over several threads round differently; two subjects at a time, one thread each, instead.
        with threadpool_limits(1), ThreadPoolExecutor(_WORKERS) as pool:
            jobs = {pool.submit(self._read_one, study, name, marks[name], workshop): name for name in missing}
            for job in progress_over(as_completed(jobs), "scans", "scan", total=len(jobs), shown=progress):
                try:
                    job.result()
                except (UserError, ValueError) as error:
                    faults[jobs[job]] = str(error)
        _in_memory.cache_clear()
        if faults:
            examples = "; ".join(f"{name}: {faults[name]}" for name in sorted(faults)[:3])
            more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
            raise UserError(
                f"{len(faults)} of {len(missing)} scans cannot be read again, which this method needs: "
                f"{examples}{more}. Put the scans back where the study found them, or remove these subjects from the "
                "cohort table."
            )

    def _read_one(self, study: Study, name: str, mark: str, workshop: Path) -> None:
        volume, lungs = original_scan(study, name)
        box = lung_box(lungs)
        parts: dict[str, NDArray[Any]] = {
            "figures": density_figures(volume.array[lungs.lungs], volume.frame.voxel_volume),
            "cube": lung_cube(volume.array, box, self.size),
            "views": lung_views(volume.array, lungs, box, self.view_size),
            "regions": describe_regions(volume.array, lungs),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_folder(self.folder / name, workshop) as folder:
            for part in _PARTS:
                np.save(folder / f"{part}.npy", parts[part])
            (folder / "mark.txt").write_text(mark, encoding="utf-8")


@lru_cache(maxsize=4)
def scan_features(scans: Scans, progress: bool = True) -> ScanFeatures:
    """The features of these scans; later calls return the same object without checking the disk again."""
    return ScanFeatures(scans, progress)


@lru_cache(maxsize=4096)
def _in_memory(file: Path) -> NDArray[Any]:
    return np.asarray(np.load(file, allow_pickle=False))


def _averaged(cube: NDArray[np.int16], step: int) -> NDArray[np.float32]:
    """A cube with blocks of ``step``³ voxels averaged."""
    if step == 1:
        return cube.astype(np.float32)
    side = cube.shape[0] // step
    blocks = cube[: side * step, : side * step, : side * step].reshape(side, step, side, step, side, step)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32))
