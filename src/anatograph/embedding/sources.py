"""What can be embedded: the subjects of a study, or one scan."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anatograph.embedding.result import ScanQuality
from anatograph.embedding.stream import Item
from anatograph.errors import UserError
from anatograph.learning.model.shown import needs_lungs, shown
from anatograph.study.identifiers import fault_of
from anatograph.study.settings import PreprocessSettings
from anatograph.study.store import Study

if TYPE_CHECKING:
    from anatograph.anatomy.atlas import Atlas
    from anatograph.learning.model.config import ModelConfig
    from anatograph.learning.model.embedding_model import Model
    from anatograph.study.subject import PreparedSubject, StoredSubject

LEAST_LUNG = 0.01
"""A patch with a smaller part of lung is no region of the lungs; in sound scans 0 to 0.4 % of the landmarks."""


class Source(ABC):
    """Subjects to embed, each loaded when its turn comes."""

    path: Path
    """The study, or the scan."""
    settings: PreprocessSettings
    """How its patches were cut."""
    atlas_hash: str
    """What they are on."""
    subject_ids: list[str]
    """Their ids."""
    notes: list[str]
    """What a reader of the results should know."""

    @abstractmethod
    def load(self, subject_id: str) -> Item[str]:
        """Patches, edges and present landmarks of a subject, in memory. UserError where they cannot be had."""

    @abstractmethod
    def stamp(self, subject_id: str) -> int:
        """A number that changes when the subject does."""


class StudySource(Source):
    """The subjects of a study."""

    def __init__(self, study: Study, model: Model, say_missing: bool = True) -> None:
        """``say_missing``: whether the notes name the scans that failed in preprocessing."""
        self.path = study.path
        self.settings, self.atlas_hash = study.settings, study.atlas.hash
        check_compatible(model, self.atlas_hash, self.settings, f"The study {study.path}")
        self.subject_ids = study.subject_ids
        if not self.subject_ids:
            raise UserError(f"The study {study.path} holds no subject; run `anatograph preprocess` first.")
        self._study, self._config = study, model.config
        missing = [failure for failure in study.failures() if say_missing and failure.subject_id not in study]
        self.notes = [f"{f.subject_id} is not in the study, failed at {f.stage}: {f.reason}" for f in missing]
        if study.mixed:
            self.notes.append(study.mixed)

    def load(self, subject_id: str) -> Item[str]:
        """From the study's files; all of the patches, as all are needed."""
        subject = self._study.subject(subject_id)
        return item_of(subject, self._config)

    def stamp(self, subject_id: str) -> int:
        """When it was written, 0 if it is not there."""
        try:
            return (self._study.path / "subjects" / subject_id / "subject.json").stat().st_mtime_ns
        except OSError:
            return 0


class ScanSource(Source):
    """One scan, prepared as the model's training scans were."""

    def __init__(
        self,
        source: Path,
        model: Model,
        settings: PreprocessSettings,
        subject_id: str,
        mask: str | Path | None,
        weights: Path | None,
    ) -> None:
        self.path = source
        self.settings, self.atlas_hash, self.subject_ids = settings, atlas_of(model).hash, [subject_id]
        self.notes = []
        self.quality: ScanQuality | None = None
        """Known once the scan is loaded."""
        self.landmarks: NDArray[np.float64] = np.zeros((0, 3))
        """(N, 3) LPS mm, where the regions lie in the scan; known once it is loaded."""
        self._mask, self._weights, self._model = mask, weights, model
        self.prepared: PreparedSubject | None = None
        """What `load` made of the scan."""
        self._made = time.time_ns()
        check_compatible(model, self.atlas_hash, settings, f"The scan {source}")

    def load(self, subject_id: str) -> Item[str]:
        """Through the same steps as a study's subject."""
        from anatograph.imaging.reading import read_volume
        from anatograph.study.prepare import prepare_subject

        assert self._model.atlas is not None
        done = prepare_subject(
            read_volume(self.path),
            self._mask,
            self._model.atlas,
            self.settings,
            subject_id=subject_id,
            weights=self._weights,
        )
        self.landmarks, self.quality = done.landmarks, ScanQuality(done.concerns, done.quality)
        self.prepared = done
        self.notes += [*done.notes, *map(str, done.concerns)]
        known = self._model.preprocessing.get("recipe", {})
        differing = [step for step, number in done.step_versions.items() if number not in known.get(step, [number])]
        if differing:
            self.notes.append(
                f"the model's training scans were prepared by another version of {', '.join(differing)}; "
                "the vector may differ from theirs"
            )
        present = with_lung(done.present, done.inside, self._model.config)
        return Item(subject_id, done.patches, done.edges, present, done.inside, done.parenchyma_hu)

    def stamp(self, subject_id: str) -> int:
        """Never that of another run: nothing is stored of a single scan."""
        return self._made


def item_of(subject: StoredSubject, config: ModelConfig) -> Item[str]:
    """A study's subject, with its lungs where a model of this configuration needs them."""
    if not needs_lungs(config):
        return Item(subject.subject_id, subject.load_patches(), subject.edges, subject.present)
    inside = subject.load_inside()
    present = with_lung(subject.present, inside, config)
    return Item(subject.subject_id, subject.load_patches(), subject.edges, present, inside, subject.parenchyma_hu)


def with_lung(present: NDArray[np.bool_], inside: NDArray[np.bool_], config: ModelConfig) -> NDArray[np.bool_]:
    """(N,) which landmarks a model of this configuration has something to see at.

    Where a lung is missing, in the subject or only in its mask, a model that is shown lung alone would see soft tissue
    in half of its landmarks, as in no scan it was trained on: these landmarks are absent like those beyond the scan.
    """
    return present & (inside.mean(axis=(1, 2, 3)) >= LEAST_LUNG) if config.lungs_only else present


def shown_of(subject: StoredSubject, config: ModelConfig) -> NDArray[np.int16]:
    """All patches of a study's subject as a model of this configuration sees them: (N, P, P, P) HU."""
    item = item_of(subject, config)
    return shown(np.asarray(item.patches), item.inside, item.parenchyma_hu, config)


def check_compatible(model: Model, atlas_hash: str, settings: PreprocessSettings, what: str) -> None:
    """Refuse patches that the model was not made for.

    Where the lungs came from and how the atlas was laid on them may differ: they aim at the same places.

    Raises:
        UserError: another atlas, interpolation or graph, naming both.
    """
    if model.atlas is not None and model.atlas.hash != atlas_hash:
        raise UserError(
            f"{what} is on a different atlas (hash {atlas_hash[:12]}) from the model's (hash {model.atlas.hash[:12]}); "
            "preprocess with `--atlas MODEL/atlas`, or give the model that was trained on this atlas."
        )
    have = settings.to_dict()
    keys = ["interpolation", "graph_rule", "min_overlap" if settings.graph_rule == "overlap" else "rho"]
    differing = [
        f"{key} is {have[key]} there and {model.preprocessing[key]} in the model's training"
        for key in keys
        if key in model.preprocessing and model.preprocessing[key] != have[key]
    ]
    if differing:
        raise UserError(f"{what} was preprocessed differently: {'; '.join(differing)}. Preprocess it again.")


def settings_for(model: Model, lungs: str | None, registration: str | None, has_mask: bool) -> PreprocessSettings:
    """How the model's training scans were prepared, with what the user asks for in its place."""
    known = set(PreprocessSettings().to_dict())
    settings = PreprocessSettings.from_dict({k: v for k, v in model.preprocessing.items() if k in known})
    if settings.lungs == "given" and not has_mask:
        settings = replace(settings, lungs="auto")
    changes: dict[str, Any] = {"lungs": lungs, "registration": registration}
    if has_mask and lungs is None:
        changes["lungs"] = "given"
    return replace(settings, **{key: value for key, value in changes.items() if value is not None})


def atlas_of(model: Model) -> Atlas:
    """The model's atlas, on which scans are prepared for it. UserError where it has none."""
    if model.atlas is None:
        raise UserError("The model has no atlas, so it does not know where to look in a scan; load a model folder.")
    return model.atlas


def check_id(subject_id: str) -> str:
    """The id, if it can be one."""
    if fault := fault_of(subject_id):
        raise UserError(f"--subject-id: {fault}.")
    return subject_id
