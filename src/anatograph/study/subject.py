"""One preprocessed subject, in memory and as it lies in a study."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anatograph.anatomy.lung_tissue import Parenchyma, inside_lungs, parenchyma
from anatograph.anatomy.registration.maps import AtlasMap, load_map
from anatograph.errors import UserError
from anatograph.execution.files import write_error, write_text
from anatograph.imaging.orientation import is_turned
from anatograph.imaging.reading import read_mask, write_mask
from anatograph.imaging.volume import Frame, Mask, Volume
from anatograph.limits import check_scan_size, read_json
from anatograph.study.blocks import INSIDE, pack, packed_length, unpack
from anatograph.study.quality.levels import LEVELS, Concern, Figure, Level, concern_of, flags_of, worst
from anatograph.study.quality.slices import Slice, cut_slices, load_slices, save_slices
from anatograph.study.versions import StepVersions, versions_of

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class PreparedSubject:
    """What preprocessing makes of one scan."""

    subject_id: str
    """The subject."""
    landmarks: NDArray[np.float64]
    """(N, 3) patch centres in the subject, LPS mm."""
    patches: NDArray[np.int16]
    """(N, P, P, P) HU, z, y, x, voxels of 1 mm."""
    present: NDArray[np.bool_]
    """(N,) False where a whole patch lies outside the scan."""
    inside: NDArray[np.bool_]
    """(N, P, P, P) which voxels of the patches are lung."""
    parenchyma_hu: NDArray[np.float64]
    """(N,) the most frequent density of the lung that each landmark is in (`anatograph.anatomy.lung_tissue`)."""
    edges: NDArray[np.int32]
    """(E, 2) pairs of neighbouring landmarks, j < k."""
    lungs: Mask
    """The lungs that the atlas was brought onto."""
    map: AtlasMap
    """Atlas to subject and back."""
    volume: Volume
    """The scan, its axes along L, P and S."""
    quality: dict[str, Figure]
    """Figures by name: ``lungs_…``, ``registration_…``, landmarks and graph."""
    concerns: tuple[Concern, ...] = ()
    """Everything out of the ordinary, the gravest first; empty where all is as expected."""
    notes: tuple[str, ...] = ()
    """Everything that was chosen or repaired, in plain sentences."""
    lung_method: str = ""
    """Where the mask came from: given, threshold, lungmask or totalsegmentator."""
    step_versions: StepVersions = field(default_factory=dict)
    """The steps it went through and the version of each, see `anatograph.study.versions`."""
    timings: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds by stage."""
    source: dict[str, Any] = field(default_factory=dict)
    """The scan's file or folder: path, bytes, modification time and digests of the file and of its voxels."""

    @property
    def level(self) -> Level:
        """How far the scan can be trusted."""
        return worst([concern.level for concern in self.concerns])

    @property
    def flags(self) -> tuple[str, ...]:
        """What needs a reader's attention: the concerns at level ``check`` or ``reject``, in words."""
        return flags_of(self.concerns)


def write_subject_files(subject: PreparedSubject, folder: Path, atlas_hash: str) -> None:
    """Write all of a subject but its QC picture into an existing folder; ``subject.json`` comes last.

    Raises:
        OSError: where the disk is full; ITK does not report it, so its files are checked.
    """
    np.save(folder / "patches.npy", np.ascontiguousarray(subject.patches))
    np.save(folder / INSIDE, pack(subject.inside))
    np.save(folder / "landmarks.npy", subject.landmarks)
    np.save(folder / "edges.npy", subject.edges)
    np.save(folder / "present.npy", subject.present)
    transform = subject.map.save(folder / "transform")
    write_mask(folder / "lungs.nii.gz", subject.lungs)
    save_slices(folder / "slices.npz", cut_slices(subject.volume, subject.lungs))
    check_written(folder / "lungs.nii.gz", transform)
    about = {
        "format_version": FORMAT_VERSION,
        "subject_id": subject.subject_id,
        "atlas_hash": atlas_hash,
        "landmarks": len(subject.landmarks),
        "lungs_from": subject.lung_method,
        "recipe": subject.step_versions,
        "transform": transform.name,
        "level": subject.level,
        "concerns": [asdict(concern) for concern in subject.concerns],
        "flags": list(subject.flags),
        "quality": subject.quality,
        "notes": list(subject.notes),
        "timings": {name: round(seconds, 3) for name, seconds in subject.timings.items()},
        "source": subject.source,
        "frame": subject.volume.frame.to_dict(),
        "stored_frame": (subject.volume.stored or subject.volume.frame).to_dict(),
    }
    write_text(folder / "subject.json", json.dumps(about, indent=2, ensure_ascii=False, allow_nan=True) + "\n")


def check_written(mask: Path, transform: Path) -> None:
    """Raise OSError where a file that ITK wrote is incomplete."""
    try:
        with gzip.open(mask) as file:
            while file.read(1 << 22):
                pass  # the length and the check sum at the end are compared by gzip
        load_map(transform)
    except (OSError, EOFError, ValueError, RuntimeError, UserError, zlib.error) as error:
        raise write_error(mask, "a file was not written whole") from error


class StoredSubject:
    """A subject of a study; every part is read on first use."""

    def __init__(self, folder: Path, on_right: Callable[[], NDArray[np.bool_]], registration: str = "affine") -> None:
        """``on_right`` gives which landmarks of the study's atlas lie in the right lung (N,)."""
        self.folder = folder
        self._registration, self._on_right = registration, on_right

    @property
    def subject_id(self) -> str:
        """The subject."""
        return self.folder.name

    @cached_property
    def about(self) -> dict[str, Any]:
        """``subject.json``: quality, flags, notes, timings, where the scan came from."""
        try:
            about: dict[str, Any] = read_json(self.folder / "subject.json")
            version = int(about["format_version"])
            if version <= FORMAT_VERSION:
                _check_about(about)
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(
                f"{self.folder}: subject.json cannot be read; remove the folder and preprocess again."
            ) from error
        if version > FORMAT_VERSION:
            raise UserError(f"{self.folder} is of format {version}; install a newer anatograph to read it.")
        return about

    @property
    def step_versions(self) -> StepVersions:
        """The steps it went through and the version of each; 1 where it was written before they were kept."""
        if (known := self.about.get("recipe")) is not None:
            return {str(step): int(number) for step, number in known.items()}
        oblique = not is_turned(self.frame, self.stored_frame)
        return dict.fromkeys(versions_of(str(self.about.get("lungs_from", "")), self._registration, oblique), 1)

    @property
    def quality(self) -> dict[str, Figure]:
        """Quality figures by name."""
        return dict(self.about["quality"])

    @property
    def lung_volume_ml(self) -> float:
        """Volume of the lung mask, ml; NaN where it is not known."""
        value = self.quality.get("lungs_volume_ml")
        return float(value) if isinstance(value, int | float) and value > 0 else float("nan")

    @property
    def concerns(self) -> tuple[Concern, ...]:
        """Everything out of the ordinary, the gravest first."""
        if (known := self.about.get("concerns")) is None:  # written before there were levels
            return tuple(concern_of(flag) for flag in self.about["flags"])
        return tuple(Concern(one["level"], one["reason"]) for one in known)

    @property
    def level(self) -> Level:
        """How far the scan can be trusted."""
        return worst([concern.level for concern in self.concerns])

    @property
    def flags(self) -> list[str]:
        """What needs a reader's attention; empty where all is as expected."""
        return list(flags_of(self.concerns))

    @cached_property
    def landmarks(self) -> NDArray[np.float64]:
        """(N, 3) patch centres in the subject, LPS mm."""
        return np.asarray(self._load("landmarks.npy"), dtype=np.float64)

    @cached_property
    def edges(self) -> NDArray[np.int32]:
        """(E, 2) pairs of neighbouring landmarks, j < k."""
        return np.asarray(self._load("edges.npy"), dtype=np.int32)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """(N,) False where a whole patch lies outside the scan."""
        return np.asarray(self._load("present.npy"), dtype=np.bool_)

    @property
    def patches(self) -> NDArray[np.int16]:
        """(N, P, P, P) HU, z, y, x; a read-only memory map, nothing is read until it is indexed.

        The map holds its file open while it lives; to read from many subjects use `Study.read_patches`.
        """
        patches: NDArray[np.int16] = self._load("patches.npy", mmap=True)
        return patches

    def load_patches(self) -> NDArray[np.int16]:
        """(N, P, P, P) HU, z, y, x, read into memory at once."""
        patches: NDArray[np.int16] = self._load("patches.npy")
        return patches

    def load_inside(self) -> NDArray[np.bool_]:
        """(N, P, P, P) which voxels of the patches are lung; from the mask where an earlier version wrote the subject.

        Raises:
            UserError: a file that cannot be read or is not of these patches.
        """
        shape = self.patches.shape
        if not (self.folder / INSIDE).is_file():
            return inside_lungs(self.lungs(), self.landmarks, shape[1])
        bits = self._load(INSIDE)
        if bits.shape != (shape[0], packed_length(shape[1])) or bits.dtype != np.uint8:
            raise UserError(f"{self.folder / INSIDE} is damaged; remove the folder {self.folder} and preprocess again.")
        return unpack(bits, shape[1])

    @cached_property
    def parenchyma_hu(self) -> NDArray[np.float64]:
        """(N,) the most frequent density of each landmark's lung, HU; from the patches where it is not kept."""
        right, there = self._on_right(), self.present
        if (known := Parenchyma.from_figures(self.quality)) is not None:
            return known.at(right)
        return parenchyma(self.load_patches()[there], self.load_inside()[there], right[there]).at(right)

    @property
    def frame(self) -> Frame:
        """Frame of the scan that the patches were cut from."""
        return Frame.from_dict(self.about["frame"])

    @property
    def stored_frame(self) -> Frame:
        """Frame of the scan's own file."""
        return Frame.from_dict(self.about["stored_frame"])

    @property
    def picture(self) -> Path:
        """The QC picture."""
        return self.folder / "qc.png"

    def slices(self) -> tuple[Slice, ...]:
        """Whole slices of the scan; empty where an earlier version wrote the subject."""
        return load_slices(self.folder / "slices.npz")

    def lungs(self) -> Mask:
        """The lung mask."""
        return read_mask(self.folder / "lungs.nii.gz")

    def map(self) -> AtlasMap:
        """From the atlas to the subject and back."""
        return load_map(self.folder / str(self.about["transform"]))

    def _load(self, name: str, mmap: bool = False) -> NDArray[Any]:
        try:
            # A map never is longer than its file, whatever shape its header claims.
            mapped: NDArray[Any] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            loaded = mapped if mmap else np.array(mapped)
        except (OSError, ValueError, TypeError, SyntaxError, OverflowError, MemoryError, EOFError) as error:
            raise UserError(
                f"{self.folder / name} cannot be read ({error}); remove the folder {self.folder} and preprocess again."
            ) from error
        return loaded


def _check_about(about: dict[str, Any]) -> None:
    """Raise ValueError, TypeError or KeyError where ``subject.json`` is not as `write_subject_files` writes it."""
    name = about["transform"]
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}\.(tfm|h5)", name):
        raise ValueError("its transform is not a file beside it")
    if not isinstance(about["quality"], dict) or not isinstance(about["flags"], list):
        raise TypeError("quality or flags are not what they should be")
    if any(one["level"] not in LEVELS or not isinstance(one["reason"], str) for one in about.get("concerns") or ()):
        raise ValueError("its concerns have other levels")
    for key in ("frame", "stored_frame"):
        frame = Frame.from_dict(about[key])
        numbers = [*frame.spacing, *frame.origin, *frame.direction.ravel()]
        if frame.direction.shape != (3, 3) or not np.isfinite(numbers).all() or min(frame.spacing) <= 0:
            raise ValueError(f"its {key} is not a grid")
        check_scan_size(frame.shape, 2, key)
