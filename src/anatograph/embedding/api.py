"""From one CT, a study or a cohort of scans to vectors: one per subject, one per region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from anatograph.choices import Device, LungMethod, PoolingRule, RegistrationMethod
from anatograph.embedding.cohorts import Preparation, is_cohort, study_of
from anatograph.embedding.previous import set_aside, set_aside_other
from anatograph.embedding.result import Embedded, ScanQuality
from anatograph.embedding.run import EmbedRun, landmarks_of
from anatograph.embedding.sources import ScanSource, Source, StudySource, atlas_of, check_id, settings_for
from anatograph.embedding.stream import embed_stream
from anatograph.embedding.table import parquet_path
from anatograph.embedding.worker import ahead
from anatograph.errors import UserError
from anatograph.execution.account import Failure, RunAccount
from anatograph.execution.scheduling import Workplace, ended_like_interrupted
from anatograph.learning.model.pooling import PoolingSettings
from anatograph.study.identifiers import id_from
from anatograph.study.quality.selection import usable
from anatograph.study.store import Study

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

WORKER_GB = 1.0
"""Memory of a worker that embeds; measured in docs/cohorts.md."""
ProgressCallback = Callable[[str, int, int], None]
"""Called with the finished subject, how many are finished, and the total."""


def embed(
    source: str | Path,
    out: str | Path | None = None,
    *,
    model: str | Path | Model | None = None,
    lungs: LungMethod | None = None,
    lung_mask: str | Path | None = None,
    lung_weights: str | Path | None = None,
    registration: RegistrationMethod | None = None,
    subject_id: str | None = None,
    pooling: PoolingRule | None = None,
    harmonics: int | None = None,
    patch_features: bool = False,
    batch_size: int = 64,
    device: Device = "auto",
    include_flagged: bool = False,
    no_study: bool = False,
    exclude: Sequence[str] = (),
    workers: int = 1,
    scheduler: str | None = None,
    worker_memory: float | None = None,
    progress: ProgressCallback | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Embedded:
    """Embed one CT (a volume file or a folder with a DICOM series), a study, a cohort table or a folder of scans.

    With ``out`` it writes ``OUT.parquet`` (subject_id, feature_000 …), ``OUT.regions.zarr`` (subject, landmark,
    feature: h' of eq. 6, attributes ``subject_ids``, ``landmarks`` in LPS mm of the atlas, and where the model has one
    the ``whitening`` by which h' was multiplied), with ``patch_features`` also ``OUT.patches.zarr`` (what the graph
    network was fed with), and an account.  A scan is prepared as the model's training scans were, so it gets the
    same vector alone, in a cohort and through a study; ``lungs``, ``lung_mask``, ``lung_weights`` and ``registration``
    change that.  Of a cohort or a folder the study ``OUT.study`` is made first; scans that cannot be used are listed in
    the account.

    Patches of several subjects share batches; a subject's vector does not depend on other subjects, on ``workers`` or
    on ``scheduler``, bit for bit on one kind of machine.  Stopped at any moment, the same call
    resumes, and several runs share the work.

    Args:
        source: a volume file, a folder with a DICOM series, a study, a cohort table, or a folder with volume files or
            with a DICOM subfolder for each scan.
        out: ``OUT`` of the files; nothing is written if not given.
        model: a model folder, the name of a shipped release, or a model; the release that ships with the package if
            not given.
        lungs: where the lungs come from; not for a study.
        lung_mask: for one CT, its lungs.
        lung_weights: weights of a lung network; not for a study.
        registration: how the atlas is registered; not for a study.
        subject_id: for one CT, its name.
        pooling: how regions become a subject's vector; as the model says by default.
        harmonics: parts of the vector where the pooling is harmonics; as the model says by default.
        patch_features: whether to write ``OUT.patches.zarr`` too.
        batch_size: patches at a time.
        device: ``auto``, ``cpu`` or ``cuda``.
        include_flagged: whether to embed scans at quality level ``reject`` too, which are left out otherwise; those
            that a study's ``review.csv`` excludes or that its cohort table no longer lists are always left out.  One CT
            is embedded at any level, and ``quality`` and the notes say what is wrong with it.
        exclude: scans of a study, a cohort or a folder that are left out; of a cohort or folder they are not even
            preprocessed.
        no_study: of a cohort or a folder, whether to keep the vectors only, not the study.
        workers: local processes of one thread each; not for one CT; with ``out``, and not for a model in memory.
        scheduler: a dask scheduler's address or scheduler file, to work on instead.
        worker_memory: GB of memory to expect of a worker.
        progress: called with each subject that is done.
        say: called with notices while it runs.

    Raises:
        UserError: no model given and none shipped, a study on another atlas or cut differently from the model's
            expects, a scan that cannot be used, or no subject that could be embedded.  One bad subject of several is
            recorded in the account instead.
    """
    from anatograph.learning.model.folder import load_model
    from anatograph.learning.releases.resolve import resolve_model

    source = Path(source)
    folder = resolve_model(model).resolve() if model is None or isinstance(model, str | Path) else None
    network = load_model(folder) if folder is not None else cast("Model", model)
    usual = network.pooling_settings
    if pooling is not None or harmonics is not None:
        network = copy(network)  # the caller's model keeps its own
        network.pooling_settings = PoolingSettings(pooling or usual.rule, harmonics or usual.harmonics)
    chosen = chosen_device(device)
    network.to(chosen)
    if batch_size < 1:
        raise UserError(f"The batch size must be at least 1, not {batch_size}.")
    if not source.exists():
        raise UserError(
            f"{source} does not exist; give a study, a cohort table, a folder of scans, a volume file or a folder with "
            "a DICOM series."
        )
    is_study = (source / "study.json").is_file()
    several = is_study or is_cohort(source)
    if exclude and not several:
        raise UserError(f"--exclude is for a study or a cohort of scans; {source} is a single CT.")
    for_one = {"lung_mask": lung_mask, "subject_id": subject_id}
    for_scans = {"lungs": lungs, "lung_weights": lung_weights, "registration": registration}
    if several:
        given = [name for name, value in {**for_one, **(for_scans if is_study else {})}.items() if value is not None]
        if given:
            what = "a study, preprocessed already" if is_study else "a cohort of scans"
            raise UserError(f"{', '.join(given)} is for a single CT; {source} is {what}.")
    if (workers != 1 or scheduler is not None) and not (several and out is not None and folder is not None):
        raise UserError("Workers and a scheduler are for a study or a cohort, with OUT and a model folder.")
    unfinished = f"{network.unfinished}; embed again when `anatograph pretrain` has finished"
    if network.unfinished:
        say(unfinished)
    weights = Path(lung_weights) if lung_weights else None
    prepared = settings_for(network, lungs, registration, lung_mask is not None)
    failures: list[Failure] = []
    with ExitStack() as stack:
        found: Source
        study = source if is_study else None
        if several and study is None:
            how = Preparation(atlas_of(network), prepared, weights, workers, scheduler, worker_memory,
                              progress is not None)  # fmt: skip
            made = stack.enter_context(study_of(source, out, not no_study, how, exclude))
            study, failures = made.path, made.account.failures
        if study is not None:
            opened, selection = usable(Study.open(study), include_flagged, exclude)
            found = StudySource(opened, network, say_missing=is_study or out is None)
            found.notes += selection.notes
        else:
            name = check_id(subject_id) if subject_id else id_from(source)
            found = ScanSource(source, network, prepared, name, lung_mask, weights)
        if network.unfinished:
            found.notes.append(unfinished)
        if out is None:
            return _in_memory(found, network, batch_size, progress)
        kept = study if is_study or not no_study else None
        if kept is not None and not is_study:
            found.notes.append(f"the study is {kept}; --no-study keeps the vectors only")
        settings = {
            "source": str(source.absolute()),
            "study": str(kept.resolve()) if kept is not None else None,
            "include_flagged": include_flagged,
            "exclude": list(exclude),
            "model": str(folder) if folder is not None else "in memory",
            "release": network.release or None,
            "preprocessing": found.settings.to_dict(),
            "atlas_hash": found.atlas_hash,
            "pooling": asdict(network.pooling_settings),
            "batch_size": batch_size,
            "workers": workers,
            "scheduler": scheduler,
        }
        old = parquet_path(out)
        if (moved := set_aside_other(old, source, kept) if several else set_aside(old, found)) is not None:
            found.notes.append(moved)
            say(moved)
        place = Workplace.choose(workers, scheduler, len(found.subject_ids), worker_memory or WORKER_GB)
        with RunAccount("embed", settings, parquet_path(out)) as account, ended_like_interrupted():
            for sentence in place.notes:
                account.note(sentence)
                say(sentence)
            run = EmbedRun(found, network, folder, parquet_path(out), patch_features, batch_size, chosen, account)
            names, features = run.work(place, progress, say)
            for failure in failures:
                account.fail(failure.subject_id, failure.stage, failure.reason)
            for note in found.notes:
                account.note(note)
    table = None if account.stopped else parquet_path(out)
    landmarks, quality = _of_one(found, network)
    return Embedded(names, features, landmarks, None, table, account, tuple(found.notes), quality, kept)


def _in_memory(source: Source, model: Model, batch_size: int, progress: ProgressCallback | None) -> Embedded:
    done = []
    for name, found in embed_stream(model, ahead(map(source.load, source.subject_ids)), batch_size):
        done.append((name, found))
        if progress:
            progress(name, len(done), len(source.subject_ids))
    regions = np.stack([e.nodes for _, e in done])
    landmarks, quality = _of_one(source, model)
    return Embedded(
        [name for name, _ in done],
        np.stack([e.subject for _, e in done]),
        landmarks,
        regions[0] if isinstance(source, ScanSource) else regions,
        notes=tuple(source.notes),
        quality=quality,
    )


def _of_one(source: Source, model: Model) -> tuple[NDArray[np.float64], ScanQuality | None]:
    """Where the regions lie, and the quality of the scan where there is only one."""
    if isinstance(source, ScanSource):
        return source.landmarks, source.quality
    return landmarks_of(model), None


def chosen_device(wanted: str) -> str:
    """``cpu`` or ``cuda`` for the user's choice; ``auto`` takes a GPU where there is one. UserError otherwise."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise UserError(f"device must be auto, cpu or cuda, not {wanted!r}.")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("torch finds no usable GPU; leave --device out.")
    return wanted
