"""From a study, or from one CT without a study, to vectors: one a subject, one a region."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anatograph.choices import Device, LungMethod, PoolingRule, RegistrationMethod
from anatograph.embedding.previous import set_aside
from anatograph.embedding.run import EmbedRun, landmarks_of
from anatograph.embedding.sources import ScanSource, Source, StudySource, check_id, id_from, settings_for
from anatograph.embedding.stream import embed_stream
from anatograph.embedding.table import parquet_path
from anatograph.embedding.worker import ahead
from anatograph.errors import UserError
from anatograph.execution.account import RunAccount
from anatograph.execution.scheduling import Workplace, ended_like_interrupted
from anatograph.learning.model.pooling import PoolingSettings
from anatograph.study.quality.selection import usable
from anatograph.study.store import Study

if TYPE_CHECKING:
    from anatograph.learning.model.embedding_model import Model

WORKER_GB = 1.0
"""Memory of a worker that embeds; measured in docs/cohorts.md."""
ProgressCallback = Callable[[str, int, int], None]
"""Called with the finished subject, how many are finished, and the total."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """Vectors of one or many subjects."""

    subject_ids: list[str]
    """(n,) their ids."""
    features: NDArray[np.float32]
    """(n, M · F) a vector each, S' of the paper: the mean over the regions, and further parts that say where."""
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
    """What was chosen or repaired."""

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
    workers: int = 1,
    scheduler: str | None = None,
    worker_memory: float | None = None,
    progress: ProgressCallback | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Embedded:
    """Embed every subject of a study, or one CT: a volume file or a folder with a DICOM series.

    With ``out`` it writes ``OUT.parquet`` (subject_id, feature_000 …), ``OUT.regions.zarr`` (subject, landmark,
    feature: h' of eq. 6, attributes ``subject_ids``, ``landmarks`` in LPS mm of the atlas, and where the model has one
    the ``whitening`` by which h' was multiplied), with ``patch_features`` also ``OUT.patches.zarr`` (what the graph
    network was fed with), and an account.  A single CT is prepared as the model's training scans were, so it gets the
    same vector as through a study; ``lungs``, ``lung_mask``, ``lung_weights`` and ``registration`` change that.

    Patches of several subjects share batches; a subject's vector does not depend on other subjects, on ``workers`` or
    on ``scheduler``, bit for bit on one kind of machine.  Stopped at any moment, the same call
    resumes, and several runs share the work.

    Args:
        source: a study, a volume file or a folder with a DICOM series.
        out: ``OUT`` of the files; nothing is written if not given.
        model: a model folder, or a model.
        lungs: for one CT, where its lungs come from.
        lung_mask: for one CT, its lungs.
        lung_weights: for one CT, weights of a lung network.
        registration: for one CT, how the atlas is registered.
        subject_id: for one CT, its name.
        pooling: how regions become a subject's vector; as the model says by default.
        harmonics: parts of the vector where the pooling is harmonics; as the model says by default.
        patch_features: whether to write ``OUT.patches.zarr`` too.
        batch_size: patches at a time.
        device: ``auto``, ``cpu`` or ``cuda``.
        include_flagged: of a study, whether to embed scans at quality level ``reject`` too, which are left out
            otherwise; those that its ``review.csv`` excludes are always left out.  One CT is embedded at any level,
            and the notes say what is wrong with it.
        workers: local processes of one thread each; for a study and a model folder, with ``out``.
        scheduler: a dask scheduler's address or scheduler file, to work on instead.
        worker_memory: GB of memory to expect of a worker.
        progress: called with each subject that is done.
        say: called with notices while it runs.

    Raises:
        UserError: a study on another atlas or cut in another way than the model expects, a scan that cannot be used,
            or no subject that could be embedded.  One bad subject of a study is recorded in the account instead.
    """
    from anatograph.learning.model.folder import load_model

    source = Path(source)
    network = load_model(model) if isinstance(model, str | Path) else model
    usual = network.pooling_settings
    if pooling is not None or harmonics is not None:
        network = copy(network)  # the caller's model keeps its own
        network.pooling_settings = PoolingSettings(pooling or usual.rule, harmonics or usual.harmonics)
    chosen = chosen_device(device)
    network.to(chosen)
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
    if (workers != 1 or scheduler is not None) and not (is_study and out is not None and isinstance(model, str | Path)):
        raise UserError("Workers and a scheduler are for a study, with OUT and a model folder.")
    found: Source
    if is_study:
        opened, selection = usable(Study.open(source), include_flagged)
        found = StudySource(opened, network)
        found.notes += selection.notes
    else:
        prepared = settings_for(network, lungs, registration, lung_mask is not None)
        name = check_id(subject_id) if subject_id else id_from(source)
        weights = Path(lung_weights) if lung_weights else None
        found = ScanSource(source, network, prepared, name, lung_mask, weights)
    if network.unfinished:
        found.notes.append(f"{network.unfinished}; embed again when `anatograph pretrain` has finished")
        say(found.notes[-1])
    if out is None:
        return _in_memory(found, network, batch_size, progress)
    settings = {
        "source": str(source),
        "study": str(source.resolve()) if is_study else None,
        "include_flagged": include_flagged,
        "model": str(model) if isinstance(model, str | Path) else "in memory",
        "preprocessing": found.settings.to_dict(),
        "atlas_hash": found.atlas_hash,
        "pooling": asdict(network.pooling_settings),
        "batch_size": batch_size,
        "workers": workers,
        "scheduler": scheduler,
    }
    if not is_study and (moved := set_aside(parquet_path(out), found)) is not None:
        found.notes.append(moved)
        say(moved)
    folder = Path(model).resolve() if isinstance(model, str | Path) else None
    place = Workplace.choose(workers, scheduler, len(found.subject_ids), worker_memory or WORKER_GB)
    with RunAccount("embed", settings, parquet_path(out)) as account, ended_like_interrupted():
        for sentence in place.notes:
            account.note(sentence)
            say(sentence)
        run = EmbedRun(found, network, folder, parquet_path(out), patch_features, batch_size, chosen, account)
        names, features = run.work(place, progress, say)
        for note in found.notes:
            account.note(note)
    table = None if account.stopped else parquet_path(out)
    return Embedded(names, features, landmarks_of(network), None, table, account, tuple(found.notes))


def _in_memory(source: Source, model: Model, batch_size: int, progress: ProgressCallback | None) -> Embedded:
    done = []
    for name, found in embed_stream(model, ahead(map(source.load, source.subject_ids)), batch_size):
        done.append((name, found))
        if progress:
            progress(name, len(done), len(source.subject_ids))
    return Embedded(
        [name for name, _ in done],
        np.stack([e.subject for _, e in done]),
        landmarks_of(model),
        np.stack([e.nodes for _, e in done]),
        notes=tuple(source.notes),
    )


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
