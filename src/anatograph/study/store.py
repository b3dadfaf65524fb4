"""A study on disk: an atlas, settings, and one folder for each subject, whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anatograph.anatomy.atlas import Atlas, load_atlas, save_atlas
from anatograph.anatomy.places import on_right
from anatograph.errors import UserError
from anatograph.execution.account import Failure
from anatograph.execution.claims import alone, holder, tidy
from anatograph.execution.failures import failures_in
from anatograph.execution.files import clear_leftovers, remove_folder, whole_folder, write_text
from anatograph.execution.folders import refuse_foreign
from anatograph.study.blocks import INSIDE, by_subject, layout, packed_length, read_rows, unpack
from anatograph.study.description import describe, read_description, refuse_difference
from anatograph.study.identifiers import subject_folder
from anatograph.study.settings import PreprocessSettings
from anatograph.study.subject import PreparedSubject, StoredSubject, write_subject_files
from anatograph.study.versions import VERSIONS

_OWN = {"atlas", "subjects", ".unfinished", ".claims", ".failed", ".lock"}
_READERS = 16
"""Threads that check subjects: on a network file system a check is waiting, not work."""


class Study:
    """Preprocessed subjects on one atlas, made with one set of settings.

    An object knows the subjects that existed when it was opened, and those that it wrote; `refresh` updates it.
    It holds no open files and can be pickled for worker processes.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.about = about
        """Content of ``study.json``."""
        self.settings = PreprocessSettings.from_dict(about["settings"])
        """What the subjects were made with."""
        self._ids: dict[str, None] | None = None
        self._left_out: frozenset[str] = frozenset()

    @classmethod
    def create(cls, path: str | Path, atlas: Atlas, settings: PreprocessSettings) -> Study:
        """Make a study, or open the one that is there if it was made with the same atlas and settings.

        Raises:
            UserError: when the folder holds something else, or a study made with other settings; says what differs.
        """
        path = Path(path)
        if (path / "study.json").is_file():
            study = cls.open(path)
            refuse_difference(path, study.about, atlas, settings)
            return study
        refuse_foreign(path, "a study", lambda entry: entry.name in _OWN)
        with alone(path / ".claims", "study.lock"):
            if (path / "study.json").is_file():  # another run was faster
                return cls.create(path, atlas, settings)
            with whole_folder(path / "atlas", path / ".unfinished") as folder:
                save_atlas(atlas, folder)
            (path / "subjects").mkdir(exist_ok=True)
            about = describe(atlas, settings)
            write_text(path / "study.json", json.dumps(about, indent=2) + "\n")
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Study:
        """Open a study to read it.

        Raises:
            UserError: not a study, or one of a newer format.
        """
        path = Path(path)
        return cls(path, read_description(path))

    @cached_property
    def atlas(self) -> Atlas:
        """The atlas, from the study's own copy."""
        atlas = load_atlas(self.path / "atlas")
        if atlas.hash != self.about["atlas_hash"]:
            raise UserError(
                f"{self.path / 'atlas'} is not the atlas that the study was made with; restore it, or preprocess again."
            )
        return atlas

    @cached_property
    def on_right(self) -> NDArray[np.bool_]:
        """(N,) which landmarks of the atlas lie in the right lung."""
        return on_right(self.atlas)

    @property
    def subject_ids(self) -> list[str]:
        """Subjects in the study, in alphabetical order; one listing of a folder, whatever its size.

        A folder gets its name when it is whole, so none is looked into.
        """
        if self._ids is None:
            with os.scandir(self.path / "subjects") as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir())
            self._ids = dict.fromkeys(name for name in names if name not in self._left_out)
        return list(self._ids)

    def without(self, subject_ids: Iterable[str]) -> Study:
        """The same study, in which these subjects are not listed."""
        other = Study(self.path, self.about)
        other._left_out = self._left_out | set(subject_ids)
        return other

    def refresh(self) -> None:
        """Look on disk again for subjects."""
        self._ids = None

    def __contains__(self, subject_id: object) -> bool:
        if self._ids is None:
            _ = self.subject_ids
        return subject_id in (self._ids or {})

    def __len__(self) -> int:
        return len(self.subject_ids)

    def is_whole(self, subject_id: str) -> bool:
        """Whether the subject is there now; asks the disk, and counts a folder without its content as absent."""
        return (subject_folder(self.path, subject_id) / "subject.json").is_file()

    def whole(self, subject_ids: Iterable[str]) -> set[str]:
        """Those of the subjects that `is_whole`."""
        asked = [name for name in subject_ids if name in self]
        with ThreadPoolExecutor(_READERS) as threads:
            return {name for name, there in zip(asked, threads.map(self.is_whole, asked), strict=True) if there}

    def subject(self, subject_id: str) -> StoredSubject:
        """One subject.

        Raises:
            UserError: when the study does not hold it.
        """
        folder = subject_folder(self.path, subject_id)
        if not (folder / "subject.json").is_file():
            raise UserError(f"There is no subject '{subject_id}' in the study {self.path}.")
        return StoredSubject(folder, lambda: self.on_right, self.settings.registration)

    @property
    def bytes_of_patches(self) -> int:
        """Size of a subject's patches on disk, nearly all that a subject takes."""
        return layout(self._patches_shape, "<i2")[1]

    @property
    def _patches_shape(self) -> tuple[int, int, int, int]:
        size = int(self.about["patch_size"])
        return int(self.about["landmarks"]), size, size, size

    def present(self, subject_ids: Sequence[str] | None = None) -> NDArray[np.bool_]:
        """(S, N) which subjects (all, in order, if not given) have which landmarks inside their scan."""
        ids = self.subject_ids if subject_ids is None else subject_ids
        return np.array([self.subject(name).present for name in ids], dtype=np.bool_).reshape(len(ids), -1)

    def digest(self, subject_ids: Sequence[str] | None = None) -> str:
        """16 letters that change with the atlas, the settings and the scans of these subjects (all if not given)."""
        ids = self.subject_ids if subject_ids is None else subject_ids
        scans = {name: self.subject(name).about.get("source", {}).get("digest", "") for name in ids}
        about = {"atlas": self.about["atlas_hash"], "settings": self.settings.to_dict(), "scans": scans}
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode("utf-8")).hexdigest()[:16]

    def read_patches(self, subject_ids: Sequence[str], landmarks: ArrayLike) -> NDArray[np.int16]:
        """The b-th subject's patch at the b-th landmark, reading nothing else.

        Args:
            subject_ids: B subjects, repeats allowed.
            landmarks: (B,) indices of landmarks, or one for all.

        Returns:
            (B, P, P, P) int16 HU, z, y, x.

        Raises:
            UserError: for a subject that is not in the study or whose patches are damaged.
        """
        shape = self._patches_shape
        patches = np.empty((len(subject_ids), *shape[1:]), dtype="<i2")
        for subject_id, rows, places in by_subject(subject_ids, landmarks, shape[0]):
            file = subject_folder(self.path, subject_id) / "patches.npy"
            read_rows(file, rows, [patches[place] for place in places], shape[0])
        return patches.astype(np.int16, copy=False)

    def read_inside(self, subject_ids: Sequence[str], landmarks: ArrayLike) -> NDArray[np.bool_]:
        """Which voxels of the patches that `read_patches` gives are lung: (B, P, P, P).

        Raises:
            UserError: for a subject that is not in the study or whose lung mask is damaged.
        """
        shape = self._patches_shape
        inside = np.empty((len(subject_ids), *shape[1:]), dtype=np.bool_)
        bits = np.empty((len(subject_ids), packed_length(shape[1])), dtype=np.uint8)
        for subject_id, rows, places in by_subject(subject_ids, landmarks, shape[0]):
            file = subject_folder(self.path, subject_id) / INSIDE
            if file.is_file():
                read_rows(file, rows, [bits[place] for place in places], shape[0])
                inside[places] = unpack(bits[places], shape[1])
            else:  # written by an earlier version
                inside[places] = self.subject(subject_id).load_inside()[rows]
        return inside

    @property
    def step_versions(self) -> dict[str, list[int]]:
        """The versions of each step that its subjects may be made with, see `anatograph.study.versions`."""
        known = self.about.get("recipe", {})
        return {step: [int(number) for number in known.get(step, [1])] for step in {**VERSIONS, **known}}

    @property
    def mixed(self) -> str:
        """A sentence where subjects were made by different versions of a step; empty where all are alike."""
        steps = [f"{step} {' and '.join(map(str, sorted(n)))}" for step, n in self.step_versions.items() if len(n) > 1]
        if not steps:
            return ""
        return (
            f"The subjects of {self.path} were made by different versions ({', '.join(steps)}); "
            "`anatograph preprocess --redo outdated` makes them alike."
        )

    def set_step_versions(self, numbers: Mapping[str, Sequence[int]]) -> None:
        """Say in ``study.json`` which versions its subjects may be made with."""
        with alone(self.path / ".claims", "study.lock"):
            file = self.path / "study.json"
            self.about = {
                **json.loads(file.read_text(encoding="utf-8")),
                "recipe": {step: list(found) for step, found in numbers.items()},
            }
            write_text(file, json.dumps(self.about, indent=2) + "\n")

    def clear_leftovers(self) -> None:
        """Remove what killed runs left unfinished, and nothing that a living run works on."""
        claims = self.path / ".claims"
        tidy(claims)
        clear_leftovers(self.path / ".unfinished", lambda name, token: holder(claims, f"{name}.claim") == token)
        self.refresh()

    def write_subject(
        self, subject: PreparedSubject, picture: Callable[[Path], None] | None = None, token: str | None = None
    ) -> Path:
        """Put a subject into the study, whole or not at all, and return its folder; one of that name is replaced.

        ``picture`` is called with the path of the QC picture to write; ``token`` is that of the claim on the subject.
        """
        count, size = len(self.atlas), self.atlas.patch_size
        if subject.patches.shape != (count, size, size, size) or subject.patches.dtype != np.int16:
            raise ValueError(f"patches {subject.patches.shape} {subject.patches.dtype} do not fit the study's atlas")
        target = subject_folder(self.path, subject.subject_id)
        with whole_folder(target, self.path / ".unfinished", token) as folder:
            if picture is not None:
                picture(folder / "qc.png")
            write_subject_files(subject, folder, str(self.about["atlas_hash"]))
        self.refresh()
        return target

    def remove_subject(self, subject_id: str) -> None:
        """Take a subject out of the study; nothing happens if it is not in it."""
        folder = subject_folder(self.path, subject_id)
        if folder.is_dir():
            remove_folder(folder, self.path / ".unfinished")
        self.refresh()

    def failures(self) -> list[Failure]:
        """The failures listed in ``failures.csv``, in its order."""
        return failures_in(self.path)
