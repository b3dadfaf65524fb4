"""From a study, or from one CT without a study, to vectors: one a subject, one a region."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anatograph.analysis.embedding_file import beside, parquet_path, write_embeddings
from anatograph.analysis.region_store import RegionWriter
from anatograph.errors import UserError
from anatograph.runlog import RunAccount
from anatograph.study.settings import PreprocessSettings
from anatograph.study.store import Study

if TYPE_CHECKING:
    from anatograph.learning.embedding_model import Embedding, Model

Progress = Callable[[str, int, int], None]
"""Called with the subject that is done, how many are, and of how many."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """Vectors of one or many subjects."""

    subject_ids: list[str]
    """(n,) who."""
    features: NDArray[np.float32]
    """(n, F) a vector each, S' of the paper: the mean over the regions."""
    landmarks: NDArray[np.float64]
    """(N, 3) the regions' places in the atlas, LPS mm."""
    regions: NDArray[np.float32] | None = None
    """(n, N, F) a vector for each region, h' of the paper, NaN where the scan does not reach; None if they went to
    ``OUT.regions.zarr``."""
    table: Path | None = None
    """``OUT.parquet``, if written."""
    account: RunAccount | None = None
    """Failures and timings, if written."""
    notes: tuple[str, ...] = ()
    """What was chosen or repaired on the way."""

    @property
    def vector(self) -> NDArray[np.float32]:
        """(F,) the vector of the only subject.

        Raises:
            UserError: where there are several.
        """
        if len(self.subject_ids) != 1:
            raise UserError(f"There are {len(self.subject_ids)} subjects here; take the rows of `features`.")
        vector: NDArray[np.float32] = self.features[0]
        return vector


def embed(
    source: str | Path,
    out: str | Path | None = None,
    *,
    model: str | Path | Model,
    lungs: str | None = None,
    lung_mask: str | Path | None = None,
    lung_weights: str | Path | None = None,
    registration: str | None = None,
    subject_id: str | None = None,
    patch_features: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> Embedded:
    """Embed every subject of a study, or one CT: a volume file or a folder with a DICOM series.

    With ``out`` it writes ``OUT.parquet`` (subject_id, feature_000 …), ``OUT.regions.zarr`` (subject, landmark,
    feature: h' of eq. 6, attributes ``subject_ids`` and ``landmarks`` in LPS mm of the atlas), with
    ``patch_features`` also ``OUT.patches.zarr`` (what the graph network was fed with), and an account.  A single CT
    is prepared as the model's training scans were, so it gets the same vector as through a study; ``lungs``,
    ``lung_mask``, ``lung_weights`` and ``registration`` change that.

    Raises:
        UserError: a study on another atlas or cut in another way than the model expects, a scan that cannot be used,
            or nobody who could be embedded.  One bad subject of a study is recorded in the account instead.
    """
    from anatograph.learning.model_folder import load_model

    source = Path(source)
    network = load_model(model) if isinstance(model, str | Path) else model
    network.to(chosen_device(device))
    if batch_size < 1:
        raise UserError(f"The batch size must be at least 1, not {batch_size}.")
    is_study = (source / "study.json").is_file()
    single = {"lungs": lungs, "lung_mask": lung_mask, "lung_weights": lung_weights, "registration": registration}
    if is_study:
        given = [name for name, value in {**single, "subject_id": subject_id}.items() if value is not None]
        if given:
            raise UserError(f"{', '.join(given)} is for a single CT; {source} is a study, preprocessed already.")
    elif not source.exists():
        raise UserError(f"{source} does not exist; give a study, a volume file or a folder with a DICOM series.")
    job: _Job
    if is_study:
        job = _StudyJob(Study.open(source), network)
    else:
        settings = _settings_for(network, lungs, registration, lung_mask is not None)
        name = _check_id(subject_id) if subject_id else _id_from(source)
        weights = Path(lung_weights) if lung_weights else None
        job = _ScanJob(source, network, settings, name, lung_mask, weights)
    if out is None:
        return _in_memory(job, network, batch_size, progress)
    told = {
        "source": str(source),
        "model": str(model) if isinstance(model, str | Path) else "in memory",
        "preprocessing": job.settings.as_dict(),
        "atlas_hash": job.atlas_hash,
        "batch_size": batch_size,
    }
    with RunAccount("embed", told, parquet_path(out)) as account:
        return _to_files(job, network, parquet_path(out), patch_features, batch_size, account, progress)


def check_compatible(model: Model, atlas_hash: str, settings: PreprocessSettings, what: str) -> None:
    """Refuse patches that the model was not made for.

    Where the lungs came from and how the atlas was laid on them may differ: they aim at the same places.

    Raises:
        UserError: another atlas, interpolation or graph, naming both.
    """
    if model.atlas is not None and model.atlas.hash != atlas_hash:
        raise UserError(
            f"{what} is on another atlas (hash {atlas_hash[:12]}) than the model (hash {model.atlas.hash[:12]}); "
            "preprocess with `--atlas MODEL/atlas`, or give the model that was trained on this atlas."
        )
    have = settings.as_dict()
    keys = ["interpolation", "graph_rule", "min_overlap" if settings.graph_rule == "overlap" else "rho"]
    differing = [
        f"{key} is {have[key]} there and {model.preprocessing[key]} in the model's training"
        for key in keys
        if key in model.preprocessing and model.preprocessing[key] != have[key]
    ]
    if differing:
        raise UserError(f"{what} was preprocessed in another way: {'; '.join(differing)}. Preprocess it anew.")


class _Job(ABC):
    """Subjects to embed, each loaded when its turn comes."""

    settings: PreprocessSettings
    atlas_hash: str
    subject_ids: list[str]
    notes: list[str]

    @abstractmethod
    def load(self, subject_id: str) -> tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.bool_]]:
        """Patches (N, P, P, P), edges (E, 2), present (N,)."""


class _StudyJob(_Job):
    def __init__(self, study: Study, model: Model) -> None:
        self.settings, self.atlas_hash = study.settings, study.atlas.hash
        check_compatible(model, self.atlas_hash, self.settings, f"The study {study.path}")
        self.subject_ids = study.subject_ids
        if not self.subject_ids:
            raise UserError(f"The study {study.path} holds no subject; run `anatograph preprocess` first.")
        self._study = study
        missing = [failure for failure in study.failures() if failure.subject_id not in study]
        self.notes = [f"{f.subject_id} is not in the study, failed at {f.stage}: {f.reason}" for f in missing]

    def load(self, subject_id: str) -> tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.bool_]]:
        subject = self._study.subject(subject_id)
        return subject.patches, subject.edges, subject.present


class _ScanJob(_Job):
    def __init__(
        self,
        source: Path,
        model: Model,
        settings: PreprocessSettings,
        subject_id: str,
        mask: str | Path | None,
        weights: Path | None,
    ) -> None:
        if model.atlas is None:
            raise UserError("The model has no atlas, so it does not know where to look in a scan; load a model folder.")
        self.settings, self.atlas_hash, self.subject_ids = settings, model.atlas.hash, [subject_id]
        self.notes = []
        self._source, self._mask, self._weights, self._atlas = source, mask, weights, model.atlas
        check_compatible(model, self.atlas_hash, settings, f"The scan {source}")

    def load(self, subject_id: str) -> tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.bool_]]:
        from anatograph.imaging.reading import read_volume
        from anatograph.study.prepare import prepare_subject

        done = prepare_subject(
            read_volume(self._source),
            self._mask,
            self._atlas,
            self.settings,
            subject_id=subject_id,
            weights=self._weights,
        )
        self.notes += [*done.notes, *(f"look at this: {flag}" for flag in done.flags)]
        return done.patches, done.edges, done.present


def _each(job: _Job, model: Model, batch_size: int, progress: Progress | None) -> Iterator[tuple[str, Embedding]]:
    for number, name in enumerate(job.subject_ids, start=1):
        patches, edges, present = job.load(name)
        yield name, model.embed(patches, edges, present, batch_size)
        if progress:
            progress(name, number, len(job.subject_ids))


def _in_memory(job: _Job, model: Model, batch_size: int, progress: Progress | None) -> Embedded:
    done = list(_each(job, model, batch_size, progress))
    return Embedded(
        [name for name, _ in done],
        np.stack([e.subject for _, e in done]),
        _landmarks(model),
        np.stack([e.nodes for _, e in done]),
        notes=tuple(job.notes),
    )


def _to_files(
    job: _Job,
    model: Model,
    table: Path,
    patch_features: bool,
    batch_size: int,
    account: RunAccount,
    progress: Progress | None,
) -> Embedded:
    shape = (len(job.subject_ids), model.landmarks, model.config.feature_size)
    about = {"landmarks": _landmarks(model).tolist(), "atlas_hash": job.atlas_hash, "frame": "LPS mm of the atlas"}
    names: list[str] = []
    features: list[NDArray[np.float32]] = []
    with ExitStack() as stack:
        kinds = {"regions": "h' (eq. 6), after the graph network", "patches": "h (eq. 4), before the graph network"}
        if not patch_features:
            del kinds["patches"]
            rmtree(beside(table, "patches"), ignore_errors=True)  # of an earlier run
        stores = {
            kind: stack.enter_context(RegionWriter(beside(table, kind), *shape, {**about, "feature": text}))
            for kind, text in kinds.items()
        }
        for number, name in enumerate(job.subject_ids, start=1):
            try:
                with account.stage("prepare"):
                    patches, edges, present = job.load(name)
                with account.stage("networks"):
                    found = model.embed(patches, edges, present, batch_size)
            except (UserError, ValueError) as error:
                if len(job.subject_ids) == 1:
                    raise
                account.fail(name, "embed", str(error))
                continue
            if not np.isfinite(found.subject).all():
                account.fail(name, "embed", "the features are no finite numbers")
                continue
            stores["regions"].write(name, found.nodes)
            if patch_features:
                stores["patches"].write(name, found.patch_features)
            names.append(name)
            features.append(found.subject)
            if progress:
                progress(name, number, len(job.subject_ids))
        if not names:
            raise UserError(f"Nobody could be embedded; the first reason: {account.failures[0].reason}")
        write_embeddings(table, names, np.stack(features))
    account.output(table)
    for kind in kinds:
        account.output(beside(table, kind))
    for note in job.notes:
        account.note(note)
    account.result(subjects=len(names), landmarks=shape[1], features=shape[2])
    return Embedded(names, np.stack(features), _landmarks(model), None, table, account, tuple(job.notes))


def _landmarks(model: Model) -> NDArray[np.float64]:
    return np.zeros((0, 3)) if model.atlas is None else np.asarray(model.atlas.landmarks, dtype=np.float64)


def _settings_for(model: Model, lungs: str | None, registration: str | None, has_mask: bool) -> PreprocessSettings:
    """How the model's training scans were prepared, with what the user asks for in its place."""
    known = set(PreprocessSettings().as_dict())
    settings = PreprocessSettings.from_dict({k: v for k, v in model.preprocessing.items() if k in known})
    if settings.lungs == "given" and not has_mask:
        settings = replace(settings, lungs="auto")
    changes: dict[str, Any] = {"lungs": lungs, "registration": registration}
    if has_mask and lungs is None:
        changes["lungs"] = "given"
    return replace(settings, **{key: value for key, value in changes.items() if value is not None})


def _id_from(source: Path) -> str:
    """A subject_id made from the name of a file or folder."""
    name = source.resolve().name
    for ending in (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd"):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:64] or "scan"


def _check_id(subject_id: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", subject_id):
        raise UserError(f"The subject-id '{subject_id}' must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return subject_id


def chosen_device(wanted: str) -> str:
    """``cpu`` or ``cuda`` for what a user asked for; ``auto`` takes a GPU where there is one. UserError otherwise."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise UserError(f"device must be auto, cpu or cuda, not {wanted!r}.")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no GPU that torch can use; leave --device out.")
    return wanted
